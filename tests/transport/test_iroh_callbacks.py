"""How the package's own calls hear of their progress: never in a way that has threads wait for one another."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from iroh import iroh_ffi

from iroh_moq.transport import iroh_callbacks
from iroh_moq.transport.driver import driver
from tests.conftest import within
from tests.transport.ends import needs_driver
from tests.transport.programs import run_python

BESIDE = """
import asyncio, faulthandler, time
from iroh_moq import BroadcastProducer, Moq

faulthandler.dump_traceback_later(30, exit=True)

async def receive(connection):
    while True:
        await connection.read_datagram()

async def read(reader):
    while True:
        await reader.recv_group()

async def main():
    async with await Moq.bind(network="loopback") as here, await Moq.bind(network="loopback") as there:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video")
        await here.publish("cam", broadcast)
        incoming = here.incoming_sessions()
        session = await there.connect(here.ticket())
        connections = session.conn(), (await incoming.next()).accept().conn()
        reader = (await session.subscribe("cam")).subscribe_track("video")
        await track.used()
        tasks = [asyncio.ensure_future(receive(each)) for each in connections]
        tasks.append(asyncio.ensure_future(read(reader)))
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for _ in range(20):
                track.write_frame(bytes(1000))
                for connection in connections:
                    connection.send_datagram(bytes(100))
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

asyncio.run(main())
"""


class Package:
    """The part of the package's module that is replaced, apart from it."""

    def __init__(self) -> None:
        package: Any = iroh_ffi
        self._UniffiContinuationHandleMap = package._UniffiHandleMap()
        self._UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK = package._UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK
        self._uniffi_set_future_result = package._uniffi_set_future_result
        self._uniffi_continuation_callback = object()


class _Loop:
    """What a callback tells its news to."""

    def __init__(self) -> None:
        self.enabled: list[bool] = []
        self.closed = False

    def call_soon_threadsafe(self, *_: object) -> None:
        self.enabled.append(gc.isenabled())
        if self.closed:
            raise RuntimeError("Event loop is closed")


def _call_back(loop: _Loop, future: object = None) -> None:
    package: Any = Package()
    assert iroh_callbacks.install(None, package)
    package._uniffi_continuation_callback(package._UniffiContinuationHandleMap.insert((loop, future)), 0)


class TestInPython:
    @pytest.mark.parametrize("enabled", [True, False])
    def test_collecting_goes_on_as_it_was(self, enabled: bool) -> None:
        loop = _Loop()
        if not enabled:
            gc.disable()
        try:
            _call_back(loop)
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
        assert loop.enabled == [False]

    def test_callbacks_in_several_threads(self) -> None:
        class Slow(_Loop):
            def call_soon_threadsafe(self, *_: object) -> None:
                inside.wait(10)
                leave.wait(10)
                super().call_soon_threadsafe()

        inside, leave = threading.Barrier(3), threading.Event()
        loops = Slow(), Slow()
        threads = [threading.Thread(target=_call_back, args=(loop,)) for loop in loops]
        for thread in threads:
            thread.start()
        inside.wait(10)
        assert not gc.isenabled()
        leave.set()
        for thread in threads:
            thread.join(10)
        assert [loop.enabled for loop in loops] == [[False]] * 2
        assert gc.isenabled()

    def test_what_a_closed_loop_waited_for_is_not_freed_in_the_callback(self) -> None:
        class Future:
            def __del__(self) -> None:
                freed.append(True)

        freed: list[bool] = []
        loop = _Loop()
        loop.closed = True
        _call_back(loop, Future())
        assert not freed
        iroh_callbacks.forget_abandoned()
        assert freed


def _native() -> tuple[Any, Any]:
    """The table and the callback of a package that the driver serves."""
    package: Any = Package()
    assert iroh_callbacks.install(driver.module, package)
    return package._UniffiContinuationHandleMap, package._uniffi_continuation_callback


@needs_driver
class TestNative:
    @pytest.mark.parametrize("code", [0, 1])
    async def test_the_outcome_comes_whatever_thread_reports_it(self, code: int) -> None:
        table, callback = _native()
        loop = asyncio.get_running_loop()
        here, there = loop.create_future(), loop.create_future()
        callback(table.insert((loop, here)), code)
        number = table.insert((loop, there))
        thread = threading.Thread(target=callback, args=(number, code))
        thread.start()
        async with within():
            assert [await here, await there] == [code, code]
        thread.join()

    async def test_many_at_once(self) -> None:
        table, callback = _native()
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(1000)]
        numbers = [table.insert((loop, future)) for future in futures]

        def report(some: list[int]) -> None:
            for number in some:
                callback(number, 1)

        threads = [threading.Thread(target=report, args=(numbers[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        async with within():
            assert set(await asyncio.gather(*futures)) == {1}
        for thread in threads:
            thread.join()

    async def test_who_waits_no_more_is_left_alone(self) -> None:
        table, callback = _native()
        loop = asyncio.get_running_loop()
        cancelled, after = loop.create_future(), loop.create_future()
        numbers = table.insert((loop, cancelled)), table.insert((loop, after))
        cancelled.cancel()
        for number in numbers:
            callback(number, 0)
        async with within():
            assert await after == 0

    def test_each_loop_hears_of_its_own(self) -> None:
        """Any of them may be woken; and one that is closed is no concern of the others."""
        table, callback = _native()
        told: dict[str, int] = {}
        asked = threading.Barrier(3)
        numbers: list[int] = []

        async def wait(name: str) -> None:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[int] = loop.create_future()
            numbers.append(table.insert((loop, future)))
            await loop.run_in_executor(None, asked.wait)
            async with within():
                told[name] = await future

        closed = asyncio.new_event_loop()
        left = table.insert((closed, closed.create_future()))
        closed.close()
        threads = [threading.Thread(target=asyncio.run, args=(wait(name),)) for name in ("one", "other")]
        for thread in threads:
            thread.start()
        asked.wait(10)
        callback(left, 0)
        for number in numbers:
            callback(number, 0)
        for thread in threads:
            thread.join(10)
        assert told == {"one": 0, "other": 0}

    def test_the_callback_is_no_python(self) -> None:
        package: Any = iroh_ffi
        module: Any = driver.module
        callback = package._uniffi_continuation_callback
        assert ctypes.cast(callback, ctypes.c_void_p).value == module.PROGRESS

    def test_calls_of_the_package_beside_streams_of_the_same_connection(self) -> None:
        ended = run_python(BESIDE)
        assert ended.returncode == 0, ended.stderr

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
    def test_a_forked_child_hears_of_its_own(self) -> None:
        program = (
            "import asyncio, os\n"
            "from tests.transport.test_iroh_callbacks import _native\n"
            "table, callback = _native()\n"
            "async def wait():\n"
            "    loop = asyncio.get_running_loop()\n"
            "    future = loop.create_future()\n"
            "    callback(table.insert((loop, future)), 1)\n"
            "    return await asyncio.wait_for(future, 10)\n"
            "assert asyncio.run(wait()) == 1\n"
            "child = os.fork()\n"
            "code = asyncio.run(wait())\n"
            "if not child: os._exit(40 + code)\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 41\n"
        )
        ended = run_python(program, "-W", "ignore")
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("module", [None, driver.module])
def test_a_package_that_is_made_differently_is_left_alone(module: Any) -> None:
    assert not iroh_callbacks.install(module, SimpleNamespace())
