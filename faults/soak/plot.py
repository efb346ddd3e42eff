"""The samples as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .counts import Series

__all__ = ["save_plot"]

_INK = "#333333"
_LINE = "#0072B2"

_PANELS: tuple[tuple[str, str, float], ...] = (
    ("resident", "resident memory, MiB", 1 << 20),
    ("blocks", "blocks of memory, thousands", 1000),
    ("objects", "objects and handles", 1),
    ("allocated", "memory in use, MiB", 1 << 20),
    ("tasks", "tasks", 1),
    ("files", "file descriptors", 1),
)


def save_plot(samples: Series, path: Path) -> bool:
    """Draws a panel to each count over the time; whether it could."""
    try:
        import matplotlib  # noqa: PLC0415, ICN001 - all but this works without it

        matplotlib.use("Agg")
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    figure = Figure(figsize=(13, 6))
    axes = figure.subplots(2, 3, squeeze=False)
    minutes = [seconds / 60 for seconds in samples.row("seconds")]
    for axis, (name, title, unit) in zip(axes.flat, _PANELS, strict=True):
        values = [value / unit for value in samples.row(name)]
        _draw(axis, minutes, values, title)
    figure.tight_layout(h_pad=2, w_pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")
    return True


def _draw(axis: Any, minutes: list[float], values: list[float], title: str) -> None:
    axis.plot(minutes, values, color=_LINE, linewidth=1.4)
    axis.set_ylim(0, max(values) * 1.3 or 1)
    axis.set_title(title, fontsize=10, loc="left", color=_INK)
    axis.set_xlabel("minutes", fontsize=8, color=_INK)
    axis.tick_params(labelsize=8, colors=_INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
