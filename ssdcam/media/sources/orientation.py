"""How the pictures of a video are turned and mirrored before they are shown."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.media.av import av

_QUARTER_TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


@dataclass(frozen=True)
class Orientation:
    """What makes a picture upright that is not: mirrored, turned or both.

    Attributes:
        mirrored: whether top and bottom change places, before anything is turned.
        rotation: how it is turned then, as ``cv2.rotate`` calls it; None if it is not.
    """

    mirrored: bool
    rotation: int | None

    @property
    def swaps_sides(self) -> bool:
        """Whether width becomes height."""
        return self.rotation in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE)

    def apply(self, picture: NDArray[np.uint8], into: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """A picture or plane, ``(height, width, ...)``, made upright; written into ``into`` if that is given."""
        if self.rotation is None:
            return np.asarray(cv2.flip(picture, 0, dst=into) if self.mirrored else picture, np.uint8)
        mirrored = cv2.flip(picture, 0) if self.mirrored else picture
        return np.asarray(cv2.rotate(mirrored, self.rotation, dst=into), np.uint8)


def orientation_of(frame: av.VideoFrame) -> Orientation | None:
    """What makes a frame upright, in quarter turns; None if it is, or if its display matrix flattens the picture."""
    rotation = _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    turned = None if rotation is None else Orientation(False, rotation)
    try:
        stored: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18 has no name for EXIF, and gives nothing that lies beside it; few cameras mirror
        return turned
    if stored is None:
        return None
    # x goes to ax + cy, and y to bx + dy.
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    area = a * d - b * c
    if not area:
        return None
    return Orientation(True, rotation) if area < 0 else turned
