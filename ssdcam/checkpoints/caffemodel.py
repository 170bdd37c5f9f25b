"""The arrays of a ``.caffemodel``, through protobuf. Needs no Caffe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.caffe_messages import binary_messages
from ssdcam.errors import CheckpointError

_KINDS = ("weight", "bias")
_LONGEST_SHAPE = 80  # bytes: more sides than an array can have


def read_caffemodel(path: Path) -> dict[str, NDArray[Any]]:
    """Each layer's arrays as ``NAME.weight`` and ``NAME.bias``.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds no layers.
        UnavailableError: the ``protobuf`` package is not installed.
    """
    messages = binary_messages(path)
    from google.protobuf.message import DecodeError

    try:
        net = messages["Net"].FromString(path.read_bytes())
        arrays = {name: array for layer in net.layer for name, array in _layer_arrays(layer, messages)}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged, or no .caffemodel") from error
    if not arrays:
        raise CheckpointError(f"{path}: holds no layers with weights")
    return arrays


def _layer_arrays(data: bytes, messages: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    layer = messages["Layer"].FromString(data)
    for kind, blob in zip(_KINDS, layer.blobs, strict=False):
        array = _array(blob, messages)
        # Old files write a vector as a row of a row of a row.
        yield f"{layer.name}.{kind}", array.reshape(-1) if array.shape[:-1] == (1, 1, 1) else array


def _array(data: bytes, messages: Mapping[str, Any]) -> NDArray[np.float32]:
    blob = messages["Blob"].FromString(data)
    if len(blob.shape) > _LONGEST_SHAPE:
        raise ValueError("a shape of too many sides")
    shape = (
        list(messages["Shape"].FromString(blob.shape).dim)
        if blob.HasField("shape")
        else [blob.num, blob.channels, blob.height, blob.width]
    )
    array = np.frombuffer(bytearray(blob.data), "<f4")  # which may be written to
    if prod(shape) != array.size:
        raise ValueError(f"{array.size} numbers do not fill {shape}")
    return array.reshape(shape)
