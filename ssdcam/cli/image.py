"""``ssdcam image``: objects in pictures."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import completing, console, loading, options, outputs, parameters, session
from ssdcam.cli.progress import counted
from ssdcam.errors import ImageError, UndecodableError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.detections import Image
    from ssdcam.media.images import Picture, PictureFolder
    from ssdcam.records import Record

_LONGEST_PATH = 2**16  # bytes


@click.command("image")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=completing.files)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a picture on stdout.")
@click.option(
    "-o",
    "--output",
    type=parameters.Folder(),
    metavar="DIR",
    help="Write annotated copies there, under their own names.",
)
@options.records
@options.crops
@click.option("--show", is_flag=True, help="Show the pictures in a window, one after the other: q quits, others go on.")
@options.detection
@options.drawing
@options.yes
@options.verbosity
def command(
    paths: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    records: tuple[str, ...],
    crops: Path | None,
    show: bool,
    line_width: int | None,
    no_labels: bool,
    yes: bool,
    **detection: Any,
) -> None:
    """Find objects in pictures: files, folders, quoted globs, or - for paths on stdin.

    A picture that cannot be read is reported and the rest goes on; the exit code is then 1.
    """
    from ssdcam.media.crops import CropFolder
    from ssdcam.media.drawing import Style, draw_detections
    from ssdcam.media.images import SUFFIXES, PictureFolder, find_pictures
    from ssdcam.media.surface import BgrSurface
    from ssdcam.records import Record, open_records, to_line

    outputs.refuse_addresses(paths, "is an address, not a file: save the picture first")
    if output and output.suffix.lower() in SUFFIXES and not output.is_dir():
        raise WrongUsageError(f"-o {output}: is the folder for the pictures with boxes, so leave {output.suffix} away")
    pictures: Iterable[Picture | ImageError] = find_pictures(_arguments(paths))
    folder = PictureFolder(output, overwrite=yes) if output else None
    read = outputs.files_read(detection)
    if "-" not in paths:
        pictures = list(pictures)
        read += [p.path for p in pictures if not isinstance(p, ImageError)]
    existing = outputs.check_files(read, records, None, [place for place in (output, crops) if place])
    if folder and isinstance(pictures, list):
        existing = [*folder.check(p for p in pictures if not isinstance(p, ImageError)), *existing]
        folder = replace(folder, overwrite=True)  # what is there has been asked about
    outputs.agree_on_overwriting(existing, yes)
    show = session.can_watch(show, has_sink=True)
    detector = loading.load_detector(**detection)
    style = Style(line_width, not no_labels)
    crop_folder = CropFolder(crops) if crops else None
    done = failed = objects = 0
    saved: dict[Path, Path] = {}  # from which picture each output came
    printer = session.Printer(others=bool(output or records or crops or show))

    def summary() -> str:
        if as_json or not done:
            return ""
        counts = f"{_count(objects, 'object')} in {_count(done, 'picture')}"
        return "; ".join(filter(None, [counts, outputs.wrote(output, records, crop_folder)]))

    with ExitStack() as stack:
        outputs.tell_at_end(stack, summary)
        writers = [stack.enter_context(open_records(target, labels=detector.labels)) for target in records]
        # On a terminal the results that go by show how far it is.
        if isinstance(pictures, list) and not sys.stdout.isatty():
            pictures = stack.enter_context(counted(pictures, "looking"))
        for picture in pictures:
            try:
                if isinstance(picture, ImageError):
                    raise picture
                image = _read(picture.path)
                record = Record(str(picture.path), image.shape[1], image.shape[0], detector.detect(image))
                printer.print(to_line(record) if as_json else _for_people(record))
                for writer in writers:
                    writer.write(record)
                if crop_folder:
                    crop_folder.save(record, image)
                if folder or show:
                    draw_detections(BgrSurface(image), record.detections, style)
                if folder:
                    _save(folder, picture, image, saved)
            except ImageError as error:
                console.log.error("%s", error)
                failed += 1
                continue
            done += 1
            objects += len(record.detections)
            if show and not _show(image):
                break
        if not done and not failed:
            console.log.warning("standard input named no picture")
        if failed:  # inside, for who writes records to know
            raise click.exceptions.Exit(1)


def _read(path: Path) -> Image:
    """Read a picture; who names a video is told what looks at videos.

    Raises:
        ImageError: it cannot be read.
    """
    from ssdcam.media.containers import INPUT_SUFFIXES
    from ssdcam.media.images import read_image

    try:
        return read_image(path)
    except UndecodableError as error:
        if path.suffix.lower() not in INPUT_SUFFIXES:
            raise
        advice = f"use ssdcam video {shlex.quote(str(path))}"
        raise ImageError(f"{path}: is no picture, but by its name a video: {advice}") from error


def _save(folder: PictureFolder, picture: Picture, image: Image, saved: dict[Path, Path]) -> None:
    """Write a picture, once however often it is named, and never over another one of this run."""
    target = folder.target(picture)
    if target not in saved:
        folder.save(picture, image)
        saved[target] = picture.path
    elif saved[target] != picture.path:
        raise ImageError(f"{target}: holds {saved[target]} already, so {picture.path} was not written")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _show(image: Image) -> bool:
    """Show a picture until a key is pressed; False if the key or the window's closing means to quit."""
    from ssdcam.media.window import Window

    window = Window("ssdcam", (image.shape[1], image.shape[0]))
    try:
        window.show(image)
        while (key := window.key()) is None:
            pass
    finally:
        window.close()
    return key not in ("q", "escape", "closed")


def _arguments(paths: tuple[str, ...]) -> Iterator[str]:
    """The paths, with those on stdin, a line each, where there is a ``-``.

    Raises:
        WrongUsageError: stdin holds no paths, perhaps a picture.
    """
    for path in paths:
        if path == "-":
            if b"\0" in sys.stdin.buffer.peek():  # type: ignore[union-attr]  # it is buffered
                raise WrongUsageError("standard input holds zero bytes: - reads paths from there, a line each")
            while line := sys.stdin.buffer.readline(_LONGEST_PATH):
                if len(line) == _LONGEST_PATH:
                    raise WrongUsageError("standard input: a line of 64 KiB: - reads paths from there, a line each")
                if name := line.rstrip(b"\r\n"):
                    yield os.fsdecode(name)
        else:
            yield path


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
