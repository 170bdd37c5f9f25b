"""Whether a video file is all there, told by the sizes that its own structure states.

FFmpeg reads a file that was cut off as one that simply ends. Formats that state no sizes (MPEG-TS, and files whose
writer never came to fill them in) count as whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MP4_STARTS = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot"))
# What else may be outermost, and long enough to be cut. Cameras also append data of their own, which are no boxes.
_MP4_BOXES = _MP4_STARTS | {b"moof", b"uuid", b"meta", b"udta", b"sidx", b"mfra"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_short(path: Path) -> bool:
    """Whether the file ends before the structure in it does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head[4:8] in _MP4_STARTS:
            end = max(end for kind, end in _boxes(file) if kind in _MP4_BOXES)
        elif head[:4] == _EBML:
            end = _segment_ends(file)[-1]
        elif head[:4] == b"RIFF" and len(head) == 8:
            # FFmpeg puts the pad byte after an odd chunk, others leave it out at the end.
            end = 8 + int.from_bytes(head[4:8], "little")
        else:
            end = 0
    return end > path.stat().st_size


def shows_cuts(path: Path) -> bool:
    """Whether :func:`is_cut_short` notices wherever a file was cut off.

    It does not where no sizes are stated, nor where they are those of parts, as in an mp4 in fragments.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head[4:8] in _MP4_STARTS:
            return b"moof" not in {kind for kind, _ in _boxes(file)}
        return head[:4] == b"RIFF" or (head[:4] == _EBML and all(_segment_ends(file)))


def joined_parts(path: Path) -> int:
    """How many Matroska files lie in one, byte by byte behind each other, as far as they say where they end.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return len(_segment_ends(file))


def lacks_index(path: Path) -> bool:
    """Whether this is an mp4 or mov whose index was never written, as when the recording program was killed.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(8)[4:8] not in _MP4_STARTS:
            return False
        return not {kind for kind, _ in _boxes(file)} & {b"moov", b"moof", b"meta"}  # meta: HEIC and AVIF pictures


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The top-level boxes of an mp4 or mov: each one's kind, and where it says it ends."""
    whole, start = file.seek(0, os.SEEK_END), 0
    while start < whole:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4])
        if size == 1:  # 64 bits follow
            size = int.from_bytes(head[8:16])
        if size < 8:  # 0: to the end of the file; smaller: no box at all
            yield head[4:8], start + 8
            return
        start += size
        yield head[4:8], start


def _segment_ends(file: BinaryIO) -> list[int]:
    """Where the segments of Matroska files that lie behind each other say they end; 0, the last, where one does not."""
    size, start = file.seek(0, os.SEEK_END), 0
    ends: list[int] = []
    while start < size:
        file.seek(start)
        if file.read(4) != _EBML:
            break
        start = _segment_end(file, start)
        ends.append(start)
        if not start:
            break
    return ends


def _segment_end(file: BinaryIO, start: int) -> int:
    """Where the segment of the Matroska file that starts there says it ends; 0 where it does not say."""
    file.seek(start + 4)
    header = _variable_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    size = _variable_size(file)
    return 0 if size is None else file.tell() + size


def _variable_size(file: BinaryIO) -> int | None:
    """EBML's sizes: the first byte's leading zeros say how many bytes follow it; all ones mean unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(extra)) & ((1 << (7 * (extra + 1))) - 1)
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
