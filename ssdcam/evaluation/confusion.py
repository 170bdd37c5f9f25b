"""What a detector takes for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdcam.evaluation.matching import couples
from ssdcam.evaluation.pairing import Pairing


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each.

    Attributes:
        labels: the C classes.
        counts: int64 ``(C + 1, C + 1)``. Row: what it is; column: what the detector says. The last row is
            background that was taken for something, the last column what was missed.
        score: detections below it were not looked at.
    """

    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    score: float


def confuse(pairing: Pairing, score: float = 0.5, iou: float = 0.5) -> Confusion:
    """Match detections and ground truths one to one, whatever their classes.

    By falling score each detection takes the free ground truth of its photo that it overlaps most. What is difficult
    is neither missed nor wrong to find.

    Args:
        pairing: ground truths and detections.
        score: the least score that is looked at.
        iou: the least overlap.
    """
    truths, found = pairing.truths, pairing.found
    background = len(pairing.labels)
    looked_at = np.flatnonzero(found.scores >= score)
    looked_at = looked_at[np.argsort(-found.scores[looked_at], kind="stable")]
    together = couples(found.boxes[looked_at], found.images[looked_at], truths.boxes, truths.images)
    order = np.lexsort((together.truth, -together.iou, together.found))
    order = order[together.iou[order] >= iou]
    taken = np.full(len(looked_at), -1)  # which ground truth each detection takes
    free = np.ones(len(truths.boxes), np.bool_)
    excused = np.zeros(len(looked_at), np.bool_)
    for detection, truth in zip(together.found[order].tolist(), together.truth[order].tolist(), strict=True):
        if truths.difficult[truth]:
            excused[detection] = True
        elif taken[detection] < 0 and free[truth]:
            taken[detection], free[truth] = truth, False
    said = found.classes[looked_at]
    hit = taken >= 0
    wrong = ~hit & ~excused
    missed = free & ~truths.difficult
    counts = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(counts, (truths.classes[taken[hit]], said[hit]), 1)
    counts[background, :-1] = np.bincount(said[wrong], minlength=background)
    counts[:-1, background] = np.bincount(truths.classes[missed], minlength=background)
    return Confusion(pairing.labels, counts, score)
