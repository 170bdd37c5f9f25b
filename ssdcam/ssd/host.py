"""Decoding and NMS in numpy, for results that arrive on the host: engines other than torch run without importing it.

The twin of ``box_coder`` and ``postprocess``, rule by rule and tie by tie.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.errors import CheckpointError
from ssdcam.ssd.spec import BoxCoding, ModelSpec, Selection

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

_CROWD = 4
"""Times as many boxes as are to be kept of an image meet in NMS at first: nearly always enough."""


class PackedBoxes(NamedTuple):
    """The boxes of a batch in one piece, by rising image and falling score."""

    boxes: NDArray[np.float32]
    """``(M, 4)``, ``x1, y1, x2, y2`` relative to the image, within 0..1."""
    scores: NDArray[np.float32]
    """``(M,)``."""
    class_ids: Integers
    """int64 ``(M,)``, background not counted."""
    images: Integers
    """int64 ``(M,)``: the place in the batch."""


def decode(locations: Floats, defaults: Floats, coding: BoxCoding) -> Floats:
    """Centre-form boxes ``(..., 4)`` from locations and default boxes, relative to the image, not clipped."""
    offsets = locations * np.asarray(coding.variances, locations.dtype)
    centre = defaults[..., :2] + offsets[..., :2] * defaults[..., 2:]
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
    """Suppress, within each group, every box that overlaps a kept one of higher score.

    In rounds: the best box that waits in each group is kept, and those that overlap it go. There are as many rounds as
    the group with most survivors has, each over what still waits.

    Args:
        boxes: float ``(N, 4)``, ``x1, y1, x2, y2``, in any unit.
        scores: float ``(N,)``; equal scores rank by index.
        groups: int64 ``(N,)``, such as image and class; boxes of different groups do not meet.
        iou: boxes that overlap by more than this suppress each other.

    Returns:
        int64 indices of the kept boxes, by rising group and falling score within a group.
    """
    order = sort_within_groups(scores, groups)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    areas = (x2 - x1) * (y2 - y1)
    tiny = np.finfo(areas.dtype).tiny
    groups = groups[order]
    keep = np.zeros(len(order), bool)
    waiting = np.arange(len(order))
    while len(waiting):
        best = np.diff(groups[waiting], prepend=groups[waiting[0]] - 1) != 0
        kept = waiting[best]
        keep[kept] = True
        kept = kept[np.cumsum(best) - 1]  # the one of each box's group
        widths = np.minimum(x2[waiting], x2[kept]) - np.maximum(x1[waiting], x1[kept])
        heights = np.minimum(y2[waiting], y2[kept]) - np.maximum(y1[waiting], y1[kept])
        intersection = np.maximum(widths, 0) * np.maximum(heights, 0)
        union = areas[waiting] + areas[kept] - intersection
        waiting = waiting[(intersection / np.maximum(union, tiny) <= iou) & ~best]
    return order[keep]


def sort_within_groups(scores: Floats, groups: Integers) -> Integers:
    """Indices that sort by rising group, within it by falling score, within that by index."""
    return np.lexsort((-scores, groups))


def rank_within_groups(sorted_groups: Integers) -> Integers:
    """Each element's place (0, 1, ...) in its run of equal values."""
    starts = np.flatnonzero(np.diff(sorted_groups, prepend=sorted_groups[:1] - 1))
    return np.arange(len(sorted_groups)) - np.repeat(starts, np.diff(starts, append=len(sorted_groups)))


def postprocess(
    locations: Floats, raw_scores: Floats, defaults: NDArray[np.float32], spec: ModelSpec, selection: Selection
) -> PackedBoxes:
    """Score, threshold, decode, clip, suppress.

    Args:
        locations: float ``(B, N, 4)``, the network's.
        raw_scores: float ``(B, N, C)``, the network's, before the score function.
        defaults: ``(N, 4)`` default boxes, centre-form.
        spec: coder, score function and columns.
        selection: threshold, NMS figures, classes.

    Raises:
        CheckpointError: the network's output is infinite or no numbers.
    """
    # What overflows or vanishes comes out right: an untrained network may ask for a box of infinite size, which
    # clipping mends, and a score of 1 / infinity is 0, as it should be.
    with np.errstate(over="ignore", under="ignore"):
        raw_scores = raw_scores.astype(np.float32, copy=False)
        _check_finite(raw_scores)
        found = _candidates(raw_scores, spec, selection)
        most = _CROWD * selection.nms.after
        while True:
            best, left_out = _best_of_each_image(found, most)
            kept = _keep(best, locations, defaults, spec, selection)
            # What NMS makes of a box depends on better ones alone: if they are enough, the rest need not be looked at.
            # An image that had more than enough keeps one box at least, and so has a count.
            if (np.bincount(kept.images)[left_out] >= selection.nms.after).all():
                return kept
            most *= _CROWD


