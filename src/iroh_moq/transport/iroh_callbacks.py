"""How the ``iroh`` package's own calls hear of their progress.

The library calls back with a connection's lock held, and the package's callback is Python. That stops everything
for good in two ways, which replacing the callback prevents:

- It waits for the GIL while the thread that has it waits for the lock, in a call of the native driver. So where
  there is that driver, it takes the callback's place, and no Python runs under a lock.
- A garbage collection begins in it, finds a stream of the same connection, and frees it, which waits for the very
  lock. So without the driver, collections wait until callbacks are over.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from types import ModuleType
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


class _NativeWaiting:
    """In place of the package's table of what waits for a callback: the native driver has it."""

    def __init__(self, module: Any, before: Any) -> None:
        self._module = module
        self.remove = before.remove
        """For those that were asked with the callback before."""

    def insert(self, waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[int]]) -> int:
        """What a callback for this will be called with."""
        number: int = self._module.package_waits(*waiter)
        return number


def install(module: ModuleType | None, ffi: Any = iroh_ffi) -> bool:
    """Replaces the callback of the package's module; tells whether it knows the one that is there.

    Args:
        module: the native driver, if there is one.
        ffi: the package's module.
    """
    try:
        waiting = ffi._UniffiContinuationHandleMap
        resume = ffi._uniffi_set_future_result
        kind = ffi._UNIFFI_RUST_FUTURE_CONTINUATION_CALLBACK
        before = ffi._uniffi_continuation_callback
    except AttributeError:
        return False
    callback = _in_python(kind, waiting, resume) if module is None else kind(module.PROGRESS)
    # The library may hold on to the one before.
    callback.before = before
    if module is not None:
        ffi._UniffiContinuationHandleMap = _NativeWaiting(module, waiting)
    ffi._uniffi_continuation_callback = callback
    return True


def _in_python(kind: Any, waiting: Any, resume: Any) -> Any:
    """A callback in which no garbage is collected."""

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

    return callback


def forget_abandoned() -> None:
    """Frees what closed loops were waiting for; not to be called in a callback."""
    _abandoned.clear()
