"""Decoding and NMS in numpy, for results that arrive on the host: engines other than torch run without importing it.

The twin of ``box_coder``, ``nms`` and ``postprocess``, rule by rule and tie by tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.ssd.spec import BoxCoding, ModelSpec, Selection

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

BLOCK = 1024


class PackedBoxes(NamedTuple):
    """The boxes of a batch in one piece, by rising image and falling score; see ``postprocess.PackedBoxes``."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: Integers
    images: Integers


def decode(locations: Floats, defaults: Floats, coding: BoxCoding) -> Floats:
    """Centre-form boxes ``(..., 4)`` from locations and default boxes, relative to the image, not clipped."""
    offsets = locations * np.asarray(coding.variances, locations.dtype)
    centre = defaults[..., :2] + offsets[..., :2] * defaults[..., 2:]
    with np.errstate(over="ignore"):  # an untrained network may ask for a box of infinite size; clipping mends it
        size = defaults[..., 2:] * np.exp(np.minimum(offsets[..., 2:], coding.max_log_size))
    return np.concatenate([centre, size], axis=-1)


def to_corners(boxes: Floats) -> Floats:
    """``(..., 4)`` from ``cx, cy, w, h`` to ``x1, y1, x2, y2``."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def pairwise_iou(a: Floats, b: Floats) -> Floats:
    """IoU ``(..., N, M)`` of corner boxes ``(..., N, 4)`` and ``(..., M, 4)``; 0 where neither box has an area."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    intersection = sides[..., 0] * sides[..., 1]
    union = _area(a) + _area(b) - intersection
    overlaps: Floats = intersection / np.maximum(union, np.finfo(union.dtype).tiny)
    return overlaps


def _area(boxes: Floats) -> Floats:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def nms(boxes: Floats, scores: Floats, groups: Integers, iou: float) -> Integers:
    """Indices of the boxes that greedy NMS keeps within each group; see ``ssdcam.ssd.nms.nms``."""
    order = sort_within_groups(scores, groups)
    if len(order) == 0:
        return order
    boxes = boxes[order]
    starts, counts = _runs(groups[order])
    keep = np.ones(len(order), bool)
    for group_starts, group_counts, length in _batches(starts, counts):
        places = np.arange(length)
        present = places < group_counts[:, None]
        index = np.minimum(group_starts[:, None] + places, len(order) - 1)
        keep[index[present]] = _greedy(boxes[index], present, iou)[present]
    return order[keep]


def sort_within_groups(scores: Floats, groups: Integers) -> Integers:
    """Indices that sort by rising group, within it by falling score, within that by index."""
    return np.lexsort((-scores, groups))


def rank_within_groups(sorted_groups: Integers) -> Integers:
    """Each element's place (0, 1, ...) in its run of equal values."""
    starts, counts = _runs(sorted_groups)
    return np.arange(len(sorted_groups)) - np.repeat(starts, counts)


def _runs(values: Integers) -> tuple[Integers, Integers]:
    """Starts and lengths of the runs of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1)) if len(values) else np.zeros(0, np.int64)
    return starts, np.diff(starts, append=len(values))


def _batches(starts: Integers, counts: Integers) -> Iterator[tuple[Integers, Integers, int]]:
    bits = np.frexp(counts - 1.0)[1]
    for size_bits in np.unique(bits).tolist():
        length = 2**size_bits
        if length == 1:
            continue
        alike = np.flatnonzero(bits == size_bits)
        at_once = max(1, BLOCK * BLOCK // min(length, BLOCK) ** 2)
        for first in range(0, len(alike), at_once):
            batch = alike[first : first + at_once]
            yield starts[batch], counts[batch], length


def _greedy(boxes: Floats, present: Booleans, iou: float) -> Booleans:
    keep = np.zeros_like(present)
    for start in range(0, boxes.shape[1], BLOCK):
        block = boxes[:, start : start + BLOCK]
        alive = present[:, start : start + BLOCK]
        for earlier in range(0, start, BLOCK):
            above = pairwise_iou(boxes[:, earlier : earlier + BLOCK], block) > iou
            alive = alive & ~(above & keep[:, earlier : earlier + BLOCK, None]).any(axis=1)
        suppresses = np.triu(pairwise_iou(block, block) > iou, k=1)
        kept = alive
        while True:
            again = alive & ~(suppresses & kept[..., None]).any(axis=1)
            if np.array_equal(again, kept):
                break
            kept = again
        keep[:, start : start + BLOCK] = kept
    return keep


def postprocess(
    locations: Floats, raw_scores: Floats, defaults: NDArray[np.float32], spec: ModelSpec, selection: Selection
) -> PackedBoxes:
    """Score, threshold, decode, clip, suppress; see ``ssdcam.ssd.postprocess.postprocess``."""
    columns = selection.columns(spec)
    probabilities = _probabilities(raw_scores.astype(np.float32, copy=False), columns, spec)
    images, places, picked = np.nonzero(probabilities >= selection.score)
    scores = probabilities[images, places, picked]
    class_ids = columns[picked] - int(spec.background)
    groups = images if selection.nms.class_agnostic else images * len(spec.labels) + class_ids

    order = sort_within_groups(scores, groups)
    order = order[rank_within_groups(groups[order]) < selection.nms.before]
    images, places, scores = images[order], places[order], scores[order]
    class_ids, groups = class_ids[order], groups[order]
    located = locations[images, places].astype(np.float32, copy=False)
    boxes: Floats = to_corners(decode(located, defaults[places], spec.coding)).clip(0, 1)

    kept = nms(boxes, scores, groups, selection.nms.iou)
    kept = kept[sort_within_groups(scores[kept], images[kept])]
    kept = kept[rank_within_groups(images[kept]) < selection.nms.after]
    return PackedBoxes(boxes[kept].astype(np.float32, copy=False), scores[kept], class_ids[kept], images[kept])


def _probabilities(raw_scores: NDArray[np.float32], columns: Integers, spec: ModelSpec) -> NDArray[np.float32]:
    if spec.score_function == "softmax":
        exponentials = np.exp(raw_scores - raw_scores.max(axis=-1, keepdims=True))
        chosen: NDArray[np.float32] = exponentials[..., columns] / exponentials.sum(axis=-1, keepdims=True)
        return chosen
    with np.errstate(over="ignore"):  # exp of a large number is infinity, and 1 / infinity the right 0
        probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-raw_scores[..., columns]))
    return probabilities
