"""Pictures upright, AVIF too: how one is turned and mirrored stands in boxes of its file that OpenCV passes over.

The boxes are HEIF's (ISO/IEC 23008-12): properties, among them ``irot`` and ``imir``, belong to items, one of which is
the picture. What does not make sense is passed over. EXIF's orientation, which may stand there too, does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_LONGEST = 2**20  # bytes of what describes a picture: far more than one of a thousand tiles has

Box = tuple[bytes, int, int]  # its kind, and where its content begins and ends


def decode_upright(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A picture as it is to be shown, from a file of any format that OpenCV reads.

    Returns:
        uint8 ``(height, width, 3)``, BGR; None where OpenCV makes no picture of the data.

    Raises:
        cv2.error: likewise.
    """
    if data[4:8].tobytes() != b"ftyp":
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return None if image is None else np.asarray(image, np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if stored is None else _turned(np.asarray(stored, np.uint8), data)


def _turned(image: NDArray[np.uint8], data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    for kind, value in _properties_of_picture(data):
        if kind == b"irot":
            image = np.rot90(image, value & 3)  # both anticlockwise
        elif kind == b"imir":
            image = np.flip(image, value & 1)  # 0: top and bottom change places
    return np.ascontiguousarray(image)


def _properties_of_picture(data: NDArray[np.uint8]) -> list[tuple[bytes, int]]:
    """The picture's properties in the order they apply: of each the kind, and the first byte of the content."""
    start, end = _found(b"meta", _boxes(data, 0, len(data)))
    described = list(_boxes(data, start + 4, min(end, start + _LONGEST)))
    item, _ = _found(b"pitm", described)
    picture = _number(data, item + 4, 4 if _number(data, item, 1) else 2)
    held = list(_boxes(data, *_found(b"iprp", described)))
    properties = list(_boxes(data, *_found(b"ipco", held)))
    indices = _associated(data, *_found(b"ipma", held), picture)
    chosen = [properties[index - 1] for index in indices if 0 < index <= len(properties)]
    return [(kind, _number(data, start, 1)) for kind, start, _ in chosen]


def _associated(data: NDArray[np.uint8], start: int, end: int, picture: int) -> list[int]:
    """The numbers, from 1, of an item's properties, by a box ``ipma``."""
    id_size = 4 if _number(data, start, 1) else 2
    size = 2 if _number(data, start + 3, 1) & 1 else 1
    place = start + 8
    while place < end:
        item, count = _number(data, place, id_size), _number(data, place + id_size, 1)
        first = place + id_size + 1
        place = first + count * size
        if item == picture:
            # The highest bit says whether a reader must know the property.
            return [_number(data, i, size) & (0x7FFF if size == 2 else 0x7F) for i in range(first, place, size)]
    return []


def _boxes(data: NDArray[np.uint8], start: int, end: int) -> Iterator[Box]:
    """The boxes that lie behind each other, as far as their sizes make sense."""
    while start + 8 <= end:
        size, head = _number(data, start, 4), 8
        if size == 1:  # 64 bits follow
            size, head = _number(data, start + 8, 8), 16
        size = size or end - start  # 0: to the end
        if size < head or start + size > end:
            return
        yield data[start + 4 : start + 8].tobytes(), start + head, start + size
        start += size


def _found(kind: bytes, boxes: Iterable[Box]) -> tuple[int, int]:
    """Where the content of the first box of a kind begins and ends; without one, an empty place."""
    return next(((start, end) for one, start, end in boxes if one == kind), (0, 0))


def _number(data: NDArray[np.uint8], place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size].tobytes())
