"""Pictures as their boxes mean them, and their sizes without decoding."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.datasets import Sample, read_picture
from ssdcam.datasets.pictures import picture_size
from ssdcam.errors import ImageError

from .. import pictures
from ..pictures import COLOURED, COLOURS, HEIGHT, HOPELESS, SOMETIMES, WIDTH, quadrants


def sample(path: Path, width: int | None = None, height: int | None = None, as_shown: bool = False) -> Sample:
    return Sample(
        path,
        width,
        height,
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.bool_),
        "x",
        None,
        as_shown,
    )


SIZED = [*(name for name in COLOURED if not name.endswith((".webp", ".tif"))), "exif6.png", "exif7.png"]


@pytest.mark.parametrize("as_shown", [True, False])
@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_those_of_the_decoded_picture(name: str, as_shown: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    {**COLOURED, **SOMETIMES}[name](path)
    flags = cv2.IMREAD_COLOR if as_shown else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imread(str(path), flags)
    assert image is not None
    assert picture_size(path, as_shown) == image.shape[1::-1]


@pytest.mark.parametrize("name", HOPELESS)
def test_no_picture_is_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    HOPELESS[name][0](path)
    with pytest.raises(ImageError, match=name):
        read_picture(sample(path))
    if not name.endswith("png"):  # the size stands in the head, whatever follows
        with pytest.raises(ImageError, match=name):
            picture_size(path)


def exif_last(path: Path) -> None:
    """Move a PNG's orientation behind its pixels."""
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])


class TestOrientation:
    @pytest.fixture(params=["turned.jpg", "turned.png", "turned.avif", "last.png"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        """Shown as 80x60, stored as 60x80."""
        path = tmp_path / request.param
        pictures.turned(path, 6)
        if path.name == "last.png":
            exif_last(path)
        return path

    def test_sizes(self, path: Path) -> None:
        assert (picture_size(path), picture_size(path, as_shown=False)) == ((WIDTH, HEIGHT), (HEIGHT, WIDTH))

    def test_as_shown(self, path: Path) -> None:
        image = read_picture(sample(path, as_shown=True))
        assert np.abs(quadrants(image) - COLOURS).max() < 10

    def test_as_stored_unless_the_size_says_otherwise(self, path: Path) -> None:
        assert read_picture(sample(path)).shape == (WIDTH, HEIGHT, 3)
        assert read_picture(sample(path, HEIGHT, WIDTH)).shape == (WIDTH, HEIGHT, 3)
        assert np.abs(quadrants(read_picture(sample(path, WIDTH, HEIGHT))) - COLOURS).max() < 10
        assert read_picture(sample(path, HEIGHT, WIDTH, as_shown=True)).shape == (WIDTH, HEIGHT, 3)

    def test_another_size_is_an_error(self, path: Path) -> None:
        with pytest.raises(ImageError, match="is 60x80, but its annotation says 81x60"):
            read_picture(replace(sample(path), width=81, height=60))


def exif(order: str, *entries: tuple[int, int], count: int | None = None) -> bytes:
    """A JPEG segment with a directory of tags and short values; it may claim another count of them."""
    pack = {"II": "<", "MM": ">"}.get(order, "<")
    tiff = order.encode() + struct.pack(f"{pack}HIH", 42, 8, len(entries) if count is None else count)
    tiff += b"".join(struct.pack(f"{pack}HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return struct.pack(">BBH", 0xFF, 0xE1, len(tiff) + 8) + b"Exif\0\0" + tiff


@pytest.mark.parametrize("as_shown", [True, False])
@pytest.mark.parametrize(
    "between",
    [
        exif("II", (0x010F, 1), (0x0112, 6)),
        exif("MM", (0x0112, 8)),
        exif("II", (0x0112, 3)),
        exif("II", (0x010F, 1)),
        exif("II", count=5),
        exif("XX", (0x0112, 6)),
        struct.pack(">BBH", 0xFF, 0xE1, 6) + b"http",
        b"\xff\xff\xff",
        b"\0\0\0",
    ],
    ids=[
        "turned",
        "turned, big-endian",
        "upside down",
        "no orientation",
        "cut short",
        "no order",
        "XMP",
        "fill",
        "junk",
    ],
)
def test_sizes_whatever_stands_before_a_jpegs_first_frame(between: bytes, as_shown: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    pictures.photo(path, 60, 40)
    data = path.read_bytes()
    place = 4 + int.from_bytes(data[4:6])  # behind the first segment, without which it is taken for no JPEG
    path.write_bytes(data[:place] + between + data[place:])
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if as_shown else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None
    assert picture_size(path, as_shown) == image.shape[1::-1]
