"""Boxes and labels on a picture, readable from a 200-pixel thumbnail to 4K."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detections import Detections
from ssdcam.media.surface import FONT, Colour, Surface, Tile

# OpenCV 5 brings a font with the world's scripts; the strokes that OpenCV 4 draws with know ASCII only.
_ANY_SCRIPT = int(cv2.__version__.partition(".")[0]) >= 5
_GOLDEN_RATIO = 0.618034
_LONGEST_LABEL = 200  # characters; what a damaged checkpoint calls a class may be as long as a book


@dataclass(frozen=True)
class Style:
    """How to draw; every length follows the picture's size unless it is given.

    Attributes:
        line_width: of the boxes, in pixels; None is about a 450th of the picture's longer side.
        labels: whether to write what each box is.
    """

    line_width: int | None = None
    labels: bool = True


@dataclass(frozen=True)
class _Tag:
    """A label laid out: its text and the rectangle that it fills, of a width and height on the grid."""

    text: str
    scale: float
    thickness: int
    width: int
    height: int
    baseline: int


def draw_detections(surface: Surface, detections: Detections, style: Style | None = None) -> None:
    """Draw boxes and labels into a picture.

    Args:
        surface: the picture.
        detections: what was found in it.
        style: how to draw.
    """
    style = style or Style()
    height, width = surface.size
    grid = surface.grid
    line = style.line_width or max(1, round(max(height, width) / 450))
    # The best object takes its label's place first and is drawn last, on top.
    order = range(len(detections) - 1, -1, -1)
    corners = np.rint(detections.boxes / grid).astype(int) * grid
    for i in order:
        _outline(surface, corners[i], class_colour(int(detections.class_ids[i])), line)
    if not style.labels:
        return
    size = text_height((height, width))
    placed: dict[int, tuple[_Tag, int, int]] = {}
    for i in range(len(detections)):
        label, class_id, score = detections.labels[i], int(detections.class_ids[i]), float(detections.scores[i])
        tag = _lay_out(label, class_id, score, size, width, grid)
        if tag.width <= width and tag.height <= height:  # else the picture has no room for a word
            placed[i] = (tag, *_place(tag, corners[i], (width, height), grid, placed.values()))
    for i in reversed(placed):
        tag, x, y = placed[i]
        surface.paste(x, y, _tile(tag, class_colour(int(detections.class_ids[i]))))


@lru_cache(maxsize=1024)
def class_colour(class_id: int) -> Colour:
    """The BGR colour of a class: always the same, and far from those of its neighbours."""
    hue = (0.98 + class_id * _GOLDEN_RATIO) % 1
    lightness = (0.55, 0.68, 0.45)[class_id % 3]
    red, green, blue = hls_to_rgb(hue, lightness, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever stands out more on a BGR background (WCAG's contrast of relative luminance)."""
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)


