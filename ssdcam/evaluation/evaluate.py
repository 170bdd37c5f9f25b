"""One evaluation, whatever the metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ssdcam.evaluation.coco import coco_figures
from ssdcam.evaluation.figures import Figures
from ssdcam.evaluation.pairing import Pairing
from ssdcam.evaluation.voc import Curve, average_precision, curves

Metric = Literal["voc07", "voc", "coco"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, eq=False)
class ClassResult:
    """How well one class is found.

    Attributes:
        label: its name in the data set.
        ap: average precision by the metric, 0 to 1; NaN if there is no ground truth.
        ap50: the same at IoU .5.
        num_found: detections that count.
        curve: precision and recall at IoU .5.
    """

    label: str
    ap: float
    ap50: float
    num_found: int
    curve: Curve


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a detector is.

    Attributes:
        metric: by what.
        figures: ``map``, ``map50`` and what else the metric has; see :class:`~ssdcam.evaluation.figures.Figures`.
        classes: each scored class.
        num_images: photos.
    """

    metric: Metric
    figures: Mapping[str, float]
    classes: tuple[ClassResult, ...]
    num_images: int


def evaluate(pairing: Pairing, metric: Metric = "voc07") -> Evaluation:
    """Score detections.

    Args:
        pairing: ground truths and detections.
        metric: ``voc07`` (11 points) or ``voc`` (area), both at IoU .5; ``coco`` (mean over IoU .50 to .95).

    Raises:
        UnavailableError: the coco metric needs a package that is not installed.
    """
    by_class = curves(pairing)
    if metric == "coco":
        scored = coco_figures(pairing)
    else:
        averages = tuple(average_precision(curve, metric) for curve in by_class)
        scored = Figures(dict.fromkeys(("map", "map50"), _mean(averages)), averages, averages)
    classes = (
        ClassResult(label, ap, ap50, len(curve.scores), curve)
        for label, ap, ap50, curve in zip(pairing.labels, scored.classes, scored.classes50, by_class, strict=True)
    )
    return Evaluation(metric, scored.summary, tuple(classes), len(pairing.sizes))


def _mean(values: tuple[float, ...]) -> float:
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")
