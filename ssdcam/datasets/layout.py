"""What the readers of the layouts have in common: what they give, and how they say what they could not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from ssdcam.errors import DatasetError
from ssdcam.files import check_ends, exists, is_hidden

SUFFIXES = frozenset(".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .png .tif .tiff .webp".split())
"""Of pictures, in lower case."""

PARTS = ("train", "val", "valid", "test")
"""What folders and entries of a data set's parts are called."""

_DEEPEST = 32  # folders, of those that a path of another machine names


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


def place_of(base: Path, entry: str) -> Path:
    r"""What an entry means, which another program or machine may have written.

    ``images\train`` is Windows'. Where nothing is there, it is the longest end of the path that is: Roboflow writes
    ``../train/images`` for what lies beside the file, CVAT ``data/obj_train_data/x.jpg``. An end without a folder that
    is called as a part could be another part's.
    """
    stated = base / entry
    if exists(stated):  # as hundreds of thousands are: the rest takes longer than to look
        return stated
    parts = PurePosixPath(entry.replace("\\", "/")).parts
    last = next((i for i, part in enumerate(parts) if part in PARTS), len(parts) - 1)
    ends = [parts[i:] for i in range(max(1, len(parts) - _DEEPEST), last + 1)]
    paths = [PurePath(*parts), *(PurePath(*end) for end in ends if ".." not in end)]
    return next((place for path in paths if exists(place := base / path)), stated)


def places_of(base: Path, entries: Iterable[str]) -> dict[str, Path]:
    """What entries that each name a photo mean; see :func:`place_of`.

    One photo cannot be several: where ends of different paths led to it, these stay as stated.
    """
    places = {entry: place_of(base, entry) for entry in entries}
    bearers = Counter(places.values())
    return {entry: base / entry if bearers[place] > 1 else place for entry, place in places.items()}


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
