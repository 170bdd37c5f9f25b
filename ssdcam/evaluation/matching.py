"""Overlaps of detections and ground truths in the same photo, for all photos at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.evaluation.pairing import Floats, Integers


class Couples(NamedTuple):
    """Every detection with every ground truth of its group, ordered by detection and then by ground truth.

    Attributes:
        found: int64 ``(C,)``, which detection.
        truth: int64 ``(C,)``, which ground truth.
        iou: float64 ``(C,)``.
    """

    found: Integers
    truth: Integers
    iou: Floats


def couples(found_boxes: Floats, found_groups: Integers, truth_boxes: Floats, truth_groups: Integers) -> Couples:
    """Couple what belongs to the same group.

    Args:
        found_boxes: float64 ``(M, 4)`` corners.
        found_groups: int64 ``(M,)``: the photo, or the photo and class.
        truth_boxes: float64 ``(N, 4)`` corners.
        truth_groups: int64 ``(N,)``.
    """
    order = np.argsort(truth_groups, kind="stable")
    first = np.searchsorted(truth_groups[order], found_groups, "left")
    counts = np.searchsorted(truth_groups[order], found_groups, "right") - first
    found = np.repeat(np.arange(len(found_groups)), counts)
    within = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
    truth = order[np.repeat(first, counts) + within]
    return Couples(found, truth, _iou(found_boxes[found], truth_boxes[truth]))


def _iou(a: Floats, b: Floats) -> Floats:
    """IoU ``(C,)`` of boxes ``(C, 4)`` two by two; 0 where neither has an area."""
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    shared = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    overlaps: NDArray[np.float64] = shared / np.maximum(union, np.finfo(np.float64).tiny)
    return overlaps


def best_of_each(pairs: Couples, count: int) -> tuple[Integers, Floats]:
    """The ground truth that each detection overlaps most, of equals the first.

    Args:
        pairs: from :func:`couples`.
        count: M, the number of detections.

    Returns:
        int64 ``(M,)``, which ground truth, -1 if its group has none; float64 ``(M,)``, by how much.
    """
    truth, iou = np.full(count, -1), np.zeros(count)
    # Of the couples by falling IoU the first of each detection.
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.found))
    found, first = np.unique(pairs.found[order], return_index=True)
    truth[found] = pairs.truth[order][first]
    iou[found] = pairs.iou[order][first]
    return truth, iou
