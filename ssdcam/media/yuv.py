"""Frames as video codecs take them: from BGR to 4:2:0, even in size, with the colours said the way they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.media.av import av


@dataclass(frozen=True)
class Colours:
    """A way to make colours of luma and chroma: numbers of ITU-T H.273, which codecs and files carry.

    Attributes:
        matrix: how luma and chroma are mixed.
        primaries: what red, green and blue are.
        transfer: the curve.
    """

    matrix: int
    primaries: int
    transfer: int


BT601 = Colours(matrix=6, primaries=6, transfer=6)
BT709 = Colours(matrix=1, primaries=1, transfer=1)
LIMITED, FULL = 1, 2  # ranges, in FFmpeg's numbers

UNSAID = 2  # in H.273
_SMPTE170M = (0.299, 0.114)
# What red and blue add to luma, by matrix; green adds the rest.
_LUMA: Mapping[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: _SMPTE170M,
    6: _SMPTE170M,
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@cache
def from_bgr(matrix: int, colour_range: int) -> NDArray[np.float32]:
    """What ``cv2.transform`` makes luma and chroma of BGR with, ``(3, 4)``.

    Args:
        matrix: a number of H.273; one that says nothing is BT.601, as FFmpeg has it.
        colour_range: :data:`FULL`, or anything else for the limited one.
    """
    red, blue = _LUMA.get(matrix, _SMPTE170M)
    luma = np.array([blue, 1 - red - blue, red])
    chroma_blue = (np.array([1, 0, 0]) - luma) / (1 - blue) / 2
    chroma_red = (np.array([0, 0, 1]) - luma) / (1 - red) / 2
    black, light, chroma = (0, 255, 255) if colour_range == FULL else (16, 219, 224)
    rows = np.stack([luma * light, chroma_blue * chroma, chroma_red * chroma]) / 255
    return np.column_stack([rows, [black, 128, 128]]).astype(np.float32)


@cache
def to_bgr(matrix: int, colour_range: int) -> NDArray[np.float32]:
    """The way back of :func:`from_bgr`."""
    forth = from_bgr(matrix, colour_range).astype(np.float64)
    back = np.linalg.inv(forth[:, :3])
    return np.column_stack([back, -back @ forth[:, 3]]).astype(np.float32)


def planes_of(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """The planes of a frame with a byte a sample, each ``(height, width)``: its own memory, not copied."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


def to_planes(
    image: NDArray[np.uint8],
    forth: NDArray[np.float32],
    planes: Sequence[NDArray[np.uint8]],
    whole: NDArray[np.uint8] | None = None,
    half: NDArray[np.uint8] | None = None,
) -> None:
    """Turn BGR into luma and, of the mean of four pixels, chroma.

    It takes 0.26 ms for 768x432 on one core, where libswscale takes 0.73 if it is told to round exactly, and if not
    lets every neutral grey turn green by a level. OpenCV's own conversion knows BT.601 only and takes the colour of
    four pixels from one of them, which frays thin coloured lines.

    Args:
        image: uint8 ``(height, width, 3)``, both even.
        forth: see :func:`from_bgr`.
        planes: uint8 ``(height, width)`` and two of half the height and width, which are filled.
        whole: memory to work in, of the image's shape.
        half: memory to work in, of half its height and width.
    """
    luma, *chroma = planes
    height, width = luma.shape
    cv2.extractChannel(cv2.transform(image, forth, dst=whole), 0, dst=luma)
    means = cv2.resize(image, (width // 2, height // 2), dst=half, interpolation=cv2.INTER_AREA)
    means = cv2.transform(means, forth, dst=half)
    for channel, plane in enumerate(chroma, 1):
        cv2.extractChannel(means, channel, dst=plane)


def can_be_made(matrix: int) -> bool:
    """Whether :func:`from_bgr` knows that matrix of H.273, or it says nothing."""
    return matrix in _LUMA or matrix == UNSAID


def mix_alike(one: int, other: int) -> bool:
    """Whether :func:`from_bgr` has the same for two matrices of H.273."""
    return _LUMA.get(one, _SMPTE170M) == _LUMA.get(other, _SMPTE170M)


def colours_for(height: int) -> Colours:
    """What players assume of a picture that says nothing: BT.709 from 720 lines on, BT.601 below."""
    return BT709 if height >= 720 else BT601


class YuvConverter:
    """Turns images into frames for an encoder, one size after the other.

    A 4:2:0 picture has even sides. An odd image gets its last column or row once more, so that every pixel, and every
    box, stays where it was.

    Args:
        width: of the images, in pixels.
        height: of the images, in pixels.
        colours: what to turn BGR into.

    Attributes:
        width: of the frames: even.
        height: of the frames: even.
    """

    def __init__(self, width: int, height: int, colours: Colours) -> None:
        self._colours = colours
        self._from_bgr = from_bgr(colours.matrix, LIMITED)
        self.width, self.height = width + width % 2, height + height % 2
        odd = (self.width, self.height) != (width, height)
        self._padded = np.empty((self.height, self.width, 3), np.uint8) if odd else None
        self._whole = np.empty((self.height, self.width, 3), np.uint8)
        self._half = np.empty((self.height // 2, self.width // 2, 3), np.uint8)

    def convert(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        """A yuv420p frame of an image, uint8 ``(height, width, 3)``, BGR."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        frame.colorspace, frame.color_range = self._colours.matrix, LIMITED
        to_planes(self._even(image), self._from_bgr, planes_of(frame), self._whole, self._half)
        return frame

    def _even(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._padded is None:
            return np.ascontiguousarray(image)
        height, width = image.shape[:2]
        self._padded[:height, :width] = image
        self._padded[:height, width:] = image[:, -1:]
        self._padded[height:] = self._padded[height - 1 : height]
        return self._padded
