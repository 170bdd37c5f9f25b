"""What a command reads and writes: names that cannot be, files that would be lost; and at the end, what was written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from ssdcam.addresses import is_url, redact
from ssdcam.cli import console
from ssdcam.errors import WrongUsageError
from ssdcam.files import STREAMS, exists, is_file, is_folder, not_a_folder, same_file

if TYPE_CHECKING:
    from ssdcam.media.crops import CropFolder


def files_read(detection: Mapping[str, Any]) -> list[Path]:
    """The files that the detection options name, which no output may replace."""
    return [Path(name) for name in (detection["model"], detection["labels"]) if name]


def check_files(
    inputs: Sequence[Path], records: Sequence[str], stats: Path | None = None, outputs: Sequence[Path] = ()
) -> list[Path]:
    """Look at the files that are written beside the output.

    Args:
        inputs: what is read.
        records: ``--records``.
        stats: ``--stats``.
        outputs: what else is written.

    Returns:
        Those of ``records`` and ``stats`` that exist already.

    Raises:
        WrongUsageError: one is an input or another output, its folder is not there or cannot be made, or records
            cannot be of that kind.
    """
    from ssdcam.records import records_place

    places = [records_place(target) for target in records]
    folders = [path for path, is_a_folder in places if is_a_folder]
    files = [*(path for path, is_a_folder in places if not is_a_folder), *([stats] if stats else [])]
    for folder in folders:
        if (above := not_a_folder(folder)) is not None:
            raise WrongUsageError(f"{folder}: cannot be made, as {above} is no folder")
    for file in files:
        if not is_folder(file.parent):
            raise WrongUsageError(f"{file}: there is no folder {file.parent}")
        if any(same_file(file, source) for source in inputs):
            raise WrongUsageError(f"{file}: is an input; give another name")
    taken = {_whole(output) for output in outputs}
    for file in files:
        if _whole(file) in taken and (is_file(file) or is_folder(file) or not exists(file)):
            raise WrongUsageError(f"{file}: two outputs cannot have one name")
        taken.add(_whole(file))
    # Annotated copies may lie among files of records, and so may pictures that are read.
    taken = {_whole(file) for file in (*files, *(output for output in outputs if output.suffix))}
    for folder in folders:
        if taken & {_whole(place) for place in (folder, *folder.parents)}:
            raise WrongUsageError(f"{folder}: two outputs cannot have one name")
        taken.add(_whole(folder))
    # What is no regular file, such as /dev/null, loses nothing, and neither does what is printed to.
    return [file for file in files if is_file(file) and file not in STREAMS]


def _whole(path: Path) -> str:
    """The same for all names of a file, be it there or not."""
    return os.path.normcase(os.path.realpath(path))


def refuse_addresses(inputs: Sequence[str], advice: str) -> None:
    """Files are to be read, and an address is none.

    Args:
        inputs: as typed.
        advice: what to do instead, with ``{}`` for the address.

    Raises:
        WrongUsageError: one is an address.
    """
    for url in inputs:
        if is_url(url) and not exists(Path(url)):
            raise WrongUsageError(f"{redact(url)}: {advice.format(redact(url))}")


def agree_on_overwriting(existing: Sequence[Path], yes: bool) -> None:
    """Refuse or ask before the work, not in the middle of it.

    Raises:
        WrongUsageError: something exists, and nobody is there to be asked.
    """
    if not existing or yes:
        return
    what = f"{existing[0]} exists" + (f", and {len(existing) - 1} more" if len(existing) > 1 else "")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUsageError(f"{what}: pass -y to overwrite")
    if not click.confirm(f"{console.printable(what)}. Overwrite?", err=True):
        raise click.exceptions.Exit(2)


def tell_at_end(stack: ExitStack, summary: Callable[[], str]) -> None:
    """Print a summary, unless it is empty, once all that the stack holds from now on is closed.

    Not of a run that failed: whatever it left, the error says more. One that was stopped is told of.
    """

    def tell(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        failed = isinstance(error, Exception) and not isinstance(error, click.exceptions.Exit)
        text = "" if failed or console.is_quiet() else summary()
        if text:
            console.tell(text)

    stack.push(tell)


def wrote(
    output: str | Path | None, records: Sequence[str], crops: CropFolder | None, stats: Path | None = None
) -> str:
    """Which of the places that results were to go to are there, in a line; empty if none is."""
    from ssdcam.records import records_place

    cut = crops.folder if crops and crops.written else None  # what is there may be an older run's
    places = [output, *(records_place(target)[0] for target in records), cut, stats]
    there = [str(place) for place in places if place and exists(Path(place))]
    return console.printable(f"wrote {', '.join(there)}") if there else ""
