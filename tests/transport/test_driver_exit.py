"""Processes that end, or fork, while the native driver has everything under way."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.transport.ends import needs_driver
from tests.transport.programs import run_python

pytestmark = [
    needs_driver,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="ends and forks of POSIX"),
]

TIMES = int(os.environ.get("IROH_MOQ_REPEATED", "2"))
"""How often each way of ending is tried."""

PROGRAM = """
import asyncio, os, random, signal, sys, threading
from tests.transport.test_driver_loops import Held, busy

held = Held()

async def traffic():
    # Threads of the runtime have something to report at every moment.
    pair = held.pair
    async def echo():
        while True:
            send, recv = await pair[0].open_bi()
            await send.write(b"x" * 1000)
            send.finish()
            send.when_over(int)
            while await recv.read():
                pass
    async def answer():
        while True:
            send, recv = await pair[1].accept_bi()
            while data := await recv.read():
                await send.write(data)
            send.finish()
    held.tasks[3].cancel()
    held.tasks += [asyncio.ensure_future(echo()) for _ in range(5)] + [asyncio.ensure_future(answer())]
    await asyncio.sleep(random.random() * 0.05)

async def main():
    await busy(held)
    await traffic()
    await end()
"""

QUIET = """
import logging, warnings
logging.disable()
warnings.simplefilter("ignore", ResourceWarning)
"""

ENDS = {
    "sys.exit": ("async def end(): sys.exit(3)\nasyncio.run(main())", 3, False),
    "os._exit": ("async def end(): os._exit(4)\nasyncio.run(main())", 4, False),
    "unhandled": ("async def end(): raise KeyError('mine')\nasyncio.run(main())", 1, True),
    "returns": ("async def end(): pass\nasyncio.run(main())", 0, False),
    "interrupted": (
        "async def end(): os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(60)\nasyncio.run(main())",
        -signal.SIGINT,
        True,
    ),
    "killed": (
        "async def end(): os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)\nasyncio.run(main())",
        -signal.SIGTERM,
        False,
    ),
    "loop left open": (
        "async def end(): pass\nloop = asyncio.new_event_loop()\nloop.run_until_complete(main())\nsys.exit(5)",
        5,
        False,
    ),
    "loop closed": (
        "async def end(): pass\nloop = asyncio.new_event_loop()\nloop.run_until_complete(main())\nloop.close()\n"
        "sys.exit(6)",
        6,
        False,
    ),
    "loop running in another thread": (
        "async def end():\n"
        "    ready.set()\n"
        "    await asyncio.sleep(60)\n"
        "ready = threading.Event()\n"
        "threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()\n"
        "ready.wait()\nsys.exit(7)",
        7,
        False,
    ),
    "kept in a module": (
        "async def end(): pass\nloop = asyncio.new_event_loop()\nloop.run_until_complete(main())\n"
        "sys.held, sys.loop = held, loop\nsys.exit(8)",
        8,
        False,
    ),
}


def run(program: str) -> subprocess.CompletedProcess[str]:
    return run_python(QUIET + PROGRAM + program, "-X", "faulthandler")


@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends_as_it_was_told_to(end: str) -> None:
    program, code, speaks = ENDS[end]
    for _ in range(TIMES):
        ended = run(program)
        assert ended.returncode == code, ended.stderr
        if not speaks:
            assert ended.stderr == ""
        for word in ("panicked", "Fatal Python error", "Exception ignored", "Segmentation"):
            assert word not in ended.stderr


FORK = """
async def end():
    send, recv = held.streams[0], held.streams[1]
    child = os.fork()
    if child:
        # A wait in a thread: the loop has work to do meanwhile.
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        # The parent's connection is as it was.
        other, back = await held.pair[0].open_bi()
        await other.write(b"still here")
        other.finish()
        assert await back.read() == b"still here"
        sys.exit(os.waitstatus_to_exitcode(status))
    try:
        for call in (
            lambda: send.write_nowait(b"x"),
            recv.read_nowait,
            send.finish,
            send.acknowledged,
            held.pair[0].open_uni_nowait,
            held.pair[1].accept_uni_nowait,
            lambda: held.pair[0].send_datagram(b"x"),
            lambda: held.pair[0].close(0, ""),
            lambda: send.reset(1),
        ):
            try:
                call()
            except RuntimeError as error:
                assert "forked" in str(error)
            else:
                raise AssertionError(f"{call} did not fail")
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    CHILD

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("os._exit(9)", 9),
        ("held.streams.clear(); held.pair = None; import gc; gc.collect(); os._exit(10)", 10),
    ],
)
def test_a_forked_child_can_end_but_not_use_the_connection(child: str, code: int) -> None:
    for _ in range(TIMES):
        ended = run(FORK.replace("CHILD", child))
        assert ended.stderr == ""
        assert ended.returncode == code


def test_a_forked_child_can_close_the_loop_and_exit() -> None:
    program = """
async def end(): pass
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
child = os.fork()
if child == 0:
    # The end of what it has inherited, in the way of a program that ends.
    held.__init__()
    loop.close()
    sys.exit(12)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    for _ in range(TIMES):
        ended = run(program)
        assert ended.stderr == ""
        assert ended.returncode == 12
