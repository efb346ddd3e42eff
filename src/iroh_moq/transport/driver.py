"""Whether the native driver can be used here, and if not, why.

It calls the C functions of the library that the `iroh` package has loaded, so it must have been
compiled, and the library be one whose functions are those it was written for: UniFFI keeps a
version of its conventions and a checksum of each method for that.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iroh import iroh_ffi

from ..extension import NO_EXTENSION, is_turned_off

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Driver", "driver", "load"]


@dataclass(frozen=True, slots=True)
class Driver:
    """The outcome: the compiled module, or None, and a few words for people."""

    module: ModuleType | None
    reason: str


def load() -> Driver:
    """Looks for the driver and gives it the addresses of the library's functions."""
    if is_turned_off():
        return Driver(None, f"{NO_EXTENSION} is set")
    try:
        module: Any = importlib.import_module("._driver", __package__)
    except ImportError as error:
        return Driver(None, f"the extension is not there: {error}")
    library: Any = getattr(iroh_ffi, "_UniffiLib", None)
    if complaint := _complaint(library, module):
        return Driver(None, complaint)
    module.bind([_address(library, name) for name in module.FUNCTIONS])
    return Driver(module, "in use")


def _complaint(library: Any, module: Any) -> str | None:
    """Why the library is not one that the driver was written for, if it is not."""
    try:
        contract = library.ffi_iroh_ffi_uniffi_contract_version()
        if contract != module.CONTRACT:
            return f"the iroh library follows UniFFI contract {contract}, the driver knows {module.CONTRACT}"
        for method, known in module.CHECKSUMS.items():
            checksum = getattr(library, f"uniffi_iroh_ffi_checksum_method_{method}")()
            if checksum != known:
                return f"the iroh library has another {method} than the driver was written for"
        for name in module.FUNCTIONS:
            _address(library, name)
    except AttributeError as error:
        return f"the iroh library lacks a function: {error}"
    return None


def _address(library: Any, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


driver = load()
"""What was found when this was imported."""
