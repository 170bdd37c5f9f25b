"""Ground truths and detections of a whole data set side by side, in flat arrays and with common class ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdcam.datasets.aliases import match_labels
from ssdcam.datasets.dataset import Dataset
from ssdcam.detections import Detections

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Truths:
    """N ground truths.

    Attributes:
        boxes: float64 ``(N, 4)``, ``x1, y1, x2, y2`` in pixels.
        classes: int64 ``(N,)`` into the labels of the pairing.
        images: int64 ``(N,)``, places among the samples, rising.
        difficult: bool ``(N,)``, counting neither way.
        areas: float64 ``(N,)`` in pixels, as stated or of the box.
    """

    boxes: Floats
    classes: Integers
    images: Integers
    difficult: NDArray[np.bool_]
    areas: Floats


@dataclass(frozen=True, eq=False)
class Found:
    """M detections, by rising image and within it by falling score.

    Attributes:
        boxes: float64 ``(M, 4)``, ``x1, y1, x2, y2`` in pixels.
        classes: int64 ``(M,)`` into the labels of the pairing.
        images: int64 ``(M,)``, places among the samples, rising.
        scores: float32 ``(M,)``.
    """

    boxes: Floats
    classes: Integers
    images: Integers
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pairing:
    """A data set and what a detector found in it.

    Attributes:
        labels: the classes that are scored: those of the data set that the detector knows.
        left_out: classes of the data set that the detector does not know.
        not_in_data: classes of the detector that the data set does not know.
        sizes: int64 ``(images, 2)``, width and height of each photo in pixels, 0 where nobody says.
        truths: the ground truths of the scored classes.
        found: the detections of the scored classes.
    """

    labels: tuple[str, ...]
    left_out: tuple[str, ...]
    not_in_data: tuple[str, ...]
    sizes: Integers
    truths: Truths
    found: Found


def pair(dataset: Dataset, detections: Sequence[Detections], known: Sequence[str] | None = None) -> Pairing:
    """Bring together ground truths and detections, class by class by name.

    Args:
        dataset: the photos and their ground truth.
        detections: what was found in each of its samples, in their order.
        known: the names of all classes that the detector can find. None means those of the data set, and those that it
            found: then a class of which nothing was found counts as not found, not as left out.

    Raises:
        ValueError: the numbers of samples and detections differ.
    """
    if len(detections) != len(dataset.samples):
        raise ValueError(f"{len(detections)} detections for {len(dataset.samples)} samples")
    names = list(dict.fromkeys(label for one in detections for label in one.labels))
    can_find = [*(dataset.labels if known is None else known), *names]
    scored = sorted({i for i in match_labels(can_find, dataset.labels) if i is not None})
    labels = tuple(dataset.labels[i] for i in scored)
    unknown = dict.fromkeys(
        name for name, i in zip(can_find, match_labels(can_find, dataset.labels), strict=True) if i is None
    )
    return Pairing(
        labels=labels,
        left_out=tuple(label for i, label in enumerate(dataset.labels) if i not in set(scored)),
        not_in_data=tuple(unknown),
        sizes=np.array([(s.width or 0, s.height or 0) for s in dataset.samples], np.int64).reshape(-1, 2),
        truths=_truths(dataset, scored),
        found=_found(detections, dict(zip(names, match_labels(names, labels), strict=True))),
    )


def _truths(dataset: Dataset, scored: Sequence[int]) -> Truths:
    place = np.full(len(dataset.labels), -1)
    place[scored] = np.arange(len(scored))
    samples = dataset.samples
    classes = place[np.concatenate([np.zeros(0, np.int64), *(s.class_ids for s in samples)])]
    boxes = np.concatenate([np.zeros((0, 4)), *(s.boxes for s in samples)])
    sides = boxes[:, 2:] - boxes[:, :2]
    stated = [np.full(len(s.boxes), np.nan) if s.areas is None else s.areas for s in samples]
    areas = np.concatenate([np.zeros(0), *stated])
    areas = np.where(np.isnan(areas), sides.prod(axis=1), areas)
    difficult = np.concatenate([np.zeros(0, np.bool_), *(s.difficult for s in samples)])
    images = np.repeat(np.arange(len(samples)), [len(s.boxes) for s in samples])
    kept = classes >= 0
    return Truths(boxes[kept], classes[kept], images[kept], difficult[kept], areas[kept])


def _found(detections: Sequence[Detections], class_of: dict[str, int | None]) -> Found:
    known = {name: -1 if place is None else place for name, place in class_of.items()}
    classes = np.array([known[label] for one in detections for label in one.labels], np.int64)
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in detections)])
    scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in detections)])
    images = np.repeat(np.arange(len(detections)), [len(one) for one in detections])
    kept = classes >= 0
    return Found(boxes[kept], classes[kept], images[kept], scores[kept])
