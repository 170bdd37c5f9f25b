"""Files of the cache that tell when they are damaged, for engines take any bytes for weights."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdcam.files import write_whole

_CHECKSUM = 4  # bytes of CRC-32 at the end of a file
_MARK = b"\n<!-- CRC-32 "


def read_checked(path: Path) -> NDArray[np.uint8]:
    """What :func:`write_checked` wrote, not read yet but mapped; who replaces the file does not change it.

    Raises:
        ValueError: it is damaged.
    """
    memory = np.memmap(path, np.uint8, mode="c")
    data, checksum = np.asarray(memory[:-_CHECKSUM]), bytes(memory[-_CHECKSUM:])
    if zlib.crc32(data.data).to_bytes(_CHECKSUM) != checksum:
        raise ValueError(f"{path}: is damaged")
    return data


def write_checked(path: Path, data: memoryview) -> None:
    """Write a file, whole, with a checksum at its end."""
    write_whole(path, [data, zlib.crc32(data).to_bytes(_CHECKSUM)])


def mark(description: Path, weights: Path) -> None:
    """Append to a network's description, which is XML, a comment with the checksum of its weights and itself."""
    comment = _comment(description.read_bytes(), weights)
    with description.open("ab") as file:
        file.write(comment)


def check_marked(description: Path, weights: Path) -> None:
    """That a network is as it was when :func:`mark` marked it.

    Raises:
        ValueError: it is damaged.
    """
    text, begin, end = description.read_bytes().rpartition(_MARK)
    if begin + end != _comment(text, weights):
        raise ValueError(f"{description}: is damaged")


def _comment(text: bytes, weights: Path) -> bytes:
    return _MARK + b"%08x -->\n" % zlib.crc32(text, zlib.crc32(weights.read_bytes()))
