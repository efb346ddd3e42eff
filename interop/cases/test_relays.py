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
    assert news["hops"] == 1 + len(relays) + _counted_twice(duo, relays)
    # What comes late to a Rust relay is lost to who asks for the order of sequence; and the relay may ask for what
    # a track is before it subscribes.
    reading = await duo.subscribe(start=0, max_latency=1.0)
    await duo.publisher.used()
    # Rust relays end a track with its last group, whatever that has overtaken.
    await duo.publisher.write(20, (10, 10_000), interval=0.01)
    await duo.publisher.finish()
    answer = await reading.read()
    assert sequences(answer) == list(range(20))
    assert answer["end"] == "finished"
    await duo.publisher.finish(None)
    assert (await duo.news(2))[1] == (BROADCAST, False)


def _counted_twice(link: Link, relays: tuple[Kind, ...]) -> int:
    """In moq-lite-03, where hops have no names, Rust counts itself when it receives and when it sends."""
    if link.version != "moq-lite-03":
        return 0
    return [*relays, link.subscriber.kind].count(Kind.RUST)
