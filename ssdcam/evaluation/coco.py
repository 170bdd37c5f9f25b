"""Average precision as COCO has it, computed by COCO's own pycocotools, which is the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from ssdcam.errors import UnavailableError
from ssdcam.evaluation.figures import Figures
from ssdcam.evaluation.pairing import Floats, Integers, Pairing

# The order of COCOeval.stats.
_FIGURES = "map map50 map75 map_small map_medium map_large ar1 ar10 ar100 ar_small ar_medium ar_large".split()


def coco_figures(pairing: Pairing) -> Figures:
    """Score with pycocotools; what is difficult counts as a crowd.

    Raises:
        UnavailableError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UnavailableError("the coco metric needs pycocotools: pip install pycocotools") from None
    truths, found = pairing.truths, pairing.found
    crowds = {"iscrowd": truths.difficult.astype(int), "area": truths.areas}
    given = _annotations(truths.boxes, truths.classes, truths.images, crowds)
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    results = _annotations(found.boxes, found.classes, found.images, {"score": found.scores, "area": areas})
    with redirect_stdout(StringIO()):  # it reports its progress there
        judge = COCOeval(_dataset(COCO(), pairing, given), _dataset(COCO(), pairing, results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    # (IoU thresholds, recalls, classes, areas, detections a photo); the first area is all, the last count is 100.
    precision = judge.eval["precision"][:, :, :, 0, -1]
    return Figures(
        dict(zip(_FIGURES, _means(judge.stats), strict=True)),
        _means(precision.transpose(2, 0, 1)),
        _means(precision[0].T),
    )


def _dataset(coco: Any, pairing: Pairing, annotations: Sequence[Mapping[str, Any]]) -> Any:
    coco.dataset = {
        "images": [{"id": i} for i in range(len(pairing.sizes))],
        "categories": [{"id": i, "name": label} for i, label in enumerate(pairing.labels)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _annotations(
    boxes: Floats, classes: Integers, images: Integers, more: Mapping[str, np.ndarray[Any, Any]]
) -> list[dict[str, Any]]:
    """COCO's form: boxes as x, y, width, height, ids from 1, as it takes 0 for none."""
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    columns = [corners.tolist(), classes.tolist(), images.tolist(), *(values.tolist() for values in more.values())]
    keys = ("bbox", "category_id", "image_id", *more)
    defaults = {"iscrowd": 0}
    return [
        {"id": i, **defaults, **dict(zip(keys, row, strict=True))}
        for i, row in enumerate(zip(*columns, strict=True), 1)
    ]


def _means(values: Any) -> tuple[float, ...]:
    """The mean of each row over what is there: COCO writes -1 where there is nothing."""
    rows = [np.ravel(row) for row in values]
    return tuple(float(row[row > -1].mean()) if (row > -1).any() else float("nan") for row in rows)
