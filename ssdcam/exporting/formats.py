"""What one file format has to offer for a detector to be exported to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.exporting.network import DecodedSSD
from ssdcam.ssd.spec import ModelSpec, Selection

_SMALL = 64

Run = Callable[[NDArray[np.float32]], tuple[NDArray[Any], ...]]
"""Runs a file: from images ``(B, 3, H, W)`` to its outputs."""

Model = Any
"""A detector as the format's own library holds it."""


class Room(NamedTuple):
    """How many boxes there are on the way through NMS.

    Attributes:
        groups: of boxes that suppress each other: the labels, or all of them together.
        before: boxes of a group that enter.
        after: boxes that an image can have in the end.
    """

    groups: int
    before: int
    after: int


def nms_room(spec: ModelSpec, selection: Selection) -> Room:
    """The figures of NMS, limited to what the network has."""
    boxes, labels = spec.boxes.num_boxes, len(spec.labels)
    groups, most = (1, boxes * labels) if selection.nms.class_agnostic else (labels, boxes)
    before = min(selection.nms.before, most)
    return Room(groups, before, min(selection.nms.after, groups * before))


class Quantised(NamedTuple):
    """A detector in 8-bit integers.

    Attributes:
        model: with outputs ``boxes`` and ``scores``.
        raw: runs its network alone: from images to locations and raw scores.
    """

    model: Model
    raw: Run


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        require: raises UnavailableError where what the format needs is not installed.
        build: from the network to a model with outputs ``boxes`` and ``scores``. Takes the opset, None for the usual,
            and whether weights are to be stored as 16-bit floats, which they are rounded to already.
        with_nms: a new model with NMS behind another one's outputs.
        save: writes a model and facts about it.
        load: reads what was written the way that its users do.
        quantise: what ``build`` makes with its network in 8-bit integers; decoding stays as it is. Takes the opset and
            the pictures to choose ranges on, uint8 ``(N, H, W, 3)``, BGR. None where the format has no such form.
        opsets: those that ``build`` can be asked for.
    """

    require: Callable[[], None]
    build: Callable[[DecodedSSD, int | None, bool], Model]
    with_nms: Callable[[Model, ModelSpec, Selection], Model]
    save: Callable[[Model, Path, Mapping[str, str]], None]
    load: Callable[[Path], Run]
    quantise: Callable[[DecodedSSD, int | None, NDArray[np.uint8]], Quantised] | None = None
    opsets: range = range(0)


def to_planes(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures ``(B, H, W, 3)``, BGR, as exported files take them: ``(B, 3, H, W)``, RGB, 0 to 255."""
    return np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2), np.float32)


def as_half(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """A table of weights as 16-bit floats; None if some would change, or if it is too small to be worth it."""
    if values.size < _SMALL:
        return None
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    return narrow if np.array_equal(narrow.astype(np.float32), values) else None
