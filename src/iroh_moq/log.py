"""Logging: one logger for each layer, and on each record the fields that say what it is about.

The loggers are ``iroh_moq.moq``, ``.actor``, ``.router``, ``.session``, ``.lite.publisher``,
``.lite.subscriber``, ``.lite.receiving`` and ``.tasks``. The fields are attributes of the records:
``peer`` (the id), ``broadcast`` and ``track`` (names), ``reason`` (of a refusal); each is there only
where it is known.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

__all__ = ["FIELDS", "JsonFormatter", "TextFormatter", "fields"]

FIELDS = ("peer", "broadcast", "track", "reason")


def fields(
    *, peer: object = None, broadcast: str | None = None, track: str | None = None, reason: str | None = None
) -> dict[str, str]:
    """The ``extra`` of a record that is about these."""
    known = {"peer": peer, "broadcast": broadcast, "track": track, "reason": reason}
    return {name: str(value) for name, value in known.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """Records as JSON objects, one on each line.

    ``time`` (ISO 8601, UTC), ``level``, ``logger`` and ``message``; where they are known, ``peer``,
    ``broadcast``, ``track`` and ``reason``; and ``exception``, the traceback, where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = str(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """Records as lines of text. What a peer has put into one cannot control a terminal, or fake another line."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without the traceback that may follow it."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in line)
