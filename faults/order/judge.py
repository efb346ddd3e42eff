"""What every reader must have been given or told, whatever has happened."""

from __future__ import annotations

from .plan import Fault, Plan, ReaderPlan
from .read import Reader

__all__ = ["CLAIMS", "cut_off", "has_gap", "judge"]

_NO_DUPLICATES = "each group comes once, in ascending order, with the frames that were written"
_RELIABLE = "a reliable reader that is told of no error has got everything"
_IN_A_ROW = "a reliable reader misses nothing before the error it is told of"
_UNTOUCHED = "whom no fault touches, no error reaches"
_TOLD = "every reader is told how the track ends"
_FINISHED = "a track ends well only if its publisher has finished it"
_LATEST = "a live reader gets the latest group"

CLAIMS = [
    _NO_DUPLICATES, _RELIABLE, _IN_A_ROW, _UNTOUCHED, _TOLD, _FINISHED, _LATEST, "everything comes to an end",
    "no task fails", "no error goes unseen", "nothing is left",
]  # fmt: skip


def judge(plan: Plan, reader: Reader) -> list[tuple[str, str]]:
    """What was wrong, by claim."""
    record, who = reader.record, f"{reader.plan.way} reader of {reader.plan.track} at {reader.plan.subscriber}"
    written = sorted(record.groups)
    wrong = [(_NO_DUPLICATES, f"{who}: {text}") for text in reader.wrong]
    if reader.left:
        return wrong
    if not reader.ended and reader.error is None:
        wrong.append((_TOLD, f"{who} still waits after {len(reader.groups)} of {len(written)} groups"))
    if reader.error is not None and not any(_touches(fault, reader.plan) for fault in plan.faults):
        wrong.append((_UNTOUCHED, f"{who}: {reader.error!r}"))
    if reader.ended and not record.finished:
        wrong.append((_FINISHED, f"{who} has got {reader.groups}"))
    if reader.reliable:
        if reader.ended and reader.error is None and sorted(reader.complete) != written:
            wrong.append((_RELIABLE, f"{who}: {sorted(reader.complete)} of {written}"))
        if has_gap(reader) and not cut_off(plan, reader):
            wrong.append((_IN_A_ROW, f"{who}: {reader.groups} of {written}"))
    elif reader.ended and written and written[-1] not in reader.groups:
        wrong.append((_LATEST, f"{who}: {reader.groups} of {written}"))
    return wrong


def has_gap(reader: Reader) -> bool:
    """Whether a reliable reader in order has missed a group before one that it was given."""
    if not reader.reliable or reader.plan.way.endswith("arrivals"):
        return False
    return reader.groups != sorted(reader.record.groups)[: len(reader.groups)]


def cut_off(plan: Plan, reader: Reader) -> bool:
    """Whether whoever serves a reader may have given up the track itself, by an abort or for want of its own source.

    It resets the groups that are on their way then, and a stream that is reset before its header has
    come does not say which group is missing. So the last groups before the error may have a gap: a
    limit of the protocol that is known, and counted instead of judged.
    """
    return any(
        (fault.kind == "abort" or (fault.kind == "abort track" and fault.track == reader.plan.track))
        or (plan.relay and fault.link == -1)
        for fault in plan.faults
    )


def _touches(fault: Fault, reader: ReaderPlan) -> bool:
    """Whether a fault may reach a reader at all."""
    if fault.kind in ("abort", "unpublish"):
        return True
    if fault.kind == "abort track":
        return fault.track == reader.track
    return fault.link in (-1, reader.subscriber)