def text_height(size: tuple[int, int]) -> int:
    """Height of label text in pixels for a picture of this size: 9 on a thumbnail, 16 at 720p, 37 at 4K."""
    short, long = sorted(size)
    return max(9, min(round(5 + long / 120), short // 4))


def draw_panel(surface: Surface, lines: Sequence[str], *, bottom: bool = False) -> None:
    """Write lines on a dark panel in a left corner, small enough to fit if they can be made to.

    Args:
        surface: the picture.
        lines: ASCII.
        bottom: take the lower corner, not the upper one.
    """
    height, width = surface.size
    grid = surface.grid
    size = text_height((height, width))
    pad = max(2, size // 3)
    while True:
        scale, thickness = cv2.getFontScaleFromHeight(FONT, size, 1), max(1, round(size / 20))
        sizes = [cv2.getTextSize(line, FONT, scale, thickness) for line in lines]
        pitch = max(h + below for (_, h), below in sizes) + pad
        panel = _up(max(w for (w, _), _ in sizes) + 2 * pad, grid), _up(pitch * len(lines) + pad, grid)
        if size <= 7 or (panel[0] <= width and panel[1] <= height):
            break
        size -= 1
    top = _down(max(0, height - panel[1]), grid) if bottom else 0
    surface.darken(0, top, panel[0], top + panel[1])
    for i, line in enumerate(lines):
        surface.write(line, (pad, top + (i + 1) * pitch - sizes[i][1]), scale, thickness)


def drawable(text: str, fallback: str) -> str:
    """What this OpenCV can write of a text: all of it, or its nearest ASCII, or ``fallback`` if nothing is left."""
    text = "".join(c for c in text if c.isprintable())
    if not _ANY_SCRIPT:
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return text.strip() or fallback


def _outline(surface: Surface, corners: NDArray[np.int_], colour: Colour, line: int) -> None:
    """A box whose line lies inside it, with a dark rim where there is room, so that it shows on its own colour."""
    x1, y1, x2, y2 = corners.tolist()
    line = max(1, min(line, x2 - x1, y2 - y1))
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    if line > 1:
        _ring(surface, x1 - 1, y1 - 1, x2 + 1, y2 + 1, (0, 0, 0), line + 2)
    _ring(surface, x1, y1, x2, y2, colour, line)


def _ring(surface: Surface, x1: int, y1: int, x2: int, y2: int, colour: Colour, line: int) -> None:
    surface.fill(x1, y1, x2, min(y1 + line, y2), colour)
    surface.fill(x1, max(y2 - line, y1), x2, y2, colour)
    surface.fill(x1, y1, min(x1 + line, x2), y2, colour)
    surface.fill(max(x2 - line, x1), y1, x2, y2, colour)


@lru_cache(maxsize=4096)
def _lay_out(label: str, class_id: int, score: float, size: int, room: int, grid: int) -> _Tag:
    """The longest form of a label that fits in ``room`` pixels: with its score, without, cut short."""
    name = drawable(label, f"class {class_id}")[:_LONGEST_LABEL]
    forms = [f"{name} {score:.2f}", name, *(name[:n] + ".." for n in range(len(name) - 1, 0, -1))]
    scale = cv2.getFontScaleFromHeight(FONT, size, 1)
    thickness = max(1, round(size / 20))
    pad = max(2, size // 4)
    for text in forms:
        (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
        if _up(width + 2 * pad, grid) <= room:
            break
    width, height = _up(width + 2 * pad, grid), _up(height + below + pad, grid)
    return _Tag(text, scale, thickness, width, height, below + pad // 2)


def _place(
    tag: _Tag, corners: NDArray[np.int_], size: tuple[int, int], grid: int, placed: Collection[tuple[_Tag, int, int]]
) -> tuple[int, int]:
    """Where a label goes: above its box, else inside or below it; inside the picture; off the labels placed before."""
    width, height = size
    x1, y1, _, y2 = corners.tolist()
    x = max(0, min(x1, _down(width - tag.width, grid)))
    spots = [y for y in (y1 - tag.height, y1, y2, y2 - tag.height) if 0 <= y <= height - tag.height]
    free = (y for y in spots if not any(_meet(tag, x, y, *other) for other in placed))
    fallback = spots[0] if spots else max(0, min(y1, _down(height - tag.height, grid)))
    return x, next(free, fallback)


def _meet(a: _Tag, ax: int, ay: int, b: _Tag, bx: int, by: int) -> bool:
    return ax < bx + b.width and bx < ax + a.width and ay < by + b.height and by < ay + a.height


@lru_cache(maxsize=128)
def _tile(tag: _Tag, colour: Colour) -> Tile:
    image = np.full((tag.height, tag.width, 3), colour, np.uint8)
    pad = (tag.width - cv2.getTextSize(tag.text, FONT, tag.scale, tag.thickness)[0][0]) // 2
    origin = (pad, tag.height - tag.baseline)
    cv2.putText(image, tag.text, origin, FONT, tag.scale, text_colour(colour), tag.thickness, cv2.LINE_AA)
    return Tile(image)


def _up(length: int, grid: int) -> int:
    return -(-length // grid) * grid


def _down(length: int, grid: int) -> int:
    return length // grid * grid
