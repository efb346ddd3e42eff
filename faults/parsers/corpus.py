"""The corpus: honest inputs, and those that once found something. A file to each target.

A line is an input in hex, then ``#`` and what it is. Add the line that a failure prints.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "read_corpus", "streams"]

FOLDER = Path(__file__).parents[1] / "corpus"


def read_corpus(target: str, folder: Path = FOLDER) -> list[bytes]:
    """The inputs for a target; at least an empty one."""
    path = folder / f"{target.replace(' ', '-')}.txt"
    if not path.exists():
        return [b""]
    return [bytes.fromhex(line.partition("#")[0]) for line in path.read_text(encoding="utf-8").splitlines() if line]


def streams(folder: Path = FOLDER) -> dict[str, list[bytes]]:
    """The inputs for each decoder of streams."""
    return {path.stem: read_corpus(path.stem, folder) for path in sorted(folder.glob("*Decoder.txt"))}
