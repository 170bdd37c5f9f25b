"""What a source gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.media.surface import BgrSurface, Surface


class Picture(ABC):
    """A picture that is not in BGR yet: a detector can do with a small one, and nobody may ask for all of it.

    Attributes:
        size: height and width in pixels.
    """

    size: tuple[int, int]

    @property
    @abstractmethod
    def image(self) -> NDArray[np.uint8]:
        """All of it, as :attr:`Frame.image`; made when first asked for."""

    def resize_into(self, slot: NDArray[np.uint8]) -> None:
        """As :meth:`Frame.resize_into`."""
        _resize(self.image, slot)

    @property
    def surface(self) -> Surface:
        """As :attr:`Frame.surface`."""
        return BgrSurface(self.image)

    def to_draw_on(self) -> NDArray[np.uint8] | Picture:
        """What :meth:`Frame.to_draw_on` puts in its place."""
        return self


def _resize(image: NDArray[np.uint8], slot: NDArray[np.uint8]) -> None:
    cv2.resize(image, slot.shape[1::-1], dst=slot, interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video, stream or camera.

    Attributes:
        index: 0, 1, ... over the source's own frames, those that were skipped counted too.
        pts: when it is shown, in seconds by the source's clock; rises from frame to frame.
        picture: the image, or what can become it.
        captured: when it reached this program, in seconds of ``time.monotonic()``.
    """

    index: int
    pts: float
    picture: NDArray[np.uint8] | Picture
    captured: float

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 ``(height, width, 3)``, BGR, upright, in contiguous memory that is the receiver's own."""
        return self.picture if isinstance(self.picture, np.ndarray) else self.picture.image

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.picture.shape[:2] if isinstance(self.picture, np.ndarray) else self.picture.size

    def resize_into(self, slot: NDArray[np.uint8]) -> None:
        """Write the whole picture, stretched bilinearly, into uint8 ``(height, width, 3)``, BGR."""
        if isinstance(self.picture, np.ndarray):
            _resize(self.picture, slot)
        else:
            self.picture.resize_into(slot)

    @property
    def surface(self) -> Surface:
        """What to draw on, once it is one's own; :attr:`image` shows it."""
        return BgrSurface(self.picture) if isinstance(self.picture, np.ndarray) else self.picture.surface

    def to_draw_on(self) -> Frame:
        """The same frame with a picture of its own, which stays in luma and chroma if it can.

        It is made once. Not for whoever wants :attr:`image`, which would then be made anew whenever it is asked for.
        """
        return self if isinstance(self.picture, np.ndarray) else replace(self, picture=self.picture.to_draw_on())
