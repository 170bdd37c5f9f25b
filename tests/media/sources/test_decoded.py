"""Small pictures straight from a frame's planes: what comes of making all of it BGR first, but for rounding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssdcam.media.av import av
from ssdcam.media.sources import FileSource
from ssdcam.media.sources.decoded import DecodedPicture, can_be_resized
from ssdcam.media.sources.orientation import Orientation
from ssdcam.media.yuv import FULL, LIMITED

MATRICES = {"unsaid": 2, "BT.709": 1, "FCC": 4, "BT.470": 5, "BT.601": 6, "SMPTE 240M": 7, "BT.2020": 9}


def frame_of(width: int, height: int, pixels: str = "yuv420p", matrix: int = 1, levels: int = LIMITED) -> av.VideoFrame:
    """Large patches of strong colours, with soft edges."""
    rng = np.random.default_rng(7)
    patches = rng.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.GaussianBlur(cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), 4)
    made = av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), "bgr24").reformat(
        format=pixels, dst_colorspace=matrix, dst_color_range=levels
    )
    made.colorspace, made.color_range = matrix, levels
    return made


def to_image(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def small(picture: DecodedPicture, width: int, height: int) -> NDArray[np.int_]:
    slot = np.zeros((height, width, 3), np.uint8)
    picture.resize_into(slot)
    return slot.astype(int)


def shrunk(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.int_]:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(int)


@pytest.mark.parametrize("levels", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_colours_are_those_that_the_frame_says(matrix: int, levels: int) -> None:
    frame = frame_of(640, 480, matrix=matrix, levels=levels)
    picture = DecodedPicture(frame, (480, 640), to_image, None)
    off = np.abs(small(picture, 300, 300) - shrunk(picture.image, 300, 300))
    assert off.mean() < 2
    assert np.percentile(off, 99) <= 5
    frame.colorspace, frame.color_range = 1 if matrix != 1 else 6, LIMITED + FULL - levels
    others = np.abs(small(picture, 300, 300) - shrunk(picture.image, 300, 300))
    assert others.mean() > 5  # the comparison above would notice


@pytest.mark.parametrize("size", [(641, 479), (64, 48), (33, 17), (1920, 1080)])
def test_any_size(size: tuple[int, int]) -> None:
    width, height = size
    picture = DecodedPicture(frame_of(width, height), (height, width), to_image, None)
    assert picture.size == (height, width)
    off = np.abs(small(picture, 300, 200) - shrunk(picture.image, 300, 200))
    assert np.percentile(off, 95) <= 8  # chroma between the samples is a matter of taste where it is enlarged


TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


@pytest.mark.parametrize(
    "way", [*(Orientation(mirrored, turn) for turn in TURNS for mirrored in (False, True)), Orientation(True, None)]
)
def test_turned(way: Orientation) -> None:
    picture = DecodedPicture(frame_of(640, 480), (0, 0), lambda frame: way.apply(to_image(frame)), way)
    off = np.abs(small(picture, 200, 300) - shrunk(picture.image, 200, 300))
    assert np.percentile(off, 99) <= 5


def test_what_is_drawn_into_the_image_is_not_in_the_small_one() -> None:
    picture = DecodedPicture(frame_of(64, 48), (48, 64), to_image, None)
    before = small(picture, 30, 30)
    picture.image[:] = 0
    assert picture.image.max() == 0
    np.testing.assert_array_equal(small(picture, 30, 30), before)


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray", "bgr24"]
)
def test_other_pixels_are_left_to_others(pixels: str) -> None:
    assert can_be_resized(frame_of(64, 48, pixels)) == (pixels in ("yuv420p", "yuvj420p"))


@pytest.mark.parametrize(
    "name",
    [
        "bottle-detection.mp4",
        "car-detection.mp4",
        "nasa-two-streams-audio.mp4",
        "one-by-one-person-detection.mp4",
        "rotated-90.mov",
    ],
)
def test_real_videos(name: str, videos_folder: Path) -> None:
    with FileSource(videos_folder / name, max_frames=20) as source:
        while (frame := source.read()) is not None:
            slot = np.zeros((300, 300, 3), np.uint8)
            frame.resize_into(slot)
            assert frame.size == frame.image.shape[:2]
            off = np.abs(slot.astype(int) - shrunk(frame.image, 300, 300))
            assert off.mean() < 2
            assert np.percentile(off, 99) <= 8
