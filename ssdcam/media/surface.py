"""What is drawn on: a BGR picture, or anything else that takes rectangles, small pictures and white words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detections import Image

Colour = tuple[int, int, int]
"""Blue, green, red."""

FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, eq=False)
class Tile:
    """A small picture that is pasted many times.

    Attributes:
        image: uint8 ``(height, width, 3)``, BGR, not changed any more.
    """

    image: Image


class Surface(Protocol):
    """A picture to draw on. Rectangles are ``x1, y1, x2, y2`` in its pixels, the last two not included.

    Attributes:
        grid: what begins and ends at multiples of this is drawn exactly: 2 where chroma has half the size, else 1.
    """

    grid: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
        """Give a rectangle a colour, as far as it lies inside."""

    def paste(self, x: int, y: int, tile: Tile) -> None:
        """Lay a small picture over it, all of which lies inside and on the grid."""

    def darken(self, x1: int, y1: int, x2: int, y2: int) -> None:
        """Leave a quarter of the light of a rectangle on the grid, as far as it lies inside; no figure is below 0."""

    def write(self, text: str, origin: tuple[int, int], scale: float, thickness: int) -> None:
        """Write in white on what is dark; the arguments are those of ``cv2.putText``."""


class BgrSurface:
    """A BGR picture; see :class:`Surface`.

    Args:
        image: uint8 ``(height, width, 3)``, changed in place; need not be contiguous.
    """

    grid = 1

    def __init__(self, image: Image) -> None:
        self._image = image

    @property
    def size(self) -> tuple[int, int]:  # noqa: D102
        height, width = self._image.shape[:2]
        return height, width

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:  # noqa: D102
        self._image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = _pixel(colour)

    def paste(self, x: int, y: int, tile: Tile) -> None:  # noqa: D102
        height, width = tile.image.shape[:2]
        self._image[y : y + height, x : x + width] = tile.image

    def darken(self, x1: int, y1: int, x2: int, y2: int) -> None:  # noqa: D102
        part = self._image[y1:y2, x1:x2]
        part //= 4

    def write(self, text: str, origin: tuple[int, int], scale: float, thickness: int) -> None:  # noqa: D102
        cv2.putText(self._image, text, origin, FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)


@lru_cache(maxsize=1024)
def _pixel(colour: Colour) -> NDArray[np.uint8]:
    return np.array(colour, np.uint8)
