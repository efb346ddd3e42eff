"""Very many small frames, written a few in each turn of the loop: what once could end a connection.

The QUIC library ends a connection when over 1,024 separate pieces of one stream wait to be put in order
("too many gaps in stream buffer"), and each small write can become such a piece. As a program this runs a
publisher and a subscriber in processes of their own, and can lose packets between them; for that it needs
to be root on Linux, and makes network namespaces so that all packets take the way on which some are lost:

    python -m tests.small_frames --frames 1000000 --groups 10 --loss 5
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from iroh import Endpoint, EndpointAddr, EndpointBuilder, EndpointId, RelayMode

from iroh_moq import (
    ALPN,
    BroadcastProducer,
    Cache,
    GroupConsumer,
    GroupProducer,
    MoqSession,
    TrackConsumer,
    TrackProducer,
)
from iroh_moq.lite import sending

SIZE = 100
_AHEAD = 4 << 20
"""Bytes that the writer may be ahead of what has been sent, for the sake of memory."""


def new_track() -> tuple[BroadcastProducer, TrackProducer]:
    broadcast = BroadcastProducer(cache=Cache(max_bytes=1 << 32))
    return broadcast, broadcast.create_track("frames")


def frame(group: int, index: int) -> bytes:
    return (group.to_bytes(2, "big") + index.to_bytes(8, "big")).ljust(SIZE, b".")


async def write(track: TrackProducer, groups: int, frames: int, per_turn: int) -> None:
    """Writes a few frames to each group in each turn of the loop, as fast as it turns."""
    made: list[GroupProducer] = [track.create_group(sequence) for sequence in range(groups)]
    for start in range(0, frames, per_turn):
        for group in made:
            for index in range(start, min(start + per_turn, frames)):
                group.write_frame(frame(group.sequence, index))
        await asyncio.sleep(0)
        if start // per_turn % 1000 == 0:
            for group in made:
                await group.drained(_AHEAD)
    for group in made:
        group.finish()


async def read(track: TrackConsumer, groups: int, frames: int) -> None:
    """Reads all groups at once, and sees that each frame is there, and where it should be."""

    async def read_group(group: GroupConsumer) -> None:
        index = 0
        while batch := await group.read_frames():
            for data in batch:
                assert data == frame(group.sequence, index), f"frame {index} of group {group.sequence}: {data!r}"
                index += 1
        assert index == frames, f"{index} frames"

    async with asyncio.TaskGroup() as tasks:
        for _ in range(groups):
            group = await track.recv_group()
            assert group is not None
            tasks.create_task(read_group(group))


# As a program


async def _endpoint(host: str) -> Endpoint:
    builder = EndpointBuilder()  # type: ignore[no-untyped-call]
    builder.apply_minimal()
    builder.relay_mode(RelayMode.disabled())
    builder.alpns([ALPN])
    builder.bind_addr(f"{host}:0")
    return await builder.bind()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


async def _publish(arguments: argparse.Namespace) -> None:
    endpoint = await _endpoint(arguments.host)
    _say(id=str(endpoint.id()), port=int(endpoint.bound_sockets()[0].rpartition(":")[2]))
    incoming = await endpoint.accept_next()
    assert incoming is not None
    session = await MoqSession.session_accept(await (await incoming.accept()).connect())
    if arguments.unprotected:
        sending._SMALL = 0
    broadcast, track = new_track()
    session.publish("cam", broadcast.consume())
    await track.used()
    await write(track, arguments.groups, arguments.frames, arguments.per_turn)
    track.finish()
    error = await session.closed()
    stats = session.stats()
    _say(
        publisher=str(error),
        packets=stats.sent_packets,
        lost=stats.lost_packets,
        bytes_per_packet=stats.sent_bytes // max(stats.sent_packets, 1),
    )


async def _subscribe(arguments: argparse.Namespace) -> None:
    endpoint = await _endpoint(arguments.host)
    remote = EndpointAddr(EndpointId.from_string(arguments.id), None, [arguments.address])
    session = await MoqSession.session_connect(await endpoint.connect(remote, ALPN))
    broadcast = await session.subscribe("cam")
    track = broadcast.subscribe_track("frames", ordered=True, start_group=0)
    start = time.monotonic()
    outcome = "whole"
    try:
        await read(track, arguments.groups, arguments.frames)
    except BaseException as error:
        outcome = repr(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else repr(error)
    taken = time.monotonic() - start
    total = arguments.frames * arguments.groups
    paths = [path.remote for path in session.stats().paths]
    _say(outcome=outcome, seconds=round(taken, 2), frames_per_second=round(total / taken), paths=paths)
    session.close()
    await session.closed()
    await endpoint.close()


def _lossy(left: socket.socket, right: socket.socket, target: tuple[str, int], loss: float, delay: float) -> None:
    """Carries packets between whoever sends to the left, and the target; loses some both ways, and delays all."""
    peer: Any = None
    left.setblocking(False)
    right.setblocking(False)
    chance = random.Random(1).random
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        patience = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        for each in select.select((left, right), (), (), patience)[0]:
            with suppress(BlockingIOError):
                for _ in range(64):
                    data, source = each.recvfrom(65536)
                    if each is left:
                        peer = source
                    if chance() >= loss:
                        waiting.append((time.monotonic() + delay, right if each is left else left, data))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, towards, data = waiting.popleft()
            with suppress(BlockingIOError):
                towards.sendto(data, target if towards is right else peer)


_made = itertools.count()


def _namespaces(stack: ExitStack) -> tuple[list[str], list[str]]:
    """Two network namespaces that only this process can reach: their names, and its addresses towards them."""
    names, here = [], []
    for index in (1, 2):
        # The kernel takes its time to remove those of the transfer before.
        number = next(_made)
        name = f"small{os.getpid()}n{number}"
        link = f"sf{os.getpid() % 100_000}n{number}"
        commands = [
            f"ip netns add {name}",
            f"ip link add {link} type veth peer name eth0 netns {name}",
            f"ip addr add 10.213.{index}.1/24 dev {link}",
            f"ip link set {link} up",
            f"ip -n {name} addr add 10.213.{index}.2/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set lo up",
        ]
        for command in commands:
            subprocess.run(command.split(), check=True)
            if command is commands[0]:
                stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        names.append(name)
        here.append(f"10.213.{index}.1")
    return names, here


def _start(stack: ExitStack, role: str, inside: list[str], host: str, rest: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*inside, sys.executable, "-m", "tests.small_frames", "--role", role, "--host", host, *rest],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    stack.callback(process.kill)
    return process


def _run(arguments: argparse.Namespace) -> bool:
    """One transfer; whether all came."""
    rest = ["--frames", str(arguments.frames), "--groups", str(arguments.groups), "--per-turn", str(arguments.per_turn)]
    rest += ["--unprotected"] if arguments.unprotected else []
    with ExitStack() as stack:
        if arguments.loss is None:
            publisher = _start(stack, "publish", [], "127.0.0.1", rest)
        else:
            names, here = _namespaces(stack)
            inside = [["ip", "netns", "exec", name] for name in names]
            publisher = _start(stack, "publish", inside[0], "10.213.1.2", rest)
        assert publisher.stdout is not None
        told = json.loads(publisher.stdout.readline())
        address = f"127.0.0.1:{told['port']}"
        if arguments.loss is not None:
            sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
            for each, host in zip(sockets, here, strict=True):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
                each.bind((host, 0))
            child = os.fork()
            if child == 0:
                _lossy(
                    sockets[1], sockets[0], ("10.213.1.2", told["port"]), arguments.loss / 100, arguments.delay / 1000
                )
            stack.callback(os.waitpid, child, 0)
            stack.callback(os.kill, child, 9)
            address = "{}:{}".format(*sockets[1].getsockname())
        subscribed = ["--id", told["id"], "--address", address]
        subscriber = (
            _start(stack, "subscribe", [], "127.0.0.1", rest + subscribed)
            if arguments.loss is None
            else _start(stack, "subscribe", inside[1], "10.213.2.2", rest + subscribed)
        )
        outcome = json.loads(subscriber.communicate()[0])
        rest_of_it = publisher.stdout.readline()
        print(
            {
                "loss": arguments.loss,
                "delay": arguments.delay,
                **outcome,
                **(json.loads(rest_of_it) if rest_of_it else {}),
            },
            flush=True,
        )
        return bool(outcome["outcome"] == "whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="of 100 bytes, in each group")
    parser.add_argument("--groups", type=int, default=1, help="that are written at once")
    parser.add_argument("--per-turn", type=int, default=3, help="frames of a group in each turn of the loop")
    parser.add_argument("--loss", type=float, help="per cent of the packets that are lost; without it, loopback")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds each way, where packets are lost")
    parser.add_argument(
        "--unprotected", action="store_true", help="write each turn's frames at once, to see that this can fail"
    )
    parser.add_argument("--times", type=int, default=1)
    for hidden in ("--role", "--host", "--id", "--address"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is not None:
        asyncio.run((_publish if arguments.role == "publish" else _subscribe)(arguments))
        return
    whole = sum(_run(arguments) for _ in range(arguments.times))
    print(f"{whole} of {arguments.times} transfers were whole")
    sys.exit(whole != arguments.times)


if __name__ == "__main__":
    main()
