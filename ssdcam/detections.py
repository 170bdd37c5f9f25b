"""What one picture or frame holds. The ground floor: this module imports numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""A picture: ``(height, width, 3)``, BGR."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, by falling score.

    Attributes:
        boxes: float32 ``(N, 4)``, ``x1, y1, x2, y2`` in pixels of the image as shown,
            ``0 <= x1 < x2 <= width`` and ``0 <= y1 < y2 <= height``.
        scores: float32 ``(N,)``, in 0 to 1, falling.
        class_ids: int64 ``(N,)``, counted from 0 over the checkpoint's labels; background has no id.
        labels: N names, ``labels[i]`` being that of ``class_ids[i]``.

    Raises:
        ValueError: the four differ in length, or ``boxes`` is not ``(N, 4)``.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.class_ids.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape}, class_ids {self.class_ids.shape} "
                f"and {n} labels do not belong together"
            )

    @classmethod
    def empty(cls) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ())

    @classmethod
    def named(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.int64],
        names: Sequence[str],
    ) -> Detections:
        """Sort by falling score (ties keep their order) and take each label from ``names[class_id]``."""
        order = np.argsort(-scores, kind="stable")
        class_ids = class_ids[order]
        return cls(boxes[order], scores[order], class_ids, tuple(names[i] for i in class_ids.tolist()))

    def __len__(self) -> int:
        return len(self.labels)
