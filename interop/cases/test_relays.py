"""Through relays: of either implementation, one and two of them."""

from __future__ import annotations

import pytest

from ..harness.kinds import Kind
from ..harness.link import BROADCAST, Link, Party, connect, sequences
from ..harness.pool import Pool

CHAINS = [(Kind.RUST,), (Kind.PYTHON,), (Kind.RUST, Kind.RUST), (Kind.PYTHON, Kind.PYTHON), (Kind.RUST, Kind.PYTHON)]


@pytest.mark.parametrize(
    "relays",
    [pytest.param(chain, marks=pytest.mark.core if len(chain) == 1 else []) for chain in CHAINS],
    ids=lambda chain: "+".join(kind.value for kind in chain),
)
async def test_relay(duo: Link, peers: Pool, relays: tuple[Kind, ...]) -> None:
    """Announcements, groups, the end and a retraction come through, and each relay counts itself."""
    chain = [duo.publisher]
    for number, kind in enumerate(relays):
        relay = Party(kind, await peers.get(kind, f"relay {number}"), duo.version)
        await relay.bind(relay=True)
        chain.append(relay)
    # From the subscriber's side on, so that each announcement has its whole way to go.
    await duo.publisher.publish()
    duo.at_subscriber, _ = await connect(duo.subscriber, chain[-1])
    for nearer, further in zip(reversed(chain[1:]), reversed(chain[:-1]), strict=True):
        await connect(nearer, further)
    answer = await duo.subscriber.call("news", session=duo.at_subscriber, count=1)
    news = answer["news"][0]
    assert (news["name"], news["active"]) == (BROADCAST, True)
    direct = 2 if duo.subscriber.kind.is_rust else 1
    assert news["hops"] == direct + len(relays)
    reading = await duo.subscribe_to_all(to_end=True)
    await duo.publisher.used()
    await duo.publisher.write(20, (10, 10_000))
    await duo.publisher.finish()
    answer = await reading.read()
    assert sequences(answer) == list(range(20))
    assert answer["end"] == "finished"
    await duo.publisher.finish(None)
    assert (await duo.news(2))[1] == (BROADCAST, False)
