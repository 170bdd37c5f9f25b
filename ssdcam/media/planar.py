"""Pictures that stay in luma and chroma from a video's decoder to an encoder, and are drawn on like that.

Turning a picture into BGR and back costs more than drawing on it, and changes colours a little: at 1080p it was a sixth
of a frame's CPU time, at 4K a quarter.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detections import Image
from ssdcam.media.av import av
from ssdcam.media.frame import Picture
from ssdcam.media.surface import FONT, Colour, Tile
from ssdcam.media.yuv import LIMITED, from_bgr, planes_of, to_planes

_WHITE = 235  # luma, in the limited range


class PlanarPicture(Picture):
    """An upright picture in 8-bit 4:2:0, limited range, in memory of its own.

    Args:
        planes: uint8 luma ``(height, width)`` of even sides, and two of chroma ``(height / 2, width / 2)``; copied.
        matrix: how they are made of colours: a number of ITU-T H.273.

    Attributes:
        frame: what an encoder takes.
    """

    def __init__(self, planes: Iterable[NDArray[np.uint8]], matrix: int) -> None:
        luma, *chroma = planes
        height, width = luma.shape
        self.size = height, width
        self.matrix = matrix
        self.frame = av.VideoFrame(width, height, "yuv420p")
        self.frame.colorspace, self.frame.color_range = matrix, LIMITED
        for copy, plane in zip(planes_of(self.frame), (luma, *chroma), strict=True):
            copy[:] = plane

    @property
    def image(self) -> Image:
        """All of it as it is now, BGR."""
        return np.asarray(self.frame.to_ndarray(format="bgr24"), np.uint8)

    @property
    def surface(self) -> PlanarSurface:
        """What to draw on."""
        return PlanarSurface(planes_of(self.frame), self.matrix)


class PlanarSurface:
    """Luma and chroma; see :class:`ssdcam.media.surface.Surface`.

    Args:
        planes: as of :class:`PlanarPicture`, changed in place.
        matrix: likewise.
    """

    grid = 2

    def __init__(self, planes: Iterable[NDArray[np.uint8]], matrix: int) -> None:
        self._luma, *self._chroma = planes
        self._matrix = matrix

    @property
    def size(self) -> tuple[int, int]:  # noqa: D102
        height, width = self._luma.shape
        return height, width

    def fill(self, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
        """See :class:`ssdcam.media.surface.Surface`; off the grid, chroma that lies half inside changes, too."""
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), max(x2, 0), max(y2, 0)
        luma, *chroma = _samples(colour, self._matrix)
        self._luma[y1:y2, x1:x2] = luma
        for plane, value in zip(self._chroma, chroma, strict=True):
            plane[y1 // 2 : (y2 + 1) // 2, x1 // 2 : (x2 + 1) // 2] = value

    def paste(self, x: int, y: int, tile: Tile) -> None:  # noqa: D102
        luma, *chroma = _planes(tile, self._matrix)
        height, width = luma.shape
        self._luma[y : y + height, x : x + width] = luma
        for plane, part in zip(self._chroma, chroma, strict=True):
            plane[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2] = part

    def darken(self, x1: int, y1: int, x2: int, y2: int) -> None:  # noqa: D102
        parts = [self._luma[y1:y2, x1:x2]]
        parts += [plane[y1 // 2 : (y2 + 1) // 2, x1 // 2 : (x2 + 1) // 2] for plane in self._chroma]
        for part, black in zip(parts, (16, 128, 128), strict=True):
            part[:] = cv2.convertScaleAbs(part, alpha=0.25, beta=0.75 * black)

    def write(self, text: str, origin: tuple[int, int], scale: float, thickness: int) -> None:
        """See :class:`ssdcam.media.surface.Surface`; what is dark has hardly any chroma, so that luma is enough."""
        cv2.putText(self._luma, text, origin, FONT, scale, (_WHITE,), thickness, cv2.LINE_AA)


@lru_cache(maxsize=1024)
def _samples(colour: Colour, matrix: int) -> tuple[int, ...]:
    """Luma and chroma of a colour."""
    return tuple(cv2.transform(np.array([[colour]], np.uint8), from_bgr(matrix, LIMITED))[0, 0].tolist())


@lru_cache(maxsize=128)
def _planes(tile: Tile, matrix: int) -> tuple[NDArray[np.uint8], ...]:
    """Luma and chroma of a small picture."""
    height, width = tile.image.shape[:2]
    planes = tuple(np.empty((height // n, width // n), np.uint8) for n in (1, 2, 2))
    to_planes(tile.image, from_bgr(matrix, LIMITED), planes)
    return planes
