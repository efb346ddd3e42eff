"""What keeps changing on a terminal while a command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["line", "table"]


@contextmanager
def line(text: Callable[[], str]) -> Iterator[None]:
    """Shows a text on standard error, as it is from moment to moment, while the block runs."""
    with Live(
        get_renderable=lambda: Text(text(), style="dim"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    ):
        yield


Update = Callable[[Iterable[Iterable[str]], str], None]


@contextmanager
def table(title: str, columns: Iterable[str]) -> Iterator[Update]:
    """Shows a table on standard output; gives the block a function that sets its rows and its caption."""
    with Live(auto_refresh=False) as live:

        def update(rows: Iterable[Iterable[str]], caption: str) -> None:
            shown = Table(title=Text(title), caption=Text(caption))
            for index, column in enumerate(columns):
                shown.add_column(column, justify="right" if index else "left")
            for row in rows:
                shown.add_row(*map(Text, row))
            live.update(shown, refresh=True)

        yield update
