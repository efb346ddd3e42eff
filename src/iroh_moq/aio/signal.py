"""An edge-triggered event: "something changed, look again"."""

from __future__ import annotations

import asyncio

__all__ = ["Signal"]


class Signal:
    """Wakes everyone who waits now.

    The pattern is: look at the state, and if it is not what you want, wait and look again. There
    is no state here to go stale, and nothing is allocated while nobody waits.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] | None = None

    def notify(self) -> None:
        """Wakes all waiters. Costs one truth test when there are none."""
        if self._waiters:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def waited(self) -> bool:
        """Whether anybody is waiting."""
        return bool(self._waiters)

    def future(self) -> asyncio.Future[None]:
        """A future of the next :meth:`notify`, to wait for together with other things.

        It counts from this call on, where a task made of :meth:`wait` counts only from its start.
        """
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """Lets go of a future that nobody waits for any more."""
        waiter.cancel()
        if self._waiters and waiter in self._waiters:
            self._waiters.remove(waiter)

    def notify_threadsafe(self) -> None:
        """As :meth:`notify`, from a finalizer, which may run on any thread or after the loop."""
        for waiter in list(self._waiters or ()):
            loop = waiter.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.notify)
                return

    async def wait(self) -> None:
        """Returns at the next :meth:`notify`. Cancelling is safe."""
        waiter = self.future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.forget(waiter)
            raise
