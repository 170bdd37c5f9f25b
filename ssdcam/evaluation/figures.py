"""What every metric comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """A metric's figures, 0 to 1, NaN where there are no ground truths.

    Attributes:
        summary: ``map`` and ``map50``, means over the classes that have ground truths. COCO adds ``map75``,
            ``map_small`` (areas below 32 x 32 pixels), ``map_medium``, ``map_large`` (from 96 x 96), and mean
            recalls: ``ar1``, ``ar10``, ``ar100`` (so many detections a photo), ``ar_small``, ``ar_medium``,
            ``ar_large``.
        classes: each label's average precision; COCO's is over IoU .50 to .95.
        classes50: each label's average precision at IoU .50.
    """

    summary: Mapping[str, float]
    classes: tuple[float, ...]
    classes50: tuple[float, ...]