def decoded(
    locations: Floats, raw_scores: Floats, defaults: NDArray[np.float32], spec: ModelSpec
) -> tuple[Floats, Floats]:
    """All that a network sees in a picture, whatever its score.

    Args:
        locations: float ``(N, 4)``, the network's.
        raw_scores: float ``(N, C)``, the network's, before the score function.
        defaults: ``(N, 4)`` default boxes, centre-form.
        spec: coder, score function and columns.

    Returns:
        Boxes ``(N, 4)``, ``x1, y1, x2, y2`` relative to the image and clipped to it, and the probabilities of each
        label ``(N, labels)``.
    """
    with np.errstate(over="ignore", under="ignore"):
        boxes = to_corners(decode(locations, defaults, spec.coding)).clip(0, 1)
        if spec.score_function == "softmax":
            return boxes, _softmax(raw_scores)[:, 1:]
        return boxes, _sigmoid(raw_scores[:, int(spec.background) :])


def _check_finite(output: Floats) -> None:
    """That weights which are numbers, but damaged or too much for the precision, are not taken for an empty picture."""
    with np.errstate(invalid="ignore"):
        suspicious = not np.isfinite(output.sum())  # one pass, which finite numbers fail only if their sum overflows
    if suspicious and not np.isfinite(output).all():
        raise CheckpointError(
            "the checkpoint is wrong, or its numbers are too large for this precision (fp32 takes the largest): "
            "what its network predicts is infinite or no number"
        )


class _Candidates(NamedTuple):
    """Boxes above the threshold, by rising image."""

    images: Integers
    places: Integers
    class_ids: Integers
    scores: NDArray[np.float32]

    def only(self, which: Any) -> _Candidates:
        """Those at some places."""
        return _Candidates(*(part[which] for part in self))


def _candidates(raw_scores: NDArray[np.float32], spec: ModelSpec, selection: Selection) -> _Candidates:
    """What is above the threshold; the score function, which is dear, is computed only where that can be."""
    columns = selection.columns(spec)
    consecutive = len(columns) > 0 and columns[-1] - columns[0] == len(columns) - 1
    chosen = raw_scores[..., columns[0] : columns[-1] + 1] if consecutive else raw_scores[..., columns]
    # A softmax is at most the sigmoid of the distance from the background, which has column 0.
    logits = chosen - raw_scores[..., :1] if spec.score_function == "softmax" else chosen
    rows, picked = np.divmod(np.flatnonzero(logits >= _least_logit(selection.score)), len(columns) or 1)

    of_rows = raw_scores.reshape(-1, raw_scores.shape[-1])
    if spec.score_function == "softmax":
        first = np.diff(rows, prepend=-1) != 0
        scores = _softmax(of_rows[rows[first]])[np.cumsum(first) - 1, columns[picked]]
    else:
        scores = _sigmoid(of_rows[rows, columns[picked]])
    images, places = np.divmod(rows, raw_scores.shape[1])
    found = _Candidates(images, places, columns[picked] - int(spec.background), scores)
    return found.only(scores >= selection.score)


def _least_logit(score: float) -> np.float32:
    """What a sigmoid's argument must reach for the score, with room for rounding."""
    score = min(score, 1 - 1e-6)  # float32's sigmoid is 1 long before infinity
    return np.float32(np.log(score / (1 - score)) - 0.01) if score > 0 else np.float32(-np.inf)


def _softmax(raw_scores: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(raw_scores - raw_scores.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _sigmoid(raw_scores: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-raw_scores))
    return probabilities


def _best_of_each_image(found: _Candidates, most: int) -> tuple[_Candidates, Integers]:
    """At least ``most`` of each image, all those with equal scores together; and the images that have more."""
    counts = np.bincount(found.images)
    ends = np.cumsum(counts)
    left_out = np.flatnonzero(counts > most)
    stays = np.ones(len(found.images), bool)
    for image in left_out:
        here = slice(ends[image] - counts[image], ends[image])
        scores = found.scores[here]
        stays[here] = scores >= np.partition(scores, -most)[-most]
    return (found.only(stays) if len(left_out) else found), left_out


def _keep(
    found: _Candidates, locations: Floats, defaults: NDArray[np.float32], spec: ModelSpec, selection: Selection
) -> PackedBoxes:
    """Of the candidates what enters NMS, decoded, and of that what it keeps."""
    groups = found.images if selection.nms.class_agnostic else found.images * len(spec.labels) + found.class_ids
    order = sort_within_groups(found.scores, groups)
    order = order[rank_within_groups(groups[order]) < selection.nms.before]
    images, places, class_ids, scores = found.only(order)
    located = locations[images, places].astype(np.float32, copy=False)
    _check_finite(located)
    boxes: Floats = to_corners(decode(located, defaults[places], spec.coding)).clip(0, 1)

    kept = nms(boxes, scores, groups[order], selection.nms.iou)
    kept = kept[sort_within_groups(scores[kept], images[kept])]
    kept = kept[rank_within_groups(images[kept]) < selection.nms.after]
    return PackedBoxes(boxes[kept].astype(np.float32, copy=False), scores[kept], class_ids[kept], images[kept])
