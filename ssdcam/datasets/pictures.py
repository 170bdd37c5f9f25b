"""A data set's pictures, the way its boxes mean them.

A camera held upright stores a picture lying on its side and notes so (EXIF orientation). VOC and COCO state the size of
the picture that their boxes lie on, mostly the stored one, as their own tools ignore the note. YOLO's users and tools
see pictures turned. So a picture is taken as stored, or as shown where the sample says so; the stated size
has the last word where it fits only the other.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.avif import decode_upright
from ssdcam.errors import ImageError
from ssdcam.memory import why_unreadable

if TYPE_CHECKING:
    from ssdcam.datasets.dataset import Dataset, Sample

_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_SHOWN = cv2.IMREAD_COLOR

_HEAD = 1 << 17  # bytes: what stands before the size in nearly all files
_TURNED = range(5, 9)  # EXIF orientations in which width and height change places
# JPEG markers that begin a frame (ITU-T T.81, table B.1): SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_picture(sample: Sample) -> NDArray[np.uint8]:
    """Read a sample's picture.

    Returns:
        uint8 ``(height, width, 3)``, BGR, of the size that the sample states.

    Raises:
        ImageError: it is missing, damaged, or of another size.
    """
    data = _read(sample.path)
    flags = (_SHOWN, _STORED) if sample.as_shown else (_STORED, _SHOWN)
    image = _decode(data, flags[0], sample.path)
    stated = (sample.height or image.shape[0], sample.width or image.shape[1])
    if image.shape[:2] != stated and image.shape[1::-1] == stated:
        image = _decode(data, flags[1], sample.path)
    if image.shape[:2] != stated:
        height, width = image.shape[:2]
        raise ImageError(f"{sample.path}: is {width}x{height}, but its annotation says {stated[1]}x{stated[0]}")
    return image


def check_images(
    dataset: Dataset, track: Callable[[Iterable[Sample]], Iterable[Sample]] = lambda samples: samples
) -> Dataset:
    """Decode every picture once; those that fail leave the data set and join its problems.

    Args:
        dataset: what to check.
        track: is handed the samples and gives them back one by one, to show progress.
    """
    good, problems = [], list(dataset.problems)
    for sample in track(dataset.samples):
        try:
            read_picture(sample)
            good.append(sample)
        except ImageError as error:
            problems.append(str(error))
    lost = len(dataset.samples) - len(good)
    return replace(dataset, samples=tuple(good), problems=tuple(problems), skipped=dataset.skipped + lost)


def picture_size(path: Path, as_shown: bool = True) -> tuple[int, int]:
    """Width and height of a picture, of JPEG and PNG without decoding it where that will do.

    Args:
        path: the file.
        as_shown: whether its EXIF orientation counts, where OpenCV heeds it.

    Raises:
        ImageError: it is missing, or no picture.
    """
    head = _read(path, _HEAD)
    size = None
    try:
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            # EXIF may follow the pixels, and not every OpenCV heeds it: decoding tells.
            if not as_shown or not _has_exif(path):
                size = struct.unpack_from(">II", head, 16)
        elif head[:2] == b"\xff\xd8":
            size = _jpeg_size(head, as_shown)
    except struct.error:  # the head ends before the size
        pass
    if size is None:
        height, width = _decode(_read(path), _SHOWN if as_shown else _STORED, path).shape[:2]
        size = (width, height)
    return size


def _has_exif(path: Path) -> bool:
    """Whether a PNG holds a chunk of EXIF, which may lie behind its pixels."""
    try:
        with path.open("rb") as file:
            file.seek(8)
            while len(head := file.read(8)) == 8 and head[4:].isalpha():
                if head[4:] == b"eXIf":
                    return True
                file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    return False


def _jpeg_size(head: bytes, as_shown: bool) -> tuple[int, int] | None:
    """From the first frame's header; None if something unexpected comes before it."""
    place, orientation = 2, 1
    while True:
        mark, marker, length = struct.unpack_from(">BBH", head, place)
        if mark != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", head, place + 5)
            return (height, width) if as_shown and orientation in _TURNED else (width, height)
        if marker == 0xE1 and head[place + 4 : place + 10] == b"Exif\0\0":
            orientation = _orientation(head[place + 10 : place + 2 + length])
        place += 2 + length


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory (EXIF 2.3, 4.6); 1, upright, if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, place)
        for i in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, place + 2 + 12 * i)
            if tag == 0x0112:
                return int(value)
    except struct.error:  # cut short: no picture reader heeds it
        pass
    return 1


def _read(path: Path, count: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(count)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise ImageError(f"{path}: is empty")
    return data


def _decode(data: bytes, flags: int, path: Path) -> NDArray[np.uint8]:
    pixels = np.frombuffer(data, np.uint8)
    try:
        image = decode_upright(pixels) if flags == _SHOWN else cv2.imdecode(pixels, flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"{path}: {why_unreadable()}")
    return np.asarray(image, np.uint8)
