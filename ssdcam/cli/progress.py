"""Bars on stderr: for work whose steps can be counted, for downloads, for training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from ssdcam.cli import console

if TYPE_CHECKING:
    from ssdcam.training.hooks import Progress as Training

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
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True) as shown:
        yield iter(shown.track(items, description=what))


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A plain bar, where someone sees it.

    Args:
        what: is being done.
        total: steps of it.

    Yields:
        What is told how many are done.
    """
    if not console.shows_progress():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), redirect_stdout=False, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


@contextmanager
def training() -> Iterator[Callable[[Training], None]]:
    """A bar over all steps with epoch, loss, best mAP, rate and time left, where someone sees it; it stays.

    Yields:
        What is told how far the run is.
    """
    if not console.shows_progress():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  mAP {task.fields[best]}  {task.fields[rate]:.0f} photos/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as shown:
        task = shown.add_task("", total=None, epoch="", loss="-", best="-", rate=0.0)

        def show(run: Training) -> None:
            shown.update(
                task, completed=run.step, total=run.steps, epoch=f"{run.epoch}/{run.epochs}", loss=f"{run.loss:.3f}",
                rate=run.photos_per_second, best="-" if run.best is None else f"{run.best:.3f}",
            )  # fmt: skip

        yield show


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
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True) as shown:
        task = shown.add_task("", completed=done, total=None)  # what an earlier run got is no speed of this one
        yield lambda done, total: shown.update(task, completed=done, total=total)
