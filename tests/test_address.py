from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from iroh import EndpointAddr, EndpointId, IrohError, SecretKey

from iroh_moq import ALPN, ConnectError, InvalidArgument, InvalidType
from iroh_moq.address import dial, parse_remote, ticket_of
from tests.endpoints import PATIENCE, bare_endpoint, refuse_next

ID = SecretKey.from_bytes(bytes(range(32))).public()


class TestParsing:
    def test_an_address_is_itself(self) -> None:
        address = EndpointAddr(ID, None, ["127.0.0.1:7"])
        assert parse_remote(address) is address

    @pytest.mark.parametrize("remote", [ID, str(ID), f"  {ID}\n"])
    def test_an_id_is_an_address_without_a_place(self, remote: EndpointId | str) -> None:
        address = parse_remote(remote)
        assert address.id() == ID
        assert address.relay_url() is None
        assert address.direct_addresses() == []

    async def test_a_ticket_says_who_and_where(self) -> None:
        async with bare_endpoint() as endpoint:
            ticket = ticket_of(endpoint)
            for text in (ticket, f"\t{ticket}\n"):
                address = parse_remote(text)
                assert address.id() == endpoint.id()
                assert address.direct_addresses() == endpoint.addr().direct_addresses() != []

    @pytest.mark.parametrize(
        "text", ["", " ", "nonsense", "endpoint", "endpointaaaa", "ff" * 31, "zz" * 32, "é", "\udcff"]
    )
    def test_other_texts_are_refused_and_shown(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match=r"neither a ticket|not a whole ticket") as caught:
            parse_remote(text)
        assert repr(text.strip()[:40])[1:-1] in str(caught.value)

    def test_a_long_text_is_shown_in_part(self) -> None:
        with pytest.raises(InvalidArgument) as caught:
            parse_remote("x" * 10_000)
        assert "'" + "x" * 40 + "…'" in str(caught.value)
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("remote", [None, 42, b"endpoint", object()])
    def test_other_types_are_named(self, remote: Any) -> None:
        with pytest.raises(InvalidType, match=f"not {type(remote).__name__}"):
            parse_remote(remote)


class TestDialling:
    async def test_a_peer_that_speaks_another_protocol(self) -> None:
        async with bare_endpoint() as here, bare_endpoint(alpns=(b"other",)) as there:
            serving = asyncio.ensure_future(_take(there))
            with pytest.raises(ConnectError, match=f"peer {there.id().fmt_short()} does not speak moq-lite-03"):
                await asyncio.wait_for(dial(here, parse_remote(ticket_of(there)), ALPN), PATIENCE)
            await there.close()
            await serving

    async def test_a_peer_that_refuses(self) -> None:
        async with bare_endpoint() as here, bare_endpoint() as there:
            refusing = asyncio.ensure_future(refuse_next(there))
            with pytest.raises(ConnectError, match="cannot be reached: ") as caught:
                await asyncio.wait_for(dial(here, parse_remote(ticket_of(there)), ALPN), PATIENCE)
            # One line, without the package's own source lines.
            assert "\n" not in str(caught.value)
            assert ".rs" not in str(caught.value)
            await refusing

    async def test_an_id_that_nobody_can_look_up(self) -> None:
        async with bare_endpoint() as here:
            with pytest.raises(ConnectError, match=f"peer {ID.fmt_short()} cannot be reached: "):
                await asyncio.wait_for(dial(here, parse_remote(ID), ALPN), PATIENCE)


async def _take(endpoint: Any) -> None:
    """Lets the handshakes of an endpoint go on until it is closed."""
    while (incoming := await endpoint.accept_next()) is not None:
        with suppress(IrohError):
            await (await incoming.accept()).connect()
