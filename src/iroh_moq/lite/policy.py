"""What one peer may do, as the protocol asks for it, and where it reports what happens.

One `Policy` goes with each session. The publisher asks it what the peer may learn and subscribe to,
the subscriber what the peer may announce; both report refusals and add to the counters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ..access import EVERYTHING, Access, Offer
from ..errors import ErrorCode, MoqError
from ..limits import DEFAULT_LIMITS, Limits
from ..log import fields
from ..metrics import Counters, code_label
from ..model.broadcast import BroadcastConsumer
from ..model.origin import OriginConsumer
from ..refusals import Refusals
from .pace import Pace

__all__ = ["Policy", "Refused", "exceeded"]

_MALFORMED = frozenset(
    {
        ErrorCode.DECODE,
        ErrorCode.UNEXPECTED_STREAM,
        ErrorCode.BOUNDS_EXCEEDED,
        ErrorCode.DUPLICATE,
        ErrorCode.WRONG_SIZE,
        ErrorCode.PROTOCOL_VIOLATION,
        ErrorCode.UNEXPECTED_MESSAGE,
        ErrorCode.FRAME_TOO_LARGE,
    }
)
"""Codes for what no peer has reason to do, which is worth a warning."""

_REFUSALS = _MALFORMED | {
    ErrorCode.REQUIRED_EXTENSION,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.VERSION,
    ErrorCode.NOT_FOUND,
    ErrorCode.UNSUPPORTED,
}
"""Codes by which this side turns a peer's request down. With others, what it asked for has ended."""

NO_OFFERS: Mapping[str, Offer] = MappingProxyType({})


class Refused(MoqError):
    """The peer may not do that. ``reason`` is the word under which it is counted."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(code, message)
        self.reason = reason


def exceeded(limit: str, message: str) -> Refused:
    """The error for a peer that has reached a limit, by the limit's name."""
    return Refused(ErrorCode.BOUNDS_EXCEEDED, limit, message)


class Policy:
    """What the peer of one session may do, and how much of it.

    Args:
        peer: its id, as text.
        access: what it may do.
        offers: the published broadcasts that are not for everybody, by name, as they are now.
        counters: where what happens is counted.
        refusals: where refusals are counted and logged.
        limits: how much it may do.
    """

    __slots__ = ("access", "counters", "limits", "offers", "pace", "peer", "refusals")

    def __init__(
        self,
        peer: str,
        access: Access = EVERYTHING,
        offers: Mapping[str, Offer] = NO_OFFERS,
        counters: Counters | None = None,
        refusals: Refusals | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.peer = peer
        self.access = access
        self.offers = offers
        self.counters = counters or Counters()
        self.refusals = refusals or Refusals()
        self.limits = limits
        self.pace = Pace(limits, self.held)

    # What we offer to the peer

    def learnable(
        self, news: Iterable[tuple[str, BroadcastConsumer | None]]
    ) -> Iterator[tuple[str, BroadcastConsumer | None]]:
        """The news that the peer may hear."""
        for path, broadcast in news:
            if self.access.may_subscribe(path):
                yield path, broadcast
                if broadcast is not None:
                    self.counters.announcements_sent += 1

    def find(self, origin: OriginConsumer, path: str) -> BroadcastConsumer:
        """The broadcast that the peer asks for by its name.

        Raises:
            MoqError: it is not there (NotFound); or the peer may not know of it, which looks the
                same to the peer; or it knows of it and may not subscribe (Unauthorized).
        """
        if not path:
            raise MoqError(ErrorCode.NOT_FOUND, "no broadcast is named")
        announced = origin.consume_broadcast(path)
        offer = self.offers.get(path)
        if offer is not None and offer.broadcast.closed:
            offer = None
        if not self.access.may_subscribe(path):
            if announced is None and offer is None:
                raise _not_found(path)
            raise Refused(ErrorCode.NOT_FOUND, "hidden", f"broadcast {path!r} is not for this peer")
        if announced is not None:
            if offer is None or announced._state is not offer.broadcast or offer.audience.may_subscribe(self.peer):
                return announced
            raise Refused(ErrorCode.UNAUTHORIZED, "subscription", f"broadcast {path!r} is not for this peer")
        if offer is None or offer.audience.learns(self.peer):
            raise _not_found(path)
        if not offer.audience.may_subscribe(self.peer):
            raise Refused(ErrorCode.NOT_FOUND, "hidden", f"broadcast {path!r} is not for this peer")
        return BroadcastConsumer(offer.broadcast)

    # What the peer offers to us

    def may_announce(self, path: str, logger: logging.Logger) -> bool:
        """Whether what the peer announces may be heard; if not, that is counted and logged."""
        if self.access.may_publish(path):
            self.counters.announcements_received += 1
            return True
        text = f"{self.peer} announced {path!r}, which it may not publish"
        self.pace.refusals.take()
        self.refusals.add(logger, logging.WARNING, self.peer, "announcement", text, broadcast=path)
        return False

    # What was refused

    def refused(
        self,
        logger: logging.Logger,
        what: str,
        error: MoqError,
        *,
        level: int = logging.INFO,
        about: tuple[str, str] | None = None,
    ) -> None:
        """Something of the peer's was ended with an error of this side's.

        Args:
            logger: that of the layer.
            what: a word for it.
            error: says why.
            level: of the line in the log, where what the peer has sent is not worth a warning anyway.
            about: the names of the broadcast and the track, where there are any.
        """
        broadcast, track = about or (None, None)
        if isinstance(error, Refused):
            reason, level = error.reason, logging.WARNING
        elif error.code in _REFUSALS:
            reason = code_label(error.code)
            if error.code in _MALFORMED:
                level = logging.WARNING
        else:
            extra = fields(peer=self.peer, broadcast=broadcast, track=track)
            logger.info("%s of %s ended: %s", what, self.peer, error, extra=extra)
            return
        self.pace.refusals.take()
        text = f"{what} of {self.peer} refused: {error}"
        self.refusals.add(logger, level, self.peer, reason, text, broadcast=broadcast, track=track)

    def held(self, logger: logging.Logger, limit: str, what: str) -> None:
        """The peer has reached a limit, by the limit's name, and nothing was refused: it has to wait, or has less."""
        self.refusals.add(logger, logging.WARNING, self.peer, limit, f"{self.peer} {what}")


def _not_found(path: str) -> MoqError:
    return MoqError(ErrorCode.NOT_FOUND, f"no broadcast {path!r} is announced here")
