"""Writing without the `iroh` package's byte-by-byte copy.

The package's generated code (UniFFI before 0.32) puts a payload into a Rust buffer one byte at a
time, which costs 97 % of a transfer. The call itself is fine, so :func:`write_all` makes the same
one and fills the buffer with one `memmove`. It leans on private names of the generated module, so
it is used only where they are all there and the UniFFI contract is the one they were written for;
anywhere else the package's own method is called.
"""

from __future__ import annotations

import ctypes
from collections.abc import Awaitable, Callable
from typing import Any

from iroh import SendStream, iroh_ffi

__all__ = ["FAST_COPY", "write_all"]

_CONTRACT = 30


async def _write_all(stream: SendStream, data: bytes) -> None:
    size = len(data)
    generated: Any = iroh_ffi
    handle: Any = stream
    buffer = generated._UniffiRustBuffer.alloc(4 + size)
    # The wire form of bytes: a big-endian 32-bit length, then the bytes.
    start = ctypes.addressof(buffer.data.contents)
    ctypes.memmove(start, size.to_bytes(4, "big"), 4)
    ctypes.memmove(start + 4, data, size)
    buffer.len = 4 + size
    lib = generated._UniffiLib
    await generated._uniffi_rust_call_async(
        lib.uniffi_iroh_ffi_fn_method_sendstream_write_all(handle._uniffi_clone_handle(), buffer),
        lib.ffi_iroh_ffi_rust_future_poll_void,
        lib.ffi_iroh_ffi_rust_future_complete_void,
        lib.ffi_iroh_ffi_rust_future_free_void,
        _nothing,
        generated._UniffiFfiConverterTypeIrohError__as_error,
    )


def _nothing(_: object) -> None:
    return None


def _usable() -> bool:
    names = (
        "_UniffiRustBuffer",
        "_uniffi_rust_call_async",
        "_UniffiFfiConverterTypeIrohError__as_error",
    )
    calls = (
        "uniffi_iroh_ffi_fn_method_sendstream_write_all",
        "ffi_iroh_ffi_rust_future_poll_void",
        "ffi_iroh_ffi_rust_future_complete_void",
        "ffi_iroh_ffi_rust_future_free_void",
    )
    lib = getattr(iroh_ffi, "_UniffiLib", None)
    if not all(hasattr(iroh_ffi, name) for name in names) or not all(hasattr(lib, call) for call in calls):
        return False
    return bool(iroh_ffi._UniffiLib.ffi_iroh_ffi_uniffi_contract_version() == _CONTRACT)


FAST_COPY = _usable()
"""Whether the copy is avoided here."""

write_all: Callable[[SendStream, bytes], Awaitable[None]] = _write_all if FAST_COPY else SendStream.write_all
"""Writes all of the bytes to a stream; as `SendStream.write_all`, only faster."""
