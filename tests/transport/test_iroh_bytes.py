"""The write without the package's slow copy does what the package's own does, and is left where it cannot."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from iroh import IrohError, SendStream, iroh_ffi

from iroh_moq.transport import iroh_bytes
from tests.transport.contract import soon
from tests.transport.ends import connections

WAYS = [iroh_bytes.write_all, SendStream.write_all]


@pytest.fixture
def _reloaded() -> Iterator[None]:
    """The module is made again for those that come after, with everything as it was."""
    yield
    importlib.reload(iroh_bytes)


def test_it_is_used_with_the_package_that_is_installed() -> None:
    assert iroh_bytes.FAST_COPY
    assert iroh_bytes.write_all is not SendStream.write_all


@pytest.mark.parametrize("write_all", WAYS, ids=["ours", "the package's"])
@pytest.mark.parametrize("size", [0, 1, 63, 4096, 100_000])
async def test_every_byte_arrives(write_all: Any, size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(size))
    async with connections() as (first, second):
        send = await soon(first.open_uni())
        await soon(write_all(send, b">"))
        await soon(write_all(send, data))
        await soon(send.finish())
        recv = await soon(second.accept_uni())
        assert await soon(recv.read_to_end(200_000)) == b">" + data
        first.close(0, b"")


@pytest.mark.parametrize("write_all", WAYS, ids=["ours", "the package's"])
async def test_an_error_is_the_packages_own(write_all: Any) -> None:
    async with connections() as (first, _):
        send = await soon(first.open_uni())
        first.close(0, b"")
        with pytest.raises(IrohError) as caught:
            await soon(write_all(send, b"x"))
        assert "LocallyClosed" in caught.value.message()


@pytest.mark.parametrize(
    "name", ["_UniffiRustBuffer", "_uniffi_rust_call_async", "_UniffiFfiConverterTypeIrohError__as_error", "_UniffiLib"]
)
@pytest.mark.usefixtures("_reloaded")
def test_a_package_without_what_it_leans_on_is_used_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(iroh_ffi, name)
        again: Any = importlib.reload(iroh_bytes)
        assert not again.FAST_COPY
        assert again.write_all is SendStream.write_all


@pytest.mark.usefixtures("_reloaded")
def test_so_is_one_with_another_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(iroh_ffi._UniffiLib, "ffi_iroh_ffi_uniffi_contract_version", lambda: 31)
        again: Any = importlib.reload(iroh_bytes)
        assert again.write_all is SendStream.write_all
