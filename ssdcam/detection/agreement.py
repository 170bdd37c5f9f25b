"""How much of a detector is left where its network computes in 8-bit integers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.ssd.host import Floats, pairwise_iou

# The embedded detector has 0.98 and 0.01; of another picture it has 0.58 and 0.41.
_LEAST_OVERLAP, _MOST_APART = 0.85, 0.1
_MOST_LIKELY = 50  # boxes a picture
_PICTURES = 20

Decoded = tuple[Floats, Floats]
"""What a detector sees in a picture: all its boxes ``(N, 4)``, and each's probabilities of the labels ``(N, L)``."""


class Agreement(NamedTuple):
    """How much of a detector another one keeps, of the boxes that either takes for the likeliest objects.

    Attributes:
        pictures: how many were looked at.
        overlap: the mean IoU of both's boxes.
        apart: the mean difference between both's scores for what such a box is taken for.
    """

    pictures: int
    overlap: float
    apart: float

    @property
    def enough(self) -> bool:
        """Whether it is the same detector still."""
        return self.overlap >= _LEAST_OVERLAP and self.apart <= _MOST_APART  # NaN is not


def pictures_to_compare(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Some of the pictures ``(N, H, W, 3)`` that ranges were chosen on, spread over them; the first is one."""
    return batch[:: -(-len(batch) // _PICTURES)]


def compare(ours: Iterable[Decoded], theirs: Iterable[Decoded]) -> Agreement:
    """Compare what two detectors see in the same pictures, of which there is one at least."""
    overlaps, apart, pictures = [], [], 0
    for (boxes, scores), (their_boxes, their_scores) in zip(ours, theirs, strict=True):
        pictures += 1
        for likely in (scores, their_scores):
            labels = likely.argmax(axis=1)
            best = np.argsort(-likely.max(axis=1), kind="stable")[:_MOST_LIKELY]
            apart.append(np.abs(scores[best, labels[best]] - their_scores[best, labels[best]]))
            best = best[(boxes[best, 2:] > boxes[best, :2]).all(axis=1)]  # not those clipped to nothing
            overlaps.append(np.diagonal(pairwise_iou(boxes[best], their_boxes[best])))
    return Agreement(pictures, float(np.concatenate(overlaps).mean()), float(np.concatenate(apart).mean()))
