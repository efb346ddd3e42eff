"""What a `Moq` counts, and what exporters make of it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import socket
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from iroh import EndpointAddr
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from iroh_moq import (
    ALPN,
    Access,
    BroadcastConsumer,
    BroadcastProducer,
    ConnectError,
    ErrorCode,
    Histogram,
    InvalidArgument,
    InvalidType,
    Metrics,
    Moq,
    MoqError,
    MoqSession,
    TrackProducer,
    TransportRates,
    TransportStats,
)
from iroh_moq.lite import LiteSession
from iroh_moq.metrics import BOUNDS, Counters, Times, close_label, code_label
from iroh_moq.opentelemetry import Instruments
from iroh_moq.prometheus import Collector, serve
from iroh_moq.transport import PathStats
from tests.conftest import MakePair, idle
from tests.endpoints import PATIENCE, bare_endpoint, bound, pair, published, subscribed
from tests.lite.peer import lite


async def eventually(moq: Moq, **wanted: Any) -> Metrics:
    """The metrics, once these fields have these values; there is nothing to wait for but the network."""
    async with asyncio.timeout(PATIENCE):
        while True:
            metrics = moq.metrics()
            if {name: getattr(metrics, name) for name in wanted} == wanted:
                return metrics
            await asyncio.sleep(0.01)


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[Moq, Moq, MoqSession, TrackProducer, BroadcastConsumer]]:
    """A publisher, a subscriber, and what is between them."""
    # In later versions a subscription asks, and may be refused, on two streams.
    async with pair(alpns=ALPN) as (alice, bob):
        _, track = await published(alice)
        session, consumer = await subscribed(alice, bob)
        yield alice, bob, session, track, consumer


class TestLabels:
    def test_codes(self) -> None:
        assert [code_label(code) for code in (0, 13, 64, 1 << 31, 7)] == [
            "cancel",
            "not_found",
            "application",
            "application",
            "other",
        ]

    def test_closes(self) -> None:
        assert [close_label(code) for code in (None, 0, 63, 64, 1 << 31)] == [
            "lost",
            "0",
            "63",
            "application",
            "application",
        ]


class TestHistogram:
    def test_buckets(self) -> None:
        times = Times()
        for seconds in (0.0, 0.001, 0.0011, 0.7, 30.0, 31.0):
            times.add(seconds)
        histogram = Histogram.of(times)
        assert len(histogram.counts) == len(histogram.bounds) + 1
        counts = dict(zip((*BOUNDS, None), histogram.counts, strict=True))
        assert {bound: count for bound, count in counts.items() if count} == {
            0.001: 2,
            0.0025: 1,
            1.0: 1,
            30.0: 1,
            None: 1,
        }
        assert histogram.count == 6
        assert histogram.sum == pytest.approx(61.7021)
        assert histogram.mean == pytest.approx(61.7021 / 6)

    def test_none(self) -> None:
        assert Histogram.of(Times()).mean is None


class TestMetrics:
    def test_it_is_a_picture(self) -> None:
        counters = Counters()
        counters.session_opened(incoming=True)
        metrics = Metrics.of(counters, {}, 3)
        counters.session_closed(0)
        counters.session_opened(incoming=True)
        counters.dropped_to_peer(2)
        counters.connect_time.add(1.0)
        assert (metrics.sessions, metrics.sessions_opened["incoming"], metrics.broadcasts) == (1, 1, 3)
        assert (dict(metrics.sessions_closed), dict(metrics.dropped_sending)) == ({}, {})
        assert metrics.connect_time.count == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            metrics.sessions = 7  # type: ignore[misc]
        with pytest.raises(TypeError):
            metrics.sessions_opened["incoming"] = 7  # type: ignore[index]

    def test_every_field_says_what_it_is(self) -> None:
        documentation = inspect.getdoc(Metrics)
        assert documentation
        for field in dataclasses.fields(Metrics):
            assert field.metadata["kind"] in {"gauge", "counter", "histogram"}
            assert field.metadata["help"].endswith(".")
            assert (field.metadata["label"] is not None) == (field.type == "Counts")
            assert field.name in documentation


class TestSessions:
    async def test_opened_and_closed(self) -> None:
        async with pair() as (alice, bob):
            session = await bob.connect(alice.ticket())
            await eventually(alice, sessions=1, sessions_opened={"incoming": 1, "outgoing": 0})
            metrics = bob.metrics()
            assert (metrics.sessions, metrics.sessions_opened) == (1, {"incoming": 0, "outgoing": 1})
            assert metrics.connect_time.count == 1
            assert 0 < metrics.connect_time.sum < PATIENCE
            session.close(7, "enough")
            await eventually(alice, sessions=0, sessions_closed={"7": 1})
            await eventually(bob, sessions=0, sessions_closed={"7": 1})
            again = await bob.connect(alice.ticket())
            again.close(1000)
            await eventually(alice, sessions=0, sessions_closed={"7": 1, "application": 1})

    async def test_the_shutdown_closes_them(self) -> None:
        async with pair() as (alice, bob):
            await bob.connect(alice.ticket())
            await bob.shutdown()
            metrics = bob.metrics()
            assert (metrics.sessions, metrics.sessions_closed) == (0, {"0": 1})

    async def test_handshakes_that_fail(self) -> None:
        # With one version, as each is a handshake of its own.
        async with pair(alpns=ALPN) as (alice, _), bound(alpns=ALPN) as bob:
            ticket = alice.ticket()
            alice.endpoint.set_alpns([b"other"])
            for _ in range(2):
                with pytest.raises(ConnectError):
                    await bob.connect(ticket)
            assert bob.metrics().handshakes_failed == {"incoming": 0, "outgoing": 2}
            assert bob.metrics().connect_time.count == 0
            await eventually(alice, handshakes_failed={"incoming": 2, "outgoing": 0})

    async def test_both_dial_at_once(self) -> None:
        """One session, and no failure on either side."""
        async with pair() as (alice, bob):
            await asyncio.gather(alice.connect(bob.ticket()), bob.connect(alice.ticket()))
            for moq in (alice, bob):
                metrics = moq.metrics()
                assert metrics.sessions == 1
                assert sum(metrics.sessions_opened.values()) == 1
                assert metrics.handshakes_failed == {"incoming": 0, "outgoing": 0}


class TestStreams:
    async def test_groups_frames_and_bytes(self) -> None:
        async with streaming() as (alice, bob, _, track, consumer):
            async with consumer.subscribe_track("video", ordered=True) as reader:
                await asyncio.wait_for(track.used(), PATIENCE)
                # What is complete when it is sent, what is not, what is empty, and what is large.
                track.write_frame(b"whole")
                with track.append_group() as group:
                    for _ in range(3):
                        group.write_frame(b"late")
                        await asyncio.sleep(0)
                track.append_group().finish()
                with track.append_group() as group:
                    for _ in range(10):
                        group.write_frame(bytes(100_000))
                for _ in range(4):
                    received = await asyncio.wait_for(reader.next_group(), PATIENCE)
                    assert received is not None
                    await asyncio.wait_for(received.read_all(), PATIENCE)
                    del received
                size = 5 + 12 + 1_000_000
                await eventually(alice, groups_sent=4, frames_sent=14, bytes_sent=size, peer_subscriptions=1)
                metrics = await eventually(
                    bob, groups_received=4, frames_received=14, bytes_received=size, own_subscriptions=1
                )
                assert metrics.first_group_time.count == 1
            for moq, side in ((alice, "peer"), (bob, "own")):
                metrics = await eventually(moq, **{f"{side}_subscriptions": 0})
                assert getattr(metrics, f"{side}_subscriptions_opened") == 1
            assert alice.metrics().groups_received == bob.metrics().groups_sent == 0
            assert alice.metrics().own_subscriptions_opened == bob.metrics().peer_subscriptions_opened == 0

    async def test_each_subscriber_counts(self) -> None:
        async with streaming() as (alice, bob, _, track, consumer), bound() as carol:
            _, other = await subscribed(alice, carol)
            async with consumer.subscribe_track("video") as one, other.subscribe_track("video") as two:
                await eventually(alice, peer_subscriptions=2)
                with track.append_group() as group:
                    group.write_frame(b"for both")
                    group.write_frame(b"of them")
                for reader in (one, two):
                    assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"for both"
                await eventually(alice, groups_sent=2, frames_sent=4, bytes_sent=30)
                for moq in (bob, carol):
                    await eventually(moq, groups_received=1, frames_received=2, bytes_received=15)

    async def test_a_subscription_that_is_refused_is_none(self) -> None:
        async with streaming() as (alice, bob, session, _, _):
            nothing = await session.subscribe("nothing", announced=False)
            with pytest.raises(MoqError):
                await asyncio.wait_for(nothing.subscribe_track("video").next_group(), PATIENCE)
            metrics = await eventually(alice, refusals={"not_found": 1})
            assert metrics.peer_subscriptions_opened == 0
            await eventually(bob, own_subscriptions=0, own_subscriptions_opened=1)

    async def test_announcements(self) -> None:
        async with pair() as (alice, bob):
            await published(alice, "one")
            await published(alice, "hidden")
            await alice.publish("secret", BroadcastProducer(), allow=[])
            session = await bob.connect(alice.ticket(), access=Access(publish=["one", "two"]))
            await published(alice, "two")
            await asyncio.wait_for(session.subscribe("two"), PATIENCE)
            await alice.unpublish("two")
            assert alice.metrics().announcements_sent == 3
            assert alice.metrics().broadcasts == 3
            assert bob.metrics().announcements_received == 2

    async def test_a_group_past_its_latency(self) -> None:
        async with streaming() as (alice, bob, _, track, consumer):
            reader = consumer.subscribe_track("video", max_latency=0.1)
            async with reader:
                await asyncio.wait_for(track.used(), PATIENCE)
                stalled = track.append_group()
                stalled.write_frame(b"begun")
                first = await asyncio.wait_for(reader.next_group(), PATIENCE)
                assert first is not None
                assert await first.read_frame() == b"begun"
                track.write_frame(b"newer")
                await eventually(alice, dropped_sending={"old": 1})
                await eventually(bob, dropped_receiving={"old": 1})
                stalled.finish()

    async def test_a_group_that_is_aborted_and_one_that_nobody_wants_any_more(self) -> None:
        async with streaming() as (alice, bob, _, track, consumer):
            async with consumer.subscribe_track("video") as reader:
                await asyncio.wait_for(track.used(), PATIENCE)
                aborted = track.append_group()
                aborted.write_frame(b"begun")
                first = await asyncio.wait_for(reader.next_group(), PATIENCE)
                assert first is not None
                aborted.abort(70)
                await eventually(bob, dropped_receiving={"application": 1})
                await eventually(alice, dropped_sending={"application": 1})
                left = track.append_group()
                left.write_frame(b"begun")
                second = await asyncio.wait_for(reader.next_group(), PATIENCE)
                assert second is not None
            await eventually(alice, dropped_sending={"application": 1, "cancel": 1})
            left.finish()


class TestRefusals:
    async def test_a_bad_request_is_counted_each_time_and_logged_once(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "iroh_moq")
        async with lite(memory_pair) as run:
            for _ in range(5):
                stream = await run.request(b"\x02\x01\xff")
                assert await stream.refused() == ErrorCode.DECODE
            other = await run.request(b"\x09")
            assert await other.refused() == ErrorCode.UNEXPECTED_STREAM
            assert run.session.policy.refusals.counts == {"decode": 5, "unexpected_stream": 1}
            assert len([record for record in caplog.records if "refused" in record.getMessage()]) == 2

    async def test_the_end_of_what_was_asked_for_is_none(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            stream = await run.subscribe()
            await idle()
            track.abort(70)
            assert await stream.reply.reset() == 70
            assert run.session.policy.refusals.counts == {}

    async def test_a_session_without_a_moq_has_its_own(self, memory_pair: MakePair) -> None:
        one, two = memory_pair()
        async with await MoqSession.session_connect(one) as session, await MoqSession.session_accept(two) as other:
            assert isinstance(session._lite, LiteSession)
            assert session._lite.policy.counters is not other._lite.policy.counters
            assert session.access == Access()


class TestPrometheus:
    async def test_all_of_it(self) -> None:
        async with pair(authorize=lambda peer: True) as (alice, bob):
            _, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            async with consumer.subscribe_track("video") as reader:
                await asyncio.wait_for(track.used(), PATIENCE)
                track.write_frame(b"frame")
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"frame"
                await eventually(alice, frames_sent=1)
                registry = CollectorRegistry(auto_describe=True)
                collector = Collector(alice, bob)
                registry.register(collector)
                here, there = ({"endpoint": str(moq.id())} for moq in (alice, bob))
                value = registry.get_sample_value
                assert value("iroh_moq_sessions", here) == 1
                assert value("iroh_moq_bytes_sent_total", here) == 5
                assert value("iroh_moq_bytes_received_total", there) == 5
                assert value("iroh_moq_peer_subscriptions", here) == 1
                assert value("iroh_moq_peer_subscriptions_opened_total", here) == 1
                assert value("iroh_moq_sessions_opened_total", {**here, "direction": "incoming"}) == 1
                assert value("iroh_moq_connect_time_seconds_count", there) == 1
                assert value("iroh_moq_connect_time_seconds_bucket", {**there, "le": "+Inf"}) == 1
                buckets = [value("iroh_moq_connect_time_seconds_bucket", {**there, "le": str(b)}) for b in BOUNDS]
                assert buckets == sorted(map(float, buckets))  # type: ignore[arg-type]
                taken = value("iroh_moq_connect_time_seconds_sum", there)
                assert taken is not None
                assert taken == bob.metrics().connect_time.sum
                names = [family.name for family in collector.collect()]
                assert len(names) == len(set(names)) == len(dataclasses.fields(Metrics))
                collector.remove(bob)
                assert value("iroh_moq_sessions", there) is None
                assert value("iroh_moq_sessions", here) == 1
                collector.add(bob)
                assert value("iroh_moq_sessions", there) == 1

    async def test_served(self) -> None:
        async with bound() as alice:
            with serve(alice) as port:
                address = f"http://127.0.0.1:{port}/metrics"
                text = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=PATIENCE).read())
                families = {family.name: family for family in text_string_to_metric_families(text.decode())}
                (sample,) = families["iroh_moq_sessions"].samples
                assert (sample.labels, sample.value) == ({"endpoint": str(alice.id())}, 0)
                assert families["iroh_moq_bytes_sent"].type == "counter"
                assert families["iroh_moq_connect_time_seconds"].type == "histogram"
            with pytest.raises(OSError, match="refused"):
                await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), PATIENCE)

    async def test_only_a_moq_has_metrics(self) -> None:
        with pytest.raises(InvalidType, match="Moq"):
            Collector("moq")  # type: ignore[arg-type]


class TestOpenTelemetry:
    async def test_all_of_it(self) -> None:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        async with pair() as (alice, bob):
            instruments = Instruments(alice, meter_provider=provider)
            instruments.add(bob)
            session = await bob.connect(alice.ticket())
            await eventually(alice, sessions=1)

            def values(name: str) -> dict[tuple[object, ...], object]:
                data: Any = reader.get_metrics_data()
                found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
                return {
                    tuple(value for _, value in sorted(point.attributes.items())): point.value
                    for metric in found
                    for point in metric.data.data_points
                }

            here, there = str(alice.id()), str(bob.id())
            assert values("iroh_moq.sessions") == {(here,): 1, (there,): 1}
            assert values("iroh_moq.sessions_opened")["incoming", here] == 1
            assert values("iroh_moq.connect_time.count") == {(here,): 0, (there,): 1}
            assert values("iroh_moq.connect_time.sum")[there,] == bob.metrics().connect_time.sum
            session.close()
            await eventually(bob, sessions=0)
            assert values("iroh_moq.sessions")[there,] == 0
            instruments.remove(bob)
            assert set(values("iroh_moq.sessions")) == {(here,)}
        provider.shutdown()

    async def test_without_an_sdk_nothing_is_asked(self) -> None:
        async with bound() as alice:
            Instruments(alice)


class TestTransportStats:
    def _stats(self, taken: float, *counts: int) -> TransportStats:
        names = ("sent_bytes", "received_bytes", "sent_packets", "received_packets", "lost_packets")
        known: dict[str, Any] = dict(zip(names, counts, strict=False))
        return replace(TransportStats(taken=taken), **known)

    def test_rates(self) -> None:
        earlier, later = self._stats(10.0, 1000, 2000, 10, 20, 1), self._stats(12.0, 5000, 2000, 50, 30, 11)
        assert later.rates_since(earlier) == TransportRates(
            seconds=2.0, sent_bytes=2000.0, received_bytes=0.0, sent_packets=20.0, received_packets=5.0, loss=0.25
        )

    def test_loss(self) -> None:
        assert self._stats(0.0, 0, 0, 200, 0, 50).loss == 0.25
        assert TransportStats().loss == 0.0
        path = PathStats("here", True, False, 0.1, 1, 1, lost_packets=1, sent_packets=4)
        assert path.loss == 0.25

    def test_no_time_and_packets_that_turn_up(self) -> None:
        earlier, later = self._stats(10.0, 1, 1, 1, 1, 5), self._stats(10.0, 2, 2, 2, 2, 4)
        rates = later.rates_since(earlier)
        assert (rates.seconds, rates.sent_bytes, rates.loss) == (0.0, 0.0, 0.0)

    def test_what_is_not_earlier(self) -> None:
        earlier, later = self._stats(10.0, 1), self._stats(11.0, 2)
        with pytest.raises(InvalidArgument):
            earlier.rates_since(later)
        with pytest.raises(InvalidType):
            later.rates_since(10.0)  # type: ignore[arg-type]

    def test_those_of_another_connection_are_what_that_has_carried(self) -> None:
        rates = self._stats(12.0, 1, 6).rates_since(self._stats(10.0, 4, 2))
        assert (rates.seconds, rates.sent_bytes, rates.received_bytes) == (2.0, 0.5, 3.0)

    async def test_of_a_session(self) -> None:
        async with streaming() as (_, _, session, track, consumer):
            before = session.stats()
            assert before.taken == pytest.approx(time.monotonic(), abs=PATIENCE)
            async with consumer.subscribe_track("video") as reader:
                await asyncio.wait_for(track.used(), PATIENCE)
                track.write_frame(bytes(100_000))
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE)
            rates = session.stats().rates_since(before)
            assert rates.seconds > 0
            assert rates.received_bytes * rates.seconds > 100_000
            assert 0 <= rates.loss <= 1
            assert session.stats().path is not None


async def test_a_peer_that_vanished_is_no_session() -> None:
    async with bound() as alice, bare_endpoint() as silent:
        address = EndpointAddr(silent.id(), None, silent.bound_sockets())
        connecting = asyncio.ensure_future(alice.connect(address))
        incoming = await asyncio.wait_for(silent.accept_next(), PATIENCE)
        assert incoming is not None
        connection = await (await incoming.accept()).connect()
        connection.close(9, b"no")
        with pytest.raises(Exception, match="refused"):
            await asyncio.wait_for(connecting, PATIENCE)
        metrics = alice.metrics()
        assert (metrics.sessions, metrics.handshakes_failed) == (0, {"incoming": 0, "outgoing": 1})
