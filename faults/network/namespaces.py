"""Network namespaces that only this process can reach, and that are gone when it is done."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

__all__ = ["Namespace", "make", "missing"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """A network of its own with one machine in it, and this process at the other end of its only wire."""

    name: str
    there: str
    here: str

    @property
    def inside(self) -> list[str]:
        """What to put before a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    def change_address(self) -> None:
        """Gives the machine there another address, and takes the old one."""
        other = self.there.rsplit(".", 1)[0] + ".77"
        # In this order, as the first address of a network takes the others with it.
        _run(f"ip -n {self.name} addr del {self.there}/24 dev eth0")
        _run(f"ip -n {self.name} addr add {other}/24 dev eth0")


def missing() -> str | None:
    """Why there can be none here, if that is so."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "the command `ip` is not installed"
    name = f"faults{os.getpid()}try"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode != 0:
        return "this system lets nobody make network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


def make(stack: ExitStack) -> Namespace:
    """Makes one, which the stack removes."""
    number = next(_numbers)
    name, link = f"faults{os.getpid()}n{number}", f"ft{os.getpid() % 100_000}n{number}"
    # Another process at the same time must not have the same network.
    network = f"10.{200 + os.getpid() % 50}.{number % 250}"
    _run(f"ip netns add {name}")
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
    _run(f"ip link add {link} type veth peer name eth0 netns {name}")
    _run(f"ip addr add {network}.1/24 dev {link}")
    _run(f"ip link set {link} up")
    _run(f"ip -n {name} addr add {network}.2/24 dev eth0")
    _run(f"ip -n {name} link set eth0 up")
    _run(f"ip -n {name} link set lo up")
    return Namespace(name, f"{network}.2", f"{network}.1")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
