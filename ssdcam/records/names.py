"""File names for formats that write a file a picture: safe, telling, and no two alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ssdcam.records.disk import reading
from ssdcam.records.record import Record

_UNSAFE = re.compile('[\\x00-\\x1f\\x7f-\\x9f<>:"/\\\\|?*\u2028\u2029\ud800-\udfff]')
_DEVICES = re.compile("(con|prn|aux|nul|com[0-9]|lpt[0-9])([.].*)?", re.IGNORECASE)  # what Windows keeps for itself
_FRAME_OF = re.compile("(.+)_[0-9]{6,}")
_LONGEST = 180  # bytes; file systems take 255, and a digest, a frame's number and a suffix may follow


class FileNames:
    """Gives each picture a file name after its source's, and each frame that and its number.

    ``photos/dog.jpg`` becomes ``dog`` and frame 7 of ``street.mp4`` becomes ``street_000007``. Of sources whose names
    come out alike (ignoring case and Unicode's forms, as some file systems do) the first has the plain name, and each
    later one a digest of the whole source behind it: ``dog-1f0c92ab``. The same sources in the same order get the same
    names.

    Args:
        reserved: names that no picture may have.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._stems: dict[str, str] = {}  # by source
        self._taken = set(reserved)
        self._videos: set[str] = set()
        self._looks_like_frame_of: set[str] = set()

    def name(self, record: Record) -> str:
        """The name for a record, without a suffix."""
        if record.source not in self._stems:
            self._stems[record.source] = self._new_stem(record)
        stem = self._stems[record.source]
        return stem if record.frame is None else f"{stem}_{record.frame:06d}"

    def _new_stem(self, record: Record) -> str:
        stem = plain_stem(record.source)
        digest = hashlib.sha256(record.source.encode("utf-8", "surrogatepass")).hexdigest()
        candidates = (stem, *(f"{stem}-{digest[:length]}" for length in (8, 16, 32)))
        free = next((name for name in candidates if self._claim(name, record.frame is not None)), None)
        return free or f"{stem}-{digest}"

    def _claim(self, name: str, is_video: bool) -> bool:
        """Take a name, unless it is taken or a video's frames and a picture would meet in one name."""
        name = normalize("NFC", name).casefold()
        frame_of = _FRAME_OF.fullmatch(name)
        video = frame_of[1] if frame_of and not is_video else None
        if name in self._taken or video in self._videos or (is_video and name in self._looks_like_frame_of):
            return False
        self._taken.add(name)
        if is_video:
            self._videos.add(name)
        elif video:
            self._looks_like_frame_of.add(video)
        return True


def plain_stem(source: str) -> str:
    """A source's own name as a file name: no folders, suffix, or characters that some file system refuses.

    Of a URL neither user, password nor query remains.
    """
    _, is_url, address = source.partition("://")
    if is_url:
        # The last @ ends the password, which may hold any sign, so it is looked for first.
        address = re.split("[?#]", address.rpartition("@")[2])[0]
        host, _, path = address.partition("/")
        name = last_part(path) or host
        stem = PurePosixPath(name).stem if path else name
    else:
        stem = PurePosixPath(last_part(source)).stem
    stem = _UNSAFE.sub("_", stem).encode()[:_LONGEST].decode("utf-8", "ignore").strip(". ") or "unnamed"
    return f"_{stem}" if _DEVICES.fullmatch(stem) else stem


def last_part(path: str) -> str:
    """What stands behind the last separator, be it Unix's or Windows'."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The visible files of a folder with a suffix, ordered by name as people count: ``a_2`` before ``a_10``.

    Raises:
        RecordError: the folder cannot be read.
    """
    with reading(folder):
        found = [path for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")]
    return sorted(
        found, key=lambda path: [int(s) if i % 2 else s for i, s in enumerate(re.split("([0-9]+)", path.name))]
    )
