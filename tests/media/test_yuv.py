"""The conversion to luma and chroma, against the formulas of ITU-R BT.601 and BT.709."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ssdcam.media.av import av
from ssdcam.media.yuv import BT601, BT709, Colours, YuvConverter, colours_for

WEIGHTS = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722)}


def planes(frame: av.VideoFrame) -> list[NDArray[np.float64]]:
    """Luma and both chromas, as they are stored."""
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].astype(float)
        for plane in frame.planes
    ]


@pytest.mark.parametrize("colours", WEIGHTS)
def test_limited_range(colours: Colours) -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (12, 16, 3), np.uint8)
    frame = YuvConverter(256, 192, colours).convert(np.kron(colour, np.ones((16, 16, 1), np.uint8)))
    assert (frame.colorspace, frame.color_range) == (colours.matrix, 1)
    red, blue = WEIGHTS[colours]
    b, g, r = np.moveaxis(colour / 255, 2, 0)
    light = red * r + (1 - red - blue) * g + blue * b
    expected = (16 + 219 * light, 128 + 112 * (b - light) / (1 - blue), 128 + 112 * (r - light) / (1 - red))
    for plane, step, ideal in zip(planes(frame), (16, 8, 8), expected, strict=True):
        assert np.abs(plane[step // 2 :: step, step // 2 :: step] - ideal).max() < 0.65


def test_grey_has_no_tint() -> None:
    ramp = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 2, axis=0), 3, axis=2)
    luma, *chroma = planes(YuvConverter(256, 2, BT709).convert(ramp))
    assert all((plane == 128).all() for plane in chroma)
    assert (luma[0, 0], luma[0, -1]) == (16, 235)


@pytest.mark.parametrize("at", [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_chroma_is_of_all_four_pixels(at: tuple[int, int]) -> None:
    """A thin coloured line keeps its colour wherever it runs."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[at] = (0, 0, 255)
    assert planes(YuvConverter(8, 8, BT601).convert(picture))[2][1, 1] > 140


def test_an_image_that_is_even_is_not_copied() -> None:
    converter = YuvConverter(64, 48, BT601)
    picture = np.zeros((48, 64, 3), np.uint8)
    assert converter._even(picture) is picture


def test_colours_for() -> None:
    assert [colours_for(height) for height in (1, 719, 720, 2160)] == [BT601, BT601, BT709, BT709]


@pytest.mark.parametrize("size", [(482, 270), (66, 66), (97, 63), (1366, 768), (3, 2)])
def test_any_size_is_whole(size: tuple[int, int]) -> None:
    """Rows of a frame may be longer than its width, and end wherever the encoder's library likes."""
    width, height = size
    image = np.full((height, width, 3), 30, np.uint8)
    image[-1], image[:, -1] = (40, 40, 220), (40, 40, 220)
    back = YuvConverter(width, height, BT709).convert(image).to_ndarray(format="bgr24")
    assert back.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(back[:height, :width].astype(int)[:-2, :-2] - 30).max(initial=0) <= 2
    assert back[height - 1, : width - 2, 2].min() > 110  # half of the chroma is the dark row's, but in odd heights
    assert back[: height - 2, width - 1, 2].min(initial=255) > 110
