"""``ssdcam image``: objects in pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import console, options
from ssdcam.errors import ImageError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.media.images import Picture, PictureFolder
    from ssdcam.records import Record


@click.command("image")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="One JSON record a picture on stdout.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write annotated copies there, under their own names.",
)
@options.detection
@options.drawing
@options.yes
@options.verbosity
def command(
    paths: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    line_width: int | None,
    no_labels: bool,
    yes: bool,
    **detection: Any,
) -> None:
    """Find objects in pictures: files, folders, quoted globs, or - for paths on stdin.

    A picture that cannot be read is reported and the rest goes on; the exit code is then 1.
    """
    from ssdcam.media.drawing import Style, draw_detections
    from ssdcam.media.images import PictureFolder, find_pictures, read_image
    from ssdcam.records import Record, to_line

    pictures: Iterable[Picture | ImageError] = find_pictures(_arguments(paths))
    folder = PictureFolder(output, overwrite=yes) if output else None
    if "-" not in paths:
        pictures = list(pictures)
        if folder:
            folder = _agree_on_overwriting(folder, [p for p in pictures if not isinstance(p, ImageError)])
    detector = options.load_detector(**detection)
    style = Style(line_width, not no_labels)
    done = failed = objects = 0
    saved: set[Path] = set()  # a picture that is named twice is written once
    with _progress(pictures) as shown:
        for picture in shown:
            try:
                if isinstance(picture, ImageError):
                    raise picture
                image = read_image(picture.path)
                detections = detector.detect(image)
                record = Record(str(picture.path), image.shape[1], image.shape[0], detections)
                click.echo(to_line(record) if as_json else _for_people(record))
                if folder and picture.path not in saved:
                    draw_detections(image, detections, style)
                    folder.save(picture, image)
                    saved.add(picture.path)
            except ImageError as error:
                console.log.error("%s", error)
                failed += 1
            else:
                done += 1
                objects += len(detections)
    if not as_json:
        place = f"; annotated copies are in {console.printable(str(output))}" if output and done else ""
        click.echo(f"{objects} objects in {done} pictures{place}")
    if failed:
        raise click.exceptions.Exit(1)


def _arguments(paths: tuple[str, ...]) -> Iterator[str]:
    """The paths, with those on stdin, a line each, where there is a ``-``."""
    for path in paths:
        if path == "-":
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
            yield from (line for line in lines if line)
        else:
            yield path


def _agree_on_overwriting(folder: PictureFolder, pictures: list[Picture]) -> PictureFolder:
    """Refuse or ask before the first picture, not in the middle of the work."""
    existing = folder.check(pictures)
    if not existing or folder.overwrite:
        return folder
    what = f"{existing[0]} exists" + (f", and {len(existing) - 1} more" if len(existing) > 1 else "")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUsageError(f"{what}: pass -y to overwrite")
    click.confirm(f"{console.printable(what)}. Overwrite?", abort=True, err=True)
    return replace(folder, overwrite=True)


@contextmanager
def _progress(pictures: Iterable[Picture | ImageError]) -> Iterator[Iterable[Picture | ImageError]]:
    """A bar on stderr for many pictures, unless a terminal shows the results go by anyway."""
    if not isinstance(pictures, list) or len(pictures) < 2 or sys.stdout.isatty() or not console.shows_progress():
        yield pictures
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")  # there is none before the second picture

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as progress:
        yield progress.track(pictures)


def _for_people(record: Record) -> str:
    """A heading with the picture's name and size, and an indented line an object."""
    found = record.detections
    width = max(map(len, found.labels), default=0)
    lines = [f"{console.printable(record.source)}  {record.width}x{record.height}"]
    for label, score, box in zip(found.labels, found.scores.tolist(), found.boxes.tolist(), strict=True):
        x1, y1, x2, y2 = (f"{side:.0f}" for side in box)
        lines.append(f"  {console.printable(label):{width}}  {score:.2f}  x {x1}-{x2}  y {y1}-{y2}")
    if not found.labels:
        lines.append("  nothing found")
    return "\n".join(lines)
