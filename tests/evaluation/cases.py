"""Random data sets with detections, and the naive evaluator that VOC's text describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdcam.datasets import Dataset, Sample
from ssdcam.detections import Detections

LABELS = ("ant", "bee", "cat")


def sample(
    name: str, boxes: Sequence[Sequence[float]], classes: Sequence[int], difficult: Sequence[bool] | None = None
) -> Sample:
    return Sample(
        Path(f"{name}.jpg"),
        100,
        100,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(difficult if difficult is not None else [False] * len(classes), np.bool_),
        name,
    )


def found(boxes: Sequence[Sequence[float]], scores: Sequence[float], classes: Sequence[int]) -> Detections:
    return Detections.named(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64), LABELS
    )


def random_case(seed: int, photos: int = 12) -> tuple[Dataset, list[Detections]]:
    """Ground truths, and detections most of which are perturbed ground truths; scores are often equal."""
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for i in range(photos):
        count = int(rng.integers(0, 6))
        corners = rng.integers(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + rng.integers(8, 40, (count, 2))], axis=1)
        classes = rng.integers(0, len(LABELS), count)
        samples.append(sample(str(i), boxes.tolist(), classes.tolist(), (rng.random(count) < 0.2).tolist()))
        chosen = rng.integers(0, count, 2 * count) if count else np.zeros(0, int)
        near = np.sort((boxes[chosen] + rng.normal(0, 4, (len(chosen), 4))).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        said = np.where(rng.random(len(chosen)) < 0.8, classes[chosen], rng.integers(0, len(LABELS), len(chosen)))
        detections.append(found(near.tolist(), (rng.integers(1, 20, len(chosen)) / 20).tolist(), said.tolist()))
    return Dataset(LABELS, tuple(samples), ()), detections


def naive_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def naive_curve(
    dataset: Dataset, detections: Sequence[Detections], class_id: int, least: float = 0.5
) -> tuple[list[float], list[float], int]:
    """Precision and recall of a class after each detection that counts, and the number of ground truths."""
    truths = {}
    for i, one in enumerate(dataset.samples):
        own = np.flatnonzero(one.class_ids == class_id)
        truths[i] = [(one.boxes[j].tolist(), bool(one.difficult[j])) for j in own]
    total = sum(not difficult for own in truths.values() for _, difficult in own)
    queue = [
        (score, i, box)
        for i, one in enumerate(detections)
        for score, label, box in zip(one.scores.tolist(), one.labels, one.boxes.tolist(), strict=True)
        if label == dataset.labels[class_id]
    ]
    queue.sort(key=lambda entry: -entry[0])
    taken, hits, misses, precision, recall = set(), 0, 0, [], []
    for _, i, box in queue:
        best, place = 0.0, -1
        for j, (other, _) in enumerate(truths[i]):
            if naive_iou(box, other) > best:
                best, place = naive_iou(box, other), j
        if best >= least and truths[i][place][1]:
            continue
        if best >= least and (i, place) not in taken:
            taken.add((i, place))
            hits += 1
        else:
            misses += 1
        precision.append(hits / (hits + misses))
        recall.append(hits / total if total else float("nan"))
    return precision, recall, total


def naive_area(precision: Sequence[float], recall: Sequence[float]) -> float:
    """Rectangles between one recall and the next, as high as the best precision from there on."""
    area, before = 0.0, 0.0
    for i, reached in enumerate(recall):
        area += (reached - before) * max(precision[i:])
        before = reached
    return area


def naive_eleven_points(precision: Sequence[float], recall: Sequence[float]) -> float:
    levels: NDArray[np.float64] = np.arange(0.0, 1.1, 0.1)
    best = [max((p for p, r in zip(precision, recall, strict=True) if r >= level), default=0.0) for level in levels]
    return sum(best) / 11
