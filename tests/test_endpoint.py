from __future__ import annotations

import asyncio
import gc
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from iroh import Endpoint, SecretKey

from iroh_moq import ConnectError, InvalidArgument, InvalidType, Moq
from iroh_moq import endpoint as module
from iroh_moq.endpoint import KEY_SIZE, bind_endpoint, load_or_create_key
from tests.endpoints import bound, free_address

KEY = bytes(range(KEY_SIZE))

posix = pytest.mark.skipif(os.name != "posix", reason="the modes of files are those of POSIX")


def key_file(path: Path, text: str = KEY.hex()) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@asynccontextmanager
async def endpoint(
    network: str = "loopback", key: Any = None, addresses: tuple[str, ...] = (), relays: Any = None
) -> AsyncIterator[Endpoint]:
    made = await bind_endpoint(network, key, addresses, relays)
    try:
        yield made
    finally:
        await made.close()


def is_free(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def hosts(endpoint: Endpoint) -> set[str]:
    """The addresses it is bound to, without their ports."""
    return {bound.rsplit(":", 1)[0] for bound in endpoint.bound_sockets()}


class TestKeyFile:
    def test_is_made_where_it_is_missing_and_read_the_next_time(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "key"
        key = load_or_create_key(path)
        assert len(key) == KEY_SIZE
        assert path.read_text() == key.hex() + "\n"
        assert load_or_create_key(str(path)) == key
        assert load_or_create_key(tmp_path / "other") != key

    @posix
    def test_is_its_owners_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            load_or_create_key(tmp_path / "key")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600

    @posix
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
    def test_is_refused_if_others_can_use_it(self, tmp_path: Path, mode: int) -> None:
        path = key_file(tmp_path / "key")
        path.chmod(mode)
        with pytest.raises(InvalidArgument, match=r"others can read .*key: run chmod 600"):
            load_or_create_key(path)

    @pytest.mark.parametrize("text", [KEY.hex() + "\n", f"  {KEY.hex().upper()}\r\n"])
    def test_white_space_and_case_do_not_matter(self, tmp_path: Path, text: str) -> None:
        assert load_or_create_key(key_file(tmp_path / "key", text)) == KEY

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "holds 0 bytes, not a secret key of 32"),
            (KEY.hex()[:-2], "holds 31 bytes"),
            (KEY.hex() + "00", "holds 33 bytes"),
            (KEY.hex()[:-1], "holds no secret key"),
            ("not hex at all", "holds no secret key"),
            ("ключ" * 16, "holds no secret key"),
        ],
    )
    def test_a_broken_one_is_named_and_left_as_it_is(self, tmp_path: Path, text: str, complaint: str) -> None:
        path = key_file(tmp_path / "key", text)
        with pytest.raises(InvalidArgument, match=complaint) as caught:
            load_or_create_key(path)
        assert str(path) in str(caught.value)
        # What may be a secret is not shown.
        assert not text or text not in str(caught.value)
        assert path.read_text() == text

    def test_one_that_is_not_text(self, tmp_path: Path) -> None:
        path = key_file(tmp_path / "key")
        path.write_bytes(b"\xff\xfe" + KEY)
        with pytest.raises(InvalidArgument, match="holds no secret key"):
            load_or_create_key(path)

    def test_one_that_cannot_be_read_or_made(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="directory"):
            load_or_create_key(tmp_path)
        key_file(tmp_path / "file")
        with pytest.raises(OSError, match="file"):
            load_or_create_key(tmp_path / "file" / "key")

    def test_a_key_that_came_meanwhile_is_never_overwritten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "key"

        class Slow:
            """By the time its key is there, another process has written one."""

            @staticmethod
            def generate() -> Any:
                key_file(path)
                return SecretKey.generate()

        monkeypatch.setattr(module, "SecretKey", Slow)
        with pytest.raises(FileExistsError):
            load_or_create_key(path)
        assert load_or_create_key(path) == KEY

    async def test_an_endpoint_keeps_its_id_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        async with bound(key_file=path) as moq:
            first = str(moq.id())
        async with bound(key_file=path) as moq:
            assert str(moq.id()) == first
        async with bound(key=load_or_create_key(path)) as moq:
            assert str(moq.id()) == first
        async with bound() as moq:
            assert str(moq.id()) != first

    async def test_a_key_and_a_file_for_it_are_one_too_many(self, tmp_path: Path) -> None:
        moq = None
        with pytest.raises(InvalidArgument, match="key or key_file, not both"):
            moq = await Moq.bind(network="loopback", key=KEY, key_file=tmp_path / "key")
        assert moq is None
        assert not (tmp_path / "key").exists()


