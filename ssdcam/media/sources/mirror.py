"""Frames turned left to right, as people expect to see themselves."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ssdcam.media.frame import Frame
from ssdcam.media.sources.source import Source


class MirroredSource(Source):
    """Another source's frames, mirrored.

    Args:
        source: closed together with this.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.live = source.name, source.live
        self.width, self.height, self.rate = source.width, source.height, source.rate
        self.frame_count, self.duration = source.frame_count, source.duration
        self.pixel_aspect, self.colours = source.pixel_aspect, source.colours

    def read(self) -> Frame | None:
        """The next frame; None at the end.

        Raises:
            SourceError: as the source itself.
        """
        frame = self._source.read()
        return frame and replace(frame, picture=np.asarray(cv2.flip(frame.image, 1), np.uint8))

    def close(self) -> None:
        """Close the source."""
        self._source.close()
