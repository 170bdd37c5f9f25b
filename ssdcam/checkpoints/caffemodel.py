"""The arrays of a ``.caffemodel``: protobuf's wire format, of which four kinds of messages matter. Needs no Caffe.

Numbers of fields are those of Caffe's ``caffe.proto``; what else a message holds is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.errors import CheckpointError

_NET_LAYER = 100
_LAYER_NAME, _LAYER_BLOB = 1, 7
_BLOB_SIDES, _BLOB_DATA, _BLOB_SHAPE = (
    (1, 2, 3, 4),
    5,
    7,
)  # sides before Caffe had shapes: count, channels, rows, columns
_SHAPE_SIDE = 1

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_KINDS = ("weight", "bias")


def read_caffemodel(path: Path) -> dict[str, NDArray[Any]]:
    """Each layer's arrays as ``NAME.weight`` and ``NAME.bias``.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds no layers.
    """
    try:
        net = memoryview(path.read_bytes())
        arrays: dict[str, NDArray[Any]] = {}
        for number, layer in _fields(net):
            if number == _NET_LAYER and isinstance(layer, memoryview):
                arrays.update(_layer_arrays(layer))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: is damaged, or no .caffemodel") from error
    if not arrays:
        raise CheckpointError(f"{path}: holds no layers with weights")
    return arrays


def _layer_arrays(message: memoryview) -> Iterator[tuple[str, NDArray[np.float32]]]:
    name, blobs = "", []
    for number, value in _fields(message):
        if number == _LAYER_NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == _LAYER_BLOB and isinstance(value, memoryview):
            blobs.append(_array(value))
    for kind, array in zip(_KINDS, blobs, strict=False):
        # Old files write a vector as a row of a row of a row.
        yield f"{name}.{kind}", array.reshape(-1) if array.shape[:-1] == (1, 1, 1) else array


def _array(message: memoryview) -> NDArray[np.float32]:
    data = bytearray()
    sides, shape = [1, 1, 1, 1], None
    for number, value in _fields(message):
        if number == _BLOB_DATA and isinstance(value, memoryview):
            data += value
        elif number == _BLOB_SHAPE and isinstance(value, memoryview):
            shape = _shape(value)
        elif number in _BLOB_SIDES and isinstance(value, int):
            sides[number - 1] = value
    array = np.frombuffer(data, "<f4")
    shape = sides if shape is None else shape
    if prod(shape) != array.size:
        raise ValueError(f"{array.size} numbers do not fill {shape}")
    return array.reshape(shape)


def _shape(message: memoryview) -> list[int]:
    sides: list[int] = []
    for number, value in _fields(message):
        if number != _SHAPE_SIDE:
            continue
        if isinstance(value, int):
            sides.append(value)
            continue
        place = 0
        while place < len(value):
            side, place = _varint(value, place)
            sides.append(side)
    return sides


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: bytes, or a whole number."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            length, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no kind of field: {kind}")
        if place + length > len(message):
            raise ValueError("a field is longer than what holds it")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, the lowest first; and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than ten bytes")
