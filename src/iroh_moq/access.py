"""Who may do what: what one peer may announce and learn, and whom one broadcast is for.

Two questions decide on everything that passes between us and a peer. What may the *peer* do at all?
Its `Access` says so, for as long as its session lasts. For whom is the *broadcast*? Its `Audience`
says so, for as long as it is published. A peer needs both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .errors import InvalidType
from .model.broadcast import BroadcastState
from .model.path import has_prefix, normalize_path

__all__ = ["EVERYBODY", "EVERYTHING", "Access", "Audience", "Offer", "check_access"]


@dataclass(frozen=True, slots=True)
class Access:
    """What a peer may do in a session.

    A prefix stands for the broadcast of that name and all below it: ``room`` for ``room`` and
    ``room/alice``, never for ``roommates``.

    Args:
        publish: prefixes of the names that the peer may announce to us. What it announces besides
            is ignored. None for every name, an empty collection for none.
        subscribe: prefixes of the names of ours that the peer learns of and may subscribe to; for
            it, others do not exist. None for every name, an empty collection for none.

    Raises:
        InvalidType, InvalidArgument: the prefixes are no collection of names (a single string is none).
    """

    publish: Collection[str] | None = None
    subscribe: Collection[str] | None = None

    def __post_init__(self) -> None:
        for what in ("publish", "subscribe"):
            object.__setattr__(self, what, _prefixes(getattr(self, what), what))

    def may_publish(self, name: str) -> bool:
        """Whether the peer may announce a broadcast of that (normalised) name to us."""
        return self.publish is None or _covered(name, self.publish)

    def may_subscribe(self, name: str) -> bool:
        """Whether the peer may learn of, and subscribe to, a broadcast of ours of that (normalised) name."""
        return self.subscribe is None or _covered(name, self.subscribe)

    def __and__(self, other: Access) -> Access:
        """What both allow."""
        return Access(_both(self.publish, other.publish), _both(self.subscribe, other.subscribe))

    def within(self, other: Access) -> bool:
        """Whether this allows nothing that the other does not."""
        return _within(self.publish, other.publish) and _within(self.subscribe, other.subscribe)


def _prefixes(value: Collection[str] | None, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise InvalidType(f"{what} must be a collection of prefixes or None, not {type(value).__name__}")
    return tuple(dict.fromkeys(normalize_path(prefix, f"prefix in {what}", allow_empty=True) for prefix in value))


def _covered(name: str, prefixes: Collection[str]) -> bool:
    return any(has_prefix(name, prefix) for prefix in prefixes)


def _both(one: Collection[str] | None, other: Collection[str] | None) -> Collection[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return [name for name in one if _covered(name, other)] + [name for name in other if _covered(name, one)]


def _within(one: Collection[str] | None, other: Collection[str] | None) -> bool:
    return other is None or (one is not None and all(_covered(prefix, other) for prefix in one))


EVERYTHING = Access()
"""A peer that may do everything."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a broadcast is for, by the ids of peers as text; None for everybody.

    ``allow`` are those who may subscribe, ``announce_to`` those who learn of it. Where only
    ``allow`` is given, the same learn of it.
    """

    allow: frozenset[str] | None = None
    announce_to: frozenset[str] | None = None

    @classmethod
    def of(cls, allow: frozenset[str] | None, announce_to: frozenset[str] | None) -> Audience:
        """The audience that the arguments of `Moq.publish` mean."""
        return cls(allow, allow if announce_to is None else announce_to)

    def may_subscribe(self, peer: str) -> bool:
        """Whether a peer may subscribe."""
        return self.allow is None or peer in self.allow

    def learns(self, peer: str) -> bool:
        """Whether the broadcast is announced to a peer."""
        return self.announce_to is None or peer in self.announce_to


EVERYBODY = Audience()
"""No limit at all."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A published broadcast that is not for everybody."""

    broadcast: BroadcastState
    audience: Audience


def check_access(access: Access | None) -> Access:
    """What a caller has given as an access; None is everything.

    Raises:
        InvalidType: it is no Access.
    """
    if access is None:
        return EVERYTHING
    if not isinstance(access, Access):
        raise InvalidType(f"access must be an Access, not {type(access).__name__}")
    return access
