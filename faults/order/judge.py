"""What every reader must have been given or told, whatever has happened."""

from __future__ import annotations

from .plan import Fault, Plan, ReaderPlan
from .read import Reader

__all__ = ["CLAIMS", "judge"]

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
        if not reader.plan.way.endswith("arrivals") and reader.groups != written[: len(reader.groups)]:
            wrong.append((_IN_A_ROW, f"{who}: {reader.groups} of {written}"))
    elif reader.ended and written and written[-1] not in reader.groups:
        wrong.append((_LATEST, f"{who}: {reader.groups} of {written}"))
    return wrong


def _touches(fault: Fault, reader: ReaderPlan) -> bool:
    """Whether a fault may reach a reader at all."""
    if fault.kind in ("abort", "unpublish"):
        return True
    if fault.kind == "abort track":
        return fault.track == reader.track
    return fault.link in (-1, reader.subscriber)
