"""A bar on stderr for work whose steps can be counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ssdcam.cli import console

T = TypeVar("T")


@contextmanager
def counted(items: Sequence[T], what: str) -> Iterator[Iterator[T]]:
    """The items one by one, with how many are done, the rate and the time left where someone sees it.

    Args:
        items: what to go through.
        what: is done to them, in a word.
    """
    if len(items) < 2 or not console.shows_progress():
        yield iter(items)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")  # there is none before the second

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True)
    with bar:
        yield iter(bar.track(items, description=what))
