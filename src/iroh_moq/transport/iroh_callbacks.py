"""Keeps garbage from being collected inside the ``iroh`` package's callbacks.

The library calls back with a connection's lock held. The package's callback is Python, so a collection can
begin in it; if that finds a stream or an operation of the same connection, it frees it, which waits for the very
lock: the thread waits for itself, and soon everything else for it. So collections wait until callbacks are over.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

from iroh import iroh_ffi

__all__ = ["forget_abandoned", "install"]


class _GarbageWaits:
    """A block during which no garbage is collected, in any thread, however many threads are in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._enabled = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._enabled:
                gc.enable()


_garbage_waits = _GarbageWaits()

_abandoned: list[object] = []
"""What waited in loops that have been closed: it must not be freed in a callback either."""


def install(ffi: Any = iroh_ffi) -> bool:
    """Replaces the callback of the package's module; tells whether it knows the one that is there."""
    try:
        waiting = ffi._UniffiContinuationHandleMap
        resume = ffi._uniffi_set_future_result
        kind = ffi._UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK
        before = ffi._uniffi_continuation_callback
    except AttributeError:
        return False

    @kind  # type: ignore[untyped-decorator]
    def callback(handle: int, outcome: int) -> None:
        with _garbage_waits:
            waiter = waiting.remove(handle)
            loop, future = waiter
            try:
                loop.call_soon_threadsafe(resume, future, outcome)
            except RuntimeError:
                # The loop was closed with this under way.
                _abandoned.append(waiter)

    # The library may hold on to the one before.
    callback.before = before
    ffi._uniffi_continuation_callback = callback
    return True


def forget_abandoned() -> None:
    """Frees what closed loops were waiting for; not to be called in a callback."""
    _abandoned.clear()
