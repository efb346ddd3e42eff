"""The results as a picture: what matters most, one panel each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .results import Cell, Results
from .table import show

__all__ = ["save_plot"]

_COLORS = {
    "iroh-moq": "#0072B2",
    "iroh-moq without driver": "#56B4E9",
    "rust": "#E69F00",
    "moq-rs": "#D55E00",
    "iroh": "#8C8C8C",
    "driver": "#009E73",
}
"""Told apart by those who see fewer colours, too."""

_OTHER = "#CC79A7"
_INK = "#333333"
_COLUMNS = 3

_BARS = (
    ("groups", "groups_per_second", "1 KB groups/s"),
    ("frames-100", "frames_per_second", "100-byte frames/s, 200 to a group"),
    ("frames-1k", "frames_per_second", "1 KB frames/s, 200 to a group"),
    ("bulk-1m", "megabytes_per_second", "MB/s, 1 MiB frames"),
    ("bulk-16k", "megabytes_per_second", "MB/s, 16 KiB frames"),
)
_RANGES = (
    ("latency-100", "latency in ms at 100 frames/s: p50 to p99"),
    ("latency-1000", "latency in ms at 1,000 frames/s: p50 to p99"),
)
_LINES = (
    ("delivered_per_second", "fan-out: frames delivered per second", "linear"),
    ("processor_per_frame", "fan-out: µs of processor time per delivered frame", "log"),
)
_THOUSANDS = "{x:,.0f}"
_FAN_OUT = "fan-out-"

Panel = Callable[[Any], None]


def save_plot(results: Results, path: Path) -> None:
    """Draws a panel for each of the workloads that were done."""
    done = {workload.name for workload in results.workloads}
    panels: list[Panel] = [_bars(results, *what) for what in _BARS if what[0] in done]
    panels += [_ranges(results, *what) for what in _RANGES if what[0] in done]
    counts = sorted(int(name.removeprefix(_FAN_OUT)) for name in done if name.startswith(_FAN_OUT))
    if len(counts) > 1:
        panels += [_lines(results, counts, *what) for what in _LINES]
    if not panels:
        return
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 2.9 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.tick_params(labelsize=8, colors=_INK)
        panel(axis)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    figure.tight_layout(h_pad=2, w_pad=2)
    figure.savefig(path, dpi=130, facecolor="white")


def _color(contender: str) -> str:
    return _COLORS.get(contender, _OTHER)


def _title(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left", color=_INK)


def _name_contenders(axis: Any, results: Results) -> None:
    axis.set_yticks(range(len(results.contenders)), results.contenders)
    axis.set_ylim(len(results.contenders) - 0.5, -0.5)


def _missing(axis: Any, y: int, cell: Cell | None) -> None:
    """Says at the left edge why there is no bar."""
    text = "not done" if cell is None else "FAILED"
    axis.annotate(
        text, (0, y), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        va="center", fontsize=8, color=_INK if cell is None else "#B00020",
    )  # fmt: skip


def _label(axis: Any, x: float, y: int, text: str) -> None:
    axis.annotate(
        text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=_INK
    )  # fmt: skip


def _bars(results: Results, workload: str, metric: str, title: str) -> Panel:
    """A bar for each contender to its median, and a line over its spread."""

    def draw(axis: Any) -> None:
        for y, contender in enumerate(results.contenders):
            cell = results.cell(contender, workload, metric)
            if cell is None or cell.failed is not None:
                _missing(axis, y, cell)
                continue
            axis.barh(y, cell.median, height=0.62, color=_color(contender))
            axis.plot([cell.low, cell.high], [y, y], color=_INK, linewidth=1.2)
            _label(axis, cell.high, y, show(cell.median))
        _name_contenders(axis, results)
        axis.margins(x=0.18)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(_THOUSANDS)
        axis.locator_params(axis="x", nbins=6)
        _title(axis, title)

    return draw


def _ranges(results: Results, workload: str, title: str) -> Panel:
    """A line for each contender from its p50 to its p99."""

    def draw(axis: Any) -> None:
        for y, contender in enumerate(results.contenders):
            p50, p99 = (results.cell(contender, workload, key) for key in ("p50", "p99"))
            if p50 is None or p99 is None or p50.failed is not None:
                _missing(axis, y, p50)
                continue
            color = _color(contender)
            axis.plot([p50.median, p99.median], [y, y], color=color, linewidth=3, alpha=0.45)
            axis.plot(p50.median, y, "o", color=color, markersize=7)
            axis.plot(p99.median, y, "|", color=color, markersize=12, markeredgewidth=2.5)
            _label(axis, p99.median, y, f"{show(p50.median)} to {show(p99.median)}")
        _name_contenders(axis, results)
        axis.margins(x=0.35)
        axis.set_xlim(left=0)
        _title(axis, title)

    return draw


def _lines(results: Results, counts: list[int], metric: str, title: str, scale: str) -> Panel:
    """How a number grows with the subscribers."""

    def draw(axis: Any) -> None:
        for contender in results.contenders:
            cells = [(count, results.cell(contender, f"{_FAN_OUT}{count}", metric)) for count in counts]
            points = [(count, cell) for count, cell in cells if cell is not None and cell.failed is None]
            if points:
                xs, ys = [count for count, _ in points], [cell.median for _, cell in points]
                lows, highs = [cell.low for _, cell in points], [cell.high for _, cell in points]
                axis.fill_between(xs, lows, highs, color=_color(contender), alpha=0.15, linewidth=0)
                axis.plot(xs, ys, "o-", color=_color(contender), markersize=4, linewidth=1.8, label=contender)
        axis.set_xscale("log")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.xaxis.minorticks_off()
        axis.set_xlabel("subscribers", fontsize=8, color=_INK)
        axis.set_yscale(scale)
        if scale == "linear":
            axis.set_ylim(bottom=0)
            axis.yaxis.set_major_formatter(_THOUSANDS)
        else:
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
            axis.tick_params(axis="y", which="minor", labelsize=8, colors=_INK)
        # Under the panel, where it hides no line.
        axis.legend(fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        _title(axis, title)

    return draw
