"""Pictures of every kind to test with: four quadrants of one colour each, so that what was read can be told."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
COLOURS = np.array([[RED, GREEN], [BLUE, YELLOW]])
GREYS = np.repeat(np.array([[76, 150], [29, 226]])[..., None], 3, axis=2)  # ITU-R 601 luma of the above
SIZE = WIDTH, HEIGHT = 80, 60

Maker = Callable[[Path], object]


def scene(width: int = WIDTH, height: int = HEIGHT, colours: NDArray[np.int_] = COLOURS) -> Image.Image:
    """Red, green; blue, yellow."""
    small = Image.fromarray(colours.astype(np.uint8))
    return small.resize((width, height), Image.Resampling.NEAREST)


def quadrants(image: NDArray[np.uint8]) -> NDArray[np.int_]:
    """RGB at the centres of a BGR picture's quadrants, ``(2, 2, 3)``."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2, ::-1].astype(int)


def noise(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """A smooth picture in which a network sees something, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def photo(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    """Write such a picture."""
    cv2.imwrite(str(path), noise(width, height, seed))
    return path


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    return np.asarray(image)[..., ::-1].astype(np.uint16) * 257  # OpenCV wants BGR


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def turned(path: Path, orientation: int) -> None:
    """Write the scene as a camera stores it that was held so: the reader has to turn it upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = scene()
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    stored.save(path, exif=_exif(orientation))


def _animation(path: Path) -> None:
    frames = [scene(), *(scene(colours=np.roll(COLOURS, shift, axis=(0, 1))) for shift in (1, 2))]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, **options)


# Read by every OpenCV, as COLOURS.
COLOURED: dict[str, Maker] = {
    "rgb.png": lambda path: scene().save(path),
    "rgb.jpg": lambda path: scene().save(path, quality=95),
    "progressive.jpg": lambda path: scene().save(path, quality=95, progressive=True),
    "lossless.webp": lambda path: scene().save(path, lossless=True),
    "rgb.bmp": lambda path: scene().save(path),
    "rgb.tif": lambda path: scene().save(path),
    "rgb.ppm": lambda path: scene().save(path),
    "UPPER.JPEG": lambda path: scene().save(path, quality=95),
    "rgb16.png": lambda path: cv2.imwrite(str(path), _sixteen_bits(scene())),
    "rgb16.tif": lambda path: cv2.imwrite(str(path), _sixteen_bits(scene())),
    "rgba.png": lambda path: scene().convert("RGBA").save(path),
    "palette.png": lambda path: scene().convert("P").save(path),
    "palette.bmp": lambda path: scene().convert("P").save(path),
    "cmyk.jpg": lambda path: scene().convert("CMYK").save(path, quality=95),
    **{f"exif{n}.jpg": lambda path, n=n: turned(path, n) for n in range(1, 9)},
}

# Likewise, as GREYS.
GREY: dict[str, Maker] = {
    "grey.png": lambda path: scene().convert("L").save(path),
    "grey.jpg": lambda path: scene().convert("L").save(path, quality=95),
    "grey16.png": lambda path: cv2.imwrite(str(path), np.asarray(scene().convert("L")).astype(np.uint16) * 257),
    "grey_alpha.png": lambda path: scene().convert("LA").save(path),
}

# Read by some builds of OpenCV only: 4.10 knows no GIF, and AVIF came later yet. As COLOURS, from the first frame.
SOMETIMES: dict[str, Maker] = {
    "animated.gif": _animation,
    "animated.png": _animation,
    "animated.webp": _animation,
    "rgb.jp2": lambda path: scene().save(path),
    **{f"exif{n}.{suffix}": lambda path, n=n: turned(path, n) for n in (6, 7) for suffix in ("png", "webp", "tif")},
    **{f"turned{n}.avif": lambda path, n=n: turned(path, n) for n in range(1, 9)},  # Pillow writes irot and imir
}


def _png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _cut(path: Path, keep: float) -> None:
    Image.fromarray(noise(*SIZE, seed=0)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


# Not pictures, each with what the complaint says.
HOPELESS: dict[str, tuple[Maker, str]] = {
    "empty.jpg": (lambda path: path.touch(), "is empty"),
    "text.jpg": (lambda path: path.write_text("Not a picture.\n" * 9), "no picture"),
    "zeros.png": (lambda path: path.write_bytes(bytes(1000)), "no picture"),
    "huge.png": (lambda path: path.write_bytes(_png(100_000, 100_000)), "more pixels than"),
    "large.png": (lambda path: path.write_bytes(_png(20_000, 20_000)), "more pixels than|damaged"),
    "endless.png": (lambda path: path.write_bytes(_png(2**31 - 1, 2**31 - 1)), "damaged|pixels"),
    "sizeless.png": (lambda path: path.write_bytes(_png(0, 0)), "damaged"),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "no such file"),
    "circle.jpg": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "missing.jpg": (lambda path: None, "no such file"),
    **{
        f"header.{suffix}": (lambda path: _cut(path, 0.02), "damaged")
        for suffix in ("jpg", "png", "webp", "bmp", "tif")
    },
}

# Cut short in the middle of their pixels. Some decoders give what there is, others nothing.
CUT: dict[str, Maker] = {f"cut.{s}": lambda path: _cut(path, 0.5) for s in ("jpg", "png", "webp", "bmp", "tif")}
