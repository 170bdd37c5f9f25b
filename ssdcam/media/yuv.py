"""Frames as video codecs take them: from BGR to 4:2:0, even in size, with the colours said the way they were made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdcam.media.av import av

_BILINEAR, _EXACT = av.video.reformatter.Interpolation.BILINEAR, av.video.reformatter.Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class Colours:
    """A way to make colours of luma and chroma, in limited range: numbers of ITU-T H.273, which codecs and files carry.

    Attributes:
        matrix: how luma and chroma are mixed.
        swscale: libswscale's own number for it.
        primaries: what red, green and blue are.
        transfer: the curve.
    """

    matrix: int
    swscale: int
    primaries: int
    transfer: int


BT601 = Colours(matrix=6, swscale=5, primaries=6, transfer=6)
BT709 = Colours(matrix=1, swscale=1, primaries=1, transfer=1)
LIMITED, FULL = 1, 2  # ranges, in FFmpeg's numbers


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
        self._reformatter = av.video.reformatter.VideoReformatter()
        self.width, self.height = width + width % 2, height + height % 2
        odd = (self.width, self.height) != (width, height)
        self._padded = np.empty((self.height, self.width, 3), np.uint8) if odd else None

    def convert(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        """A yuv420p frame of an image, uint8 ``(height, width, 3)``, BGR.

        libswscale does it, in about 0.7 ms for 768x432 on one core. Without exact rounding it takes half of that, but
        lets every neutral grey turn green by a level; OpenCV takes 0.1 ms, but knows BT.601 only and takes the colour
        of four pixels from one of them, which frays thin coloured lines.
        """
        frame = av.VideoFrame.from_numpy_buffer(self._even(image), "bgr24")
        return self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_color_range=FULL,
            dst_color_range=LIMITED,
            dst_colorspace=self._colours.swscale,
            interpolation=_BILINEAR | _EXACT,
            threads=1,  # the other cores have frames to detect in and to encode
        )

    def _even(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._padded is None:
            return np.ascontiguousarray(image)
        height, width = image.shape[:2]
        self._padded[:height, :width] = image
        self._padded[:height, width:] = image[:, -1:]
        self._padded[height:] = self._padded[height - 1 : height]
        return self._padded
