"""What things cost, in numbers that do not depend on how fast the machine is."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iroh_moq import ALPN, ALPNS, BroadcastConsumer, BroadcastProducer, MoqSession, TrackConsumer, TrackProducer
from iroh_moq.lite import sending
from iroh_moq.lite.version import version_of
from iroh_moq.model.broadcast import BroadcastState
from iroh_moq.model.cache import DEFAULT_CACHE
from iroh_moq.model.origin import View
from iroh_moq.transport import Transport
from iroh_moq.transport.driver import driver
from iroh_moq.transport.iroh_native import driver_of
from iroh_moq.transport.iroh_package import PackageTransport
from iroh_moq.transport.memory import memory_pair
from tests.conftest import idle, within
from tests.transport.contract import PATIENCE, soon, uni
from tests.transport.ends import Make, connections, native, native_pair, needs_driver

FRAME = bytes(100)


@asynccontextmanager
async def sessions(*transports: Transport) -> AsyncIterator[list[MoqSession]]:
    made = [await MoqSession.session_connect(transport) for transport in transports]
    try:
        yield made
    finally:
        for session in made:
            session.close()
        for session in made:
            await soon(session.closed())


@asynccontextmanager
async def track(publisher: MoqSession, subscriber: MoqSession) -> AsyncIterator[tuple[TrackProducer, TrackConsumer]]:
    """A track from one to the other, whose first group has been read."""
    broadcast = BroadcastProducer()
    producer = broadcast.create_track("video")
    publisher.publish("cam", broadcast.consume())
    consumer = (await soon(subscriber.subscribe("cam"))).subscribe_track("video", ordered=True, max_latency=None)
    producer.write_frame(b"first")
    assert await soon(consumer.read_frame()) == b"first"
    yield producer, consumer
    broadcast.finish()


@asynccontextmanager
async def on_iroh(publisher: Make, subscriber: Make) -> AsyncIterator[tuple[TrackProducer, TrackConsumer]]:
    async with connections() as ends, sessions(publisher(ends[0]), subscriber(ends[1])) as made, track(*made) as both:
        yield both


def calls() -> int:
    module: Any = driver.module
    counted: int = module.counted_calls()
    return counted


class Tasks:
    """Counts the tasks that a loop makes, by the function they run."""

    def __init__(self) -> None:
        self.made: list[str] = []
        make: Any = self._make
        asyncio.get_running_loop().set_task_factory(make)

    def _make(self, loop: asyncio.AbstractEventLoop, call: Any, **options: Any) -> asyncio.Task[Any]:
        self.made.append(call.__qualname__)
        return asyncio.Task(call, loop=loop, **options)

    def of(self, *names: str) -> int:
        return sum(name in names for name in self.made)


def write_group(producer: TrackProducer, frames: Sequence[bytes]) -> None:
    group = producer.append_group()
    for frame in frames:
        group.write_frame(frame)
    group.finish()


async def read_groups(consumer: TrackConsumer, groups: int, frames: int) -> None:
    async with within(PATIENCE):
        for _ in range(groups * frames):
            assert await consumer.read_frame() == FRAME


@needs_driver
class TestOperations:
    """Calls of the library, each of which costs about as much as all that Python does for a frame."""

    @pytest.mark.parametrize("frames", [1, 200])
    async def test_a_group_costs_its_publisher_five(self, frames: int) -> None:
        """It opens a stream, ranks it, writes, finishes, and asks what becomes of it."""
        async with on_iroh(native, PackageTransport) as (producer, consumer):
            before = calls()
            for _ in range(40):
                write_group(producer, [FRAME] * frames)
                await read_groups(consumer, 1, frames)
            assert calls() - before <= 40 * 5

    async def test_a_group_of_one_frame_costs_its_subscriber_three(self) -> None:
        """It accepts a stream, reads what there is, and reads the end."""
        async with on_iroh(PackageTransport, native) as (producer, consumer):
            before = calls()
            for _ in range(40):
                write_group(producer, [FRAME])
                await read_groups(consumer, 1, 1)
            # One accept and one read more wait for what comes next, and a packet may come in two.
            assert calls() - before <= 40 * 3 + 10

    async def test_a_frame_among_many_costs_its_subscriber_a_fraction_of_one(self) -> None:
        async with on_iroh(PackageTransport, native) as (producer, consumer):
            before = calls()
            for _ in range(20):
                write_group(producer, [FRAME] * 200)
                await read_groups(consumer, 1, 200)
            # 20 kB are some 15 packets, and each may be read by itself where the network is slow.
            assert calls() - before <= 20 * (3 + 20)

    async def test_frames_of_one_turn_leave_in_one_write(self) -> None:
        async with on_iroh(native, PackageTransport) as (producer, consumer):
            group = producer.append_group()
            group.write_frame(FRAME)
            await read_groups(consumer, 1, 1)
            before = calls()
            for _ in range(20):
                for _ in range(50):
                    group.write_frame(FRAME)
                await read_groups(consumer, 1, 50)
            assert calls() - before <= 20
            group.finish()

    async def test_small_writes_are_few_however_often_there_is_a_frame(self) -> None:
        """Each may become a piece by itself, and too many of those end the connection."""
        asyncio.get_running_loop().set_debug(False)
        async with on_iroh(native, PackageTransport) as (producer, consumer):
            group = producer.append_group()
            group.write_frame(FRAME)
            await read_groups(consumer, 1, 1)
            before, start = calls(), time.monotonic()
            reading = asyncio.ensure_future(read_groups(consumer, 1, 8000))
            for _ in range(8000):
                group.write_frame(FRAME)
                await asyncio.sleep(0)
            await reading
            group.finish()
            taken = time.monotonic() - start
            large = 8000 * len(FRAME) // sending._SMALL
            assert calls() - before <= large + sending._BURST + sending._SMALL_PER_SECOND * taken + 10

    async def test_an_idle_session_costs_nothing(self) -> None:
        async with on_iroh(native, native):
            module: Any = driver.module
            mine = driver_of(asyncio.get_running_loop(), module)
            await asyncio.sleep(0.1)
            before = calls(), mine.wakeups, mine.reports
            made = Tasks()
            # That nothing happens can only be seen by waiting for it.
            await asyncio.sleep(0.5)
            assert (calls(), mine.wakeups, mine.reports) == before
            assert made.made == []

    async def test_many_reports_wake_the_loop_once(self) -> None:
        module: Any = driver.module
        async with native_pair() as pair:
            streams = [await uni(pair) for _ in range(100)]
            reading = [asyncio.ensure_future(recv.read()) for _, recv in streams]
            await asyncio.sleep(0)
            mine = driver_of(asyncio.get_running_loop(), module)
            await asyncio.sleep(0.1)
            wakeups, reports = mine.wakeups, mine.reports
            for send, _ in streams:
                send.write_nowait(b"x")
            # The loop is busy with something else while they come.
            time.sleep(0.3)  # noqa: ASYNC251
            assert await soon(asyncio.gather(*reading)) == [b"x"] * 100
            assert mine.reports - reports >= 100
            # One or two where the machine is quiet; where it is not, others may come late.
            assert mine.wakeups - wakeups <= 50


SENDS, TAKES = "GroupSender._run", "_GroupReceiver._run"


versions = pytest.mark.parametrize("alpn", [ALPN, ALPNS[0]], ids=bytes.decode)


class TestTasks:
    @versions
    async def test_a_session_has_few(self, alpn: bytes) -> None:
        others = len(asyncio.all_tasks())
        async with sessions(*memory_pair(alpn=alpn)) as made, track(*made):
            await idle()
            # For both sides together, with one subscription between them; each side waits for datagrams, too.
            assert len(asyncio.all_tasks()) - others <= 20 + 2 * version_of(alpn).datagrams

    @versions
    async def test_a_complete_group_needs_none(self, alpn: bytes) -> None:
        async with sessions(*memory_pair(alpn=alpn)) as made, track(*made) as (producer, consumer):
            await idle()
            tasks = Tasks()
            for count in (1, 50, 5):
                for _ in range(count):
                    write_group(producer, [FRAME])
                await read_groups(consumer, count, 1)
            assert (tasks.of(SENDS), tasks.of(TAKES)) == (0, 0)

    @versions
    async def test_frames_need_none(self, alpn: bytes) -> None:
        async with sessions(*memory_pair(alpn=alpn)) as made, track(*made) as (producer, consumer):
            group = producer.append_group()
            group.write_frame(FRAME)
            await read_groups(consumer, 1, 1)
            tasks = Tasks()
            for _ in range(100):
                group.write_frame(FRAME)
                await read_groups(consumer, 1, 1)
            assert tasks.made == []
            group.finish()

    @needs_driver
    async def test_a_complete_group_that_flow_control_lets_through_needs_none(self) -> None:
        async with on_iroh(native, native) as (producer, consumer):
            await asyncio.sleep(0)
            tasks = Tasks()
            for _ in range(20):
                for _ in range(10):
                    write_group(producer, [FRAME] * 20)
                await read_groups(consumer, 10, 20)
            assert tasks.of(SENDS) == 0


class TestAnnouncements:
    def test_news_cost_the_same_however_many_there_are(self) -> None:
        """Each is taken from the front, where nothing of those before it may be in the way."""

        def cost(count: int) -> float:
            view = View("", routes=False)
            active = {str(number): BroadcastState(DEFAULT_CACHE) for number in range(count)}
            for path in active:
                view.tell(path)
            start = time.process_time()
            while view.next(active) is not None:
                pass
            return (time.process_time() - start) / count

        # Were it the square, it would be 32 times; the rest is for caches and other work of the machine.
        assert min(cost(64_000) for _ in range(3)) < 16 * max(cost(2_000) for _ in range(3))


class TestMemory:
    FRAMES = 10_000

    @versions
    async def test_a_frame_costs_a_few_times_its_size(self, alpn: bytes) -> None:
        async with sessions(*memory_pair(window=1 << 30, alpn=alpn)) as made, track(*made) as (producer, consumer):
            write_group(producer, [FRAME] * 10)
            await read_groups(consumer, 1, 10)
            frames = [FRAME] * self.FRAMES
            gc.collect()
            tracemalloc.start()
            try:
                write_group(producer, frames)
                await read_groups(consumer, 1, self.FRAMES)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        # A frame's bytes on their way, as they came, and as the frame that is read, with Python's
        # 33 bytes for an object and a place in a list or two.
        assert peak / self.FRAMES <= 3 * len(FRAME) + 2 * (33 + 16)


class TestFanOut:
    @pytest.mark.parametrize("readers", [2, 20])
    async def test_a_group_is_encoded_once_for_all(self, readers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded = 0
        real = sending._parts

        def counting(frames: Sequence[bytes]) -> list[bytes]:
            nonlocal encoded
            encoded += 1
            return real(frames)

        broadcast = BroadcastProducer()
        producer = broadcast.create_track("video")
        transports = [end for _ in range(readers) for end in memory_pair()]
        async with sessions(*transports) as made:
            consumers: list[TrackConsumer] = []
            for publisher, subscriber in zip(made[::2], made[1::2], strict=True):
                publisher.publish("cam", broadcast.consume())
                found: BroadcastConsumer = await soon(subscriber.subscribe("cam"))
                consumers.append(found.subscribe_track("video", ordered=True, max_latency=None))
            producer.write_frame(b"first")
            for consumer in consumers:
                assert await soon(consumer.read_frame()) == b"first"
            await idle()
            monkeypatch.setattr(sending, "_parts", counting)
            for _ in range(30):
                write_group(producer, [FRAME] * 10)
                for consumer in consumers:
                    await read_groups(consumer, 1, 10)
            assert encoded == 30
            broadcast.finish()
