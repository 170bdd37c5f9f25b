"""What the readers of the layouts have in common: what they give, and how they say what they could not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssdcam.errors import DatasetError
from ssdcam.files import check_ends

SUFFIXES = frozenset(".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .png .tif .tiff .webp".split())
"""Of pictures, in lower case."""


class RawObject(NamedTuple):
    """One object as an annotation states it; ``place`` is the file and where in it, for complaints."""

    label: str
    box: tuple[float, float, float, float]  # x1, y1, x2, y2, pixels, edges from 0
    difficult: bool
    area: float | None
    place: str


@dataclass(frozen=True)
class RawPhoto:
    """One photo as a layout describes it; see :class:`ssdcam.datasets.Sample`."""

    id: str
    path: Path
    width: int | None
    height: int | None
    objects: tuple[RawObject, ...]
    as_shown: bool = False


@dataclass
class Troubles:
    """What could not be read, collected line by line.

    Attributes:
        lines: each names a file.
        skipped: how many whole photos were lost.
    """

    lines: list[str]
    skipped: int = 0

    def add(self, line: str, photos: int = 0) -> None:
        """Note a line, and how many photos it cost."""
        self.lines.append(line)
        self.skipped += photos


class RawPart(NamedTuple):
    """A part of a data set: its classes, and its photos one at a time."""

    labels: tuple[str, ...]
    photos: Iterable[RawPhoto]


@dataclass(frozen=True)
class Layout:
    """A data set that was recognised.

    Attributes:
        kind: the layout's name.
        splits: reads a part, by its name; empty if the data set is not divided.
        read_all: reads everything.
    """

    kind: str
    splits: Mapping[str, Callable[[Troubles], RawPart]]
    read_all: Callable[[Troubles], RawPart]


def list_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, at any depth, in the order of their names."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not is_hidden(p, folder))


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file below a folder is a system's or a program's own: ``._dog.jpg``, as macOS adds, or a thumbnail."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        check_ends(path)
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is no UTF-8 text") from error
    except ValueError as error:  # half a character, or a zero byte
        raise DatasetError(f"{path}: cannot be read: no file can be called so") from error
