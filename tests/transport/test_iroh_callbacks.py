"""No garbage is collected in the package's callbacks: that has them wait for themselves."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from iroh import iroh_ffi

from iroh_moq.transport import iroh_callbacks


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
    package: Any = iroh_ffi
    handle = package._UniffiContinuationHandleMap.insert((loop, future))
    package._uniffi_continuation_callback(handle, 0)


@pytest.mark.parametrize("enabled", [True, False])
def test_collecting_goes_on_as_it_was(enabled: bool) -> None:
    loop = _Loop()
    if not enabled:
        gc.disable()
    try:
        _call_back(loop)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert loop.enabled == [False]


def test_callbacks_in_several_threads() -> None:
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


def test_what_a_closed_loop_waited_for_is_not_freed_in_the_callback() -> None:
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


def test_a_package_that_is_made_differently_is_left_alone() -> None:
    assert not iroh_callbacks.install(SimpleNamespace())
