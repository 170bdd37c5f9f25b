"""What a source gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video, stream or camera.

    Attributes:
        index: 0, 1, ... over the source's own frames, those that were skipped counted too.
        pts: when it is shown, in seconds by the source's clock; rises from frame to frame.
        image: uint8 ``(height, width, 3)``, BGR, upright, in contiguous memory that is the receiver's own.
        captured: when it reached this program, in seconds of ``time.monotonic()``.
    """

    index: int
    pts: float
    image: NDArray[np.uint8]
    captured: float
