"""Average precision as the PASCAL VOC development kit has it (VOC2007 3.4.1 for 11 points, VOC2010 3.4 for the area).

Detections of a class go by falling score over all photos. Each looks at the ground truth of its photo and class that it
overlaps most. At an IoU of .5 and more it has found it, unless an earlier one has: then it is a false positive. If that
ground truth is difficult, the detection counts neither way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdcam.evaluation.matching import best_of_each, couples
from ssdcam.evaluation.pairing import Floats, Pairing

# As others make them: 3 * .1 is a little more than .3, and a recall of exactly .3 does not reach it. Every published
# 11-point figure was made so.
_LEVELS = np.linspace(0, 1, 11)


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of a class after each of its K counted detections, by falling score.

    Attributes:
        precision: float64 ``(K,)``.
        recall: float64 ``(K,)``; NaN if there are no ground truths.
        scores: float32 ``(K,)``.
        num_truths: ground truths that count.
    """

    precision: Floats
    recall: Floats
    scores: NDArray[np.float32]
    num_truths: int


def curves(pairing: Pairing, iou: float = 0.5) -> list[Curve]:
    """The curve of each of the pairing's labels.

    Args:
        pairing: ground truths and detections.
        iou: overlap from which an object counts as found.
    """
    truths, found = pairing.truths, pairing.found
    num_classes = len(pairing.labels)
    together = couples(
        found.boxes,
        found.images * num_classes + found.classes,
        truths.boxes,
        truths.images * num_classes + truths.classes,
    )
    truth, overlap = best_of_each(together, len(found.boxes))
    matched = (truth >= 0) & (overlap >= iou)
    counted = ~matched
    counted[matched] = ~truths.difficult[truth[matched]]
    order = np.argsort(-found.scores, kind="stable")
    by_score = order[matched[order] & counted[order]]
    hit = np.zeros(len(found.boxes), np.bool_)
    hit[by_score[np.unique(truth[by_score], return_index=True)[1]]] = True

    order = order[counted[order]]
    num_truths = np.bincount(truths.classes[~truths.difficult], minlength=num_classes)
    results = []
    for class_id, count in enumerate(num_truths.tolist()):
        own = order[found.classes[order] == class_id]
        hits = np.cumsum(hit[own])
        with np.errstate(invalid="ignore", divide="ignore"):
            results.append(Curve(hits / np.arange(1, len(own) + 1), hits / np.float64(count), found.scores[own], count))
    return results


def eleven_points(precision: Floats, recall: Floats) -> float:
    """The mean over recalls 0, .1, ..., 1 of the best precision at that recall or beyond (VOC2007)."""
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in _LEVELS]))


def area_under_curve(precision: Floats, recall: Floats) -> float:
    """The area under the curve once precision has been made monotone, falling with recall (VOC2010 and later)."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


AVERAGES: dict[str, Callable[[Floats, Floats], float]] = {"voc07": eleven_points, "voc": area_under_curve}


def average_precision(curve: Curve, metric: str) -> float:
    """A class' average precision, 0 to 1; NaN if it has no ground truths.

    Args:
        curve: of the class.
        metric: ``voc07`` (11 points) or ``voc`` (area).
    """
    return AVERAGES[metric](curve.precision, curve.recall) if curve.num_truths else float("nan")
