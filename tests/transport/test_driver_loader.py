"""When the native driver is used, and when the package's own calls are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from iroh import iroh_ffi

from iroh_moq.extension import NO_EXTENSION
from iroh_moq.transport import driver as loader
from iroh_moq.transport import iroh as iroh_module
from iroh_moq.transport.iroh_native import NativeTransport
from iroh_moq.transport.iroh_package import PackageTransport
from tests.transport.contract import closing
from tests.transport.ends import connections, needs_driver
from tests.transport.programs import run_python

LIBRARY: Any = iroh_ffi._UniffiLib
CONTRACT = "ffi_iroh_ffi_uniffi_contract_version"
READ = "uniffi_iroh_ffi_checksum_method_recvstream_read"


class Library:
    """The loaded library, but for one function, or without it."""

    def __init__(self, name: str, function: Callable[[], int] | None) -> None:
        self._name = name
        self._function = function

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(LIBRARY, name)
        if self._function is None:
            raise AttributeError(f"undefined symbol: {name}")
        return self._function


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NO_EXTENSION, raising=False)


class TestWithoutTheExtension:
    @pytest.mark.parametrize("value", ["1", "yes", "00"])
    def test_the_environment_turns_it_off(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(NO_EXTENSION, value)
        found = loader.load()
        assert found.module is None
        assert found.reason == "IROH_MOQ_NO_EXTENSION is set"

    def test_nothing_was_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # None is how Python remembers that there is no such module.
        monkeypatch.setitem(sys.modules, "iroh_moq.transport._driver", None)
        found = loader.load()
        assert found.module is None
        assert found.reason.startswith("the extension is not there: ")
        assert "_driver" in found.reason


@needs_driver
class TestAnotherLibrary:
    @pytest.mark.parametrize("value", ["", "0"])
    def test_that_of_this_driver_is_used(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(NO_EXTENSION, value)
        found = loader.load()
        assert found.module is importlib.import_module("iroh_moq.transport._driver")
        assert found.reason == "in use"

    @pytest.mark.parametrize(
        ("name", "function", "reason"),
        [
            (CONTRACT, lambda: 31, "the iroh library follows UniFFI contract 31, the driver knows 30"),
            (CONTRACT, None, f"the iroh library lacks a function: undefined symbol: {CONTRACT}"),
            (READ, lambda: 1, "the iroh library has another recvstream_read than the driver was written for"),
            (READ, None, f"the iroh library lacks a function: undefined symbol: {READ}"),
        ],
    )
    def test_one_of_other_conventions_is_not(
        self, name: str, function: Callable[[], int] | None, reason: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(iroh_ffi, "_UniffiLib", Library(name, function))
        found = loader.load()
        assert found.module is None
        assert found.reason == reason

    def test_each_function_and_each_checksum_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module: Any = loader.driver.module
        methods = {name.partition("_fn_method_")[2] for name in module.FUNCTIONS} - {""}
        assert methods == set(module.CHECKSUMS)
        for name in module.FUNCTIONS:
            monkeypatch.setattr(iroh_ffi, "_UniffiLib", Library(name, None))
            assert loader.load().reason == f"the iroh library lacks a function: undefined symbol: {name}"
        for method, checksum in module.CHECKSUMS.items():
            name = f"uniffi_iroh_ffi_checksum_method_{method}"
            monkeypatch.setattr(iroh_ffi, "_UniffiLib", Library(name, partial(int, checksum ^ 1)))
            assert loader.load().module is None

    def test_a_package_without_a_library_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(iroh_ffi, "_UniffiLib")
        found = loader.load()
        assert found.module is None
        assert "lacks a function" in found.reason

    def test_too_few_addresses_are_refused(self) -> None:
        module: Any = loader.driver.module
        with pytest.raises(ValueError, match="1 addresses"):
            module.bind([0])


async def test_the_transport_is_what_the_loader_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in {loader.driver.module, None}:
        monkeypatch.setattr(iroh_module, "driver", SimpleNamespace(module=module))
        async with connections() as (first, second):
            pair = iroh_module.iroh_transport(first), iroh_module.iroh_transport(second)
            async with closing(*pair):
                for transport in pair:
                    assert isinstance(transport, PackageTransport if module is None else NativeTransport)


PROGRAM = """
import asyncio
from iroh_moq import BroadcastProducer, Moq
from iroh_moq.transport.driver import driver

async def main():
    async with await Moq.bind(network="loopback") as first, await Moq.bind(network="loopback") as second:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video")
        await first.publish("cam", broadcast)
        session = await second.connect(first.ticket())
        reader = (await session.subscribe("cam")).subscribe_track("video")
        track.write_frame(b"frame")
        print(await asyncio.wait_for(reader.read_frame(), 15))

print(driver.reason)
asyncio.run(main())
"""


@pytest.mark.parametrize("value", ["1", pytest.param("0", marks=needs_driver), pytest.param("", marks=needs_driver)])
def test_a_program_runs_either_way(value: str) -> None:
    ended = run_python(PROGRAM, "-X", "dev", IROH_MOQ_NO_EXTENSION=value)
    reason = "IROH_MOQ_NO_EXTENSION is set" if value == "1" else "in use"
    assert (ended.stdout.splitlines(), ended.stderr, ended.returncode) == ([reason, "b'frame'"], "", 0)
