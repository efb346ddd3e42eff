"""Three network namespaces in a row: one for each peer, and one between them that all packets pass."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

__all__ = ["Networks", "are_possible", "inside"]

_LEFT, _MIDDLE, _RIGHT = "10.213.1", "10.213.3", "10.213.2"


def are_possible() -> bool:
    """Whether this machine lets us: it takes Linux, root and the command ``ip``."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"interop{os.getpid()}probe"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return False
    _run(f"ip netns del {name}")
    return True


@dataclass(frozen=True)
class Networks:
    """Their names, and the addresses in them."""

    left: str
    middle: str
    right: str
    left_address: str = f"{_LEFT}.2"
    right_address: str = f"{_RIGHT}.2"
    to_left: tuple[str, ...] = (f"{_LEFT}.1", f"{_LEFT}.3", f"{_LEFT}.4")
    """The addresses in the middle that the left sees packets come from: one, and others to change to."""
    to_right: str = f"{_RIGHT}.1"
    middle_address: str = f"{_MIDDLE}.1"
    """Where both reach the middle; that forwards nothing from one to the other."""

    @classmethod
    def make(cls, stack: ExitStack) -> Networks:
        """Makes them, until the stack is closed."""
        names = [f"interop{os.getpid()}{end}" for end in ("a", "m", "b")]
        networks = cls(left=names[0], middle=names[1], right=names[2])
        for name in names:
            _run(f"ip netns add {name}")
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            _run(f"ip -n {name} link set lo up")
        _run(f"ip -n {networks.middle} addr add {networks.middle_address}/32 dev lo")
        for end, device, far, near in (
            (networks.left, "left", networks.left_address, networks.to_left),
            (networks.right, "right", networks.right_address, (networks.to_right,)),
        ):
            _run(f"ip -n {networks.middle} link add {device} type veth peer name eth0 netns {end}")
            for address in near:
                _run(f"ip -n {networks.middle} addr add {address}/24 dev {device}")
            _run(f"ip -n {end} addr add {far}/24 dev eth0")
            _run(f"ip -n {networks.middle} link set {device} up")
            _run(f"ip -n {end} link set eth0 up")
            _run(f"ip -n {end} route add default via {near[0]}")
        return networks


def inside(namespace: str, command: list[str]) -> list[str]:
    """A command that runs in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
