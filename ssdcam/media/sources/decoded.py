"""Pictures as a decoder leaves them: luma and chroma, made BGR in the size, and at the time, that they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.media.av import av
from ssdcam.media.frame import Picture
from ssdcam.media.planar import PlanarPicture
from ssdcam.media.sources.orientation import Orientation
from ssdcam.media.yuv import FULL, UNSAID, Colours, can_be_made, planes_of, to_bgr

_PLANAR = ("yuv420p", "yuvj420p")  # 8-bit 4:2:0, which nearly every video is
_FULL_RANGE = ("yuvj420p",)
# What every encoder takes; x265 refuses others.
_PRIMARIES, _TRANSFERS = frozenset(range(1, 13)) - {3}, frozenset(range(1, 19)) - {3}


class DecodedPicture(Picture):
    """A frame of a video.

    Args:
        frame: one that :func:`can_be_resized`.
        size: height and width, upright.
        to_image: turns it into BGR, upright.
        orientation: what makes it upright; None if it is.
    """

    def __init__(
        self,
        frame: av.VideoFrame,
        size: tuple[int, int],
        to_image: Callable[[av.VideoFrame], NDArray[np.uint8]],
        orientation: Orientation | None,
    ) -> None:
        self.size = size
        self._frame = frame
        self._to_image = to_image
        self._orientation = orientation

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """All of it, BGR."""
        return self._to_image(self._frame)

    def resize_into(self, slot: NDArray[np.uint8]) -> None:
        """Write it, stretched, into uint8 ``(height, width, 3)``, BGR.

        First the size is changed, plane by plane, then the colours, at the price of the pixels that are left: both are
        linear, so that the other order gives the same but for rounding.
        """
        height, width = slot.shape[:2]
        if self._orientation and self._orientation.swaps_sides:
            height, width = width, height
        planes = [
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes_of(self._frame)
        ]
        full = self._frame.format.name in _FULL_RANGE
        matrix = to_bgr(int(self._frame.colorspace), FULL if full else int(self._frame.color_range))
        if self._orientation is None:
            cv2.transform(cv2.merge(planes), matrix, dst=slot)
        else:
            self._orientation.apply(np.asarray(cv2.transform(cv2.merge(planes), matrix), np.uint8), slot)

    def to_draw_on(self) -> PlanarPicture | NDArray[np.uint8]:
        """Upright and in memory of its own, made when first asked for: in planes if it can be, else :attr:`image`."""
        return self._own

    @cached_property
    def _own(self) -> PlanarPicture | NDArray[np.uint8]:
        if not is_plain(self._frame):
            return self.image
        planes = planes_of(self._frame)
        if self._orientation is not None:
            planes = [self._orientation.apply(plane) for plane in planes]
        if planes[0].shape != self.size:  # the stream's size has changed on the way
            return self.image
        return PlanarPicture(planes, int(self._frame.colorspace))


def is_plain(frame: av.VideoFrame) -> bool:
    """Whether a frame is what :class:`~ssdcam.media.planar.PlanarPicture` holds, once it is upright."""
    return (
        frame.format.name == "yuv420p"
        and not (frame.width % 2 or frame.height % 2)
        and int(frame.color_range) != FULL
        and can_be_made(int(frame.colorspace))
        and can_be_resized(frame)
    )


def colours_of(frame: av.VideoFrame) -> Colours | None:
    """How a frame makes its colours, which its video goes on to do; None where it is not in luma and chroma."""
    pixels = frame.format
    if pixels.is_rgb or pixels.has_palette or not can_be_made(int(frame.colorspace)):
        return None
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    return Colours(
        int(frame.colorspace),
        primaries if primaries in _PRIMARIES else UNSAID,
        transfer if transfer in _TRANSFERS else UNSAID,
    )


def can_be_resized(frame: av.VideoFrame) -> bool:
    """Whether its planes are such as :class:`DecodedPicture` takes: top row first, a byte a sample."""
    return frame.format.name in _PLANAR and all(plane.line_size >= plane.width for plane in frame.planes)
