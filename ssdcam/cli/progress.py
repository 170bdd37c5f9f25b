"""Bars on stderr: for work whose steps can be counted, and for downloads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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


@contextmanager
def download() -> Iterator[Callable[[int, int | None], None]]:
    """A bar with size, rate and time left, where someone sees it and once something is downloaded.

    Yields:
        What is told the bytes that are there, and those of the whole if that is known.
    """
    if not console.shows_progress():
        yield lambda done, total: None
        return
    with ExitStack() as stack:
        update: Callable[[int, int | None], None] | None = None

        def show(done: int, total: int | None) -> None:
            nonlocal update
            update = update or stack.enter_context(_download_bar(done))
            update(done, total)

        yield show


@contextmanager
def _download_bar(done: int) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True) as bar:
        task = bar.add_task("", completed=done, total=None)  # what an earlier run got is no speed of this one
        yield lambda done, total: bar.update(task, completed=done, total=total)