class TestNetworks:
    async def test_loopback_is_this_machine_alone(self) -> None:
        async with endpoint("loopback") as made:
            assert "127.0.0.1" in hosts(made)
            assert hosts(made) <= {"127.0.0.1", "[::1]"}
            assert made.addr().relay_url() is None

    async def test_a_machine_without_ipv6_has_the_first_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # From the block for documentation, which no machine has.
        monkeypatch.setitem(module._ADDRESSES, "loopback", ("127.0.0.1:0", "[2001:db8::1]:0"))
        async with endpoint("loopback") as made:
            assert "127.0.0.1" in hosts(made)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"addresses": "127.0.0.1:0"},
            {"addresses": [5]},
            {"addresses": 5},
            {"key_file": 5},
            {"authorize": 5},
            {"alpns": None},
            {"alpns": 5},
        ],
        ids=repr,
    )
    async def test_arguments_of_the_wrong_type(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidType):
            await Moq.bind(**{"network": "loopback", **wrong})

    async def test_what_is_wrong_is_said_before_anything_is_bound(self) -> None:
        address = free_address()
        with pytest.raises(InvalidType):
            await Moq.bind(network="loopback", authorize=5, addresses=[address])  # type: ignore[arg-type]
        assert is_free(address)

    @pytest.mark.parametrize("times", [1, 2])
    async def test_one_that_is_cancelled_leaves_nothing_bound(self, times: int) -> None:
        address = free_address()
        binding = asyncio.ensure_future(bind_endpoint("loopback", None, [address], None))
        for _ in range(times):
            await asyncio.sleep(0)
            binding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await binding
        del binding
        gc.collect()
        assert is_free(address)

    async def test_one_that_is_cancelled_and_cannot_be_bound(self) -> None:
        async with endpoint(addresses=("127.0.0.1:0",)) as first:
            taken = next(address for address in first.bound_sockets() if address.startswith("127."))
            binding = asyncio.ensure_future(bind_endpoint("loopback", None, [taken], None))
            await asyncio.sleep(0)
            binding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await binding

    async def test_lan_has_no_relay(self) -> None:
        async with endpoint("lan") as made:
            assert made.bound_sockets()
            assert made.addr().relay_url() is None

    async def test_addresses_of_the_callers_choice(self) -> None:
        async with endpoint("lan", addresses=("127.0.0.1:0",)) as made:
            assert "127.0.0.1" in hosts(made)
            assert "0.0.0.0" not in hosts(made)

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
    async def test_loopback_stays_so_with_an_address_of_one_ip_version(self, address: str) -> None:
        async with endpoint(addresses=(address,)) as made:
            assert hosts(made) <= {"127.0.0.1", "[::1]"}

    @pytest.mark.parametrize("network", ["lan", "loopback"])
    async def test_an_address_that_cannot_be_bound(self, network: str) -> None:
        # From the block for documentation, which no machine has.
        with pytest.raises(ConnectError, match=r"cannot bind to 192\.0\.2\.1:0"):
            async with endpoint(network, addresses=("192.0.2.1:0",)):
                pass

    async def test_two_addresses_of_one_ip_version(self) -> None:
        with pytest.raises(InvalidArgument, match="single default address"):
            async with endpoint(addresses=("127.0.0.1:0", "127.0.0.2:0")):
                pass

    @pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "\udcff"])
    async def test_an_address_that_is_none(self, address: str) -> None:
        with pytest.raises(InvalidArgument, match="cannot be used"):
            async with endpoint(addresses=(address,)):
                pass

    @pytest.mark.parametrize("network", ["", "wan", None])
    async def test_a_network_that_is_none(self, network: Any) -> None:
        with pytest.raises(InvalidArgument, match="one of internet, lan, loopback"):
            async with endpoint(network):
                pass

    @pytest.mark.parametrize("network", ["lan", "loopback"])
    async def test_relays_are_for_the_internet(self, network: str) -> None:
        with pytest.raises(InvalidArgument, match="relays need the network 'internet'"):
            async with endpoint(network, relays=["https://relay.invalid"]):
                pass

    @pytest.mark.parametrize(
        ("key", "error"),
        [(KEY[:-1], InvalidArgument), (KEY + b"\0", InvalidArgument), (b"", InvalidArgument), (KEY.hex(), InvalidType)],
    )
    async def test_a_key_that_is_none(self, key: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="key must"):
            async with endpoint(key=key):
                pass
