"""The native driver and event loops: several of them, another kind, and those that end in the middle."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import pytest

from iroh_moq.transport import ConnectionLost
from iroh_moq.transport.driver import driver
from iroh_moq.transport.iroh_native import NativeTransport, driver_of
from tests.endpoints import PATIENCE
from tests.transport.contract import bi, read, read_all, soon, uni
from tests.transport.ends import IrohContract, connections, native, native_pair, needs_driver, under_way

try:
    import uvloop
except ImportError:
    uvloop_factory = None
else:
    uvloop_factory = uvloop.new_event_loop

pytestmark = needs_driver

REPEATED = int(os.environ.get("IROH_MOQ_REPEATED", "12"))
"""How often each way of ending a loop is tried; 200 for a thorough look at memory."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
loops = pytest.mark.parametrize(
    "factory",
    [
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(
            uvloop_factory, id="uvloop", marks=pytest.mark.skipif(uvloop_factory is None, reason="no uvloop here")
        ),
    ],
)


@pytest.mark.skipif(uvloop_factory is None, reason="no uvloop here")
class TestOnUvloop(IrohContract):
    makes = native, native
    loop_factory = staticmethod(uvloop_factory or asyncio.new_event_loop)

    async def test_it_is_the_loop(self) -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")


class TestSeveralLoops:
    @loops
    def test_there_is_one_driver_for_each(self, factory: LoopFactory) -> None:
        module: Any = driver.module
        first, second = factory(), factory()
        assert driver_of(first, module) is driver_of(first, module)
        assert driver_of(first, module) is not driver_of(second, module)
        first.close()
        second.close()

    @loops
    def test_each_may_run_in_a_thread_of_its_own(self, factory: LoopFactory) -> None:
        failures: list[BaseException] = []

        async def talk() -> None:
            async with native_pair() as pair:
                for _ in range(20):
                    send, recv = await uni(pair)
                    writing = asyncio.ensure_future(send.write(bytes(1 << 20)))
                    await read(recv, 1 << 20)
                    await soon(writing)
                    send.finish()
                    assert await read_all(recv) == b""

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=factory, debug=True) as runner:
                    runner.run(talk())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * PATIENCE)
            assert not thread.is_alive()
        if failures:
            raise failures[0]


class Held:
    """What a program still has in its hands when its loop ends."""

    def __init__(self) -> None:
        self.pair: tuple[NativeTransport, NativeTransport] | None = None
        self.streams: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.driver: Any = None
        self.stack = AsyncExitStack()


async def busy(held: Held) -> None:
    """Leaves one of everything under way: reads, accepts, blocked writes and opens, fates, ends."""
    ends = await held.stack.enter_async_context(connections())
    pair = held.pair = native(ends[0]), native(ends[1])
    held.driver = driver_of(asyncio.get_running_loop(), driver.module)  # type: ignore[arg-type]
    send, recv, back, there = await bi(pair)
    other, unread = await uni(pair)
    held.streams += [send, recv, back, there, other, unread]

    async def open_all() -> None:
        while True:
            held.streams.append(await pair[0].open_uni())

    async def forever(call: Callable[[], Any]) -> None:
        with suppress(ConnectionLost):
            while True:
                await call()
                # What has ended answers at once, again and again.
                await asyncio.sleep(0)

    calls = [
        forever(recv.read),
        forever(there.read),
        forever(pair[0].accept_uni),
        forever(pair[1].accept_bi),
        forever(pair[0].read_datagram),
        forever(pair[0].closed),
        other.write(bytes(8 << 20)),
        open_all(),
    ]
    held.tasks = [asyncio.ensure_future(call) for call in calls]
    back.acknowledged()
    for _ in range(20):
        await asyncio.sleep(0)
    assert under_way() >= 8


def run_and_cancel(factory: LoopFactory, held: Held) -> None:
    """As `asyncio.run` does: the program fails, and what else runs is cancelled."""

    async def main() -> None:
        await busy(held)
        raise KeyError("the program")

    with pytest.raises(KeyError), asyncio.Runner(loop_factory=factory, debug=True) as runner:
        runner.run(main())


def close(factory: LoopFactory, held: Held) -> None:
    """The loop is closed, and that is all."""
    loop = factory()
    loop.run_until_complete(busy(held))
    loop.close()


def drop(factory: LoopFactory, held: Held) -> None:
    """Nobody even closes the loop."""
    loop = factory()
    loop.run_until_complete(busy(held))
    gone = weakref.ref(loop)
    del loop
    held.__init__()  # type: ignore[misc]
    gc.collect()
    assert gone() is None


def use_it_afterwards(factory: LoopFactory, held: Held) -> None:
    """What is left of a closed loop is used."""
    close(factory, held)
    assert held.pair is not None
    assert held.driver.pending() == 0
    send, recv = held.streams[0], held.streams[1]
    with pytest.raises(RuntimeError, match="closed"):
        send.write_nowait(b"x")
    with pytest.raises(RuntimeError, match="closed"):
        recv.read_nowait()
    for call in (send.finish, lambda: send.set_priority(1), lambda: send.reset(1), lambda: recv.stop(1)):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    with pytest.raises(RuntimeError, match="closed"):
        held.pair[0].open_uni_nowait()
    with pytest.raises(RuntimeError, match="closed"):
        held.pair[1].send_datagram(b"x")
    with pytest.raises(RuntimeError, match="closed"):
        held.pair[1].accept_uni_nowait()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def silent() -> Iterator[None]:
    """A loop that ends so is reported by asyncio, which is right, and not what is tested."""
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:coroutine:RuntimeWarning")
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is not told here")
class TestLoopsThatEndInTheMiddle:
    @loops
    @pytest.mark.parametrize("end", [run_and_cancel, close, use_it_afterwards])
    def test_they_leave_nothing(self, factory: LoopFactory, end: Callable[[LoopFactory, Held], None]) -> None:
        leaves_nothing(lambda held: end(factory, held))

    def test_they_leave_nothing_where_they_are_not_closed(self) -> None:
        # uvloop itself keeps a loop that has a reader.
        leaves_nothing(lambda held: drop(asyncio.new_event_loop, held))


def leaves_nothing(end: Callable[[Held], None]) -> None:
    """Ends many loops, and looks at descriptors and memory."""

    def once() -> None:
        held = Held()
        with silent():
            end(held)
            del held
            gc.collect()

    for _ in range(4):
        once()
    opened, used = descriptors(), resident()
    for _ in range(REPEATED):
        once()
    deadline = time.monotonic() + PATIENCE
    # Endpoints of iroh that are dropped rather than closed close their sockets in their own time.
    while descriptors() > opened:
        assert time.monotonic() < deadline, "descriptors are left"
        time.sleep(0.01)
    growth = resident() - used
    print(f"{growth / REPEATED / 1024:.0f} KiB each")
    # What the allocator keeps for itself shows in few repetitions; IROH_MOQ_REPEATED makes them many.
    assert growth < (32 << 20) + REPEATED * 64 * 1024
