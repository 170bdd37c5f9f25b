"""The paper's augmentation (section 2.2 and 3.6, figures of its Caffe release), on 8-bit pictures.

Colours are distorted, the photo is set on a larger canvas, a window is cut that keeps some overlap with an object,
what it shows becomes the network's input, and half of the inputs are mirrored. Canvas and window are only figures until
the end: no pixel is touched that is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detections import Image

Window = tuple[int, int, int, int]
"""``x1, y1, x2, y2`` in pixels of the photo; a part may lie outside it."""

TRIALS = 50
LEAST_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # the last one: any window will do


class Example(NamedTuple):
    """A picture to learn from."""

    image: Image
    """uint8 ``(height, width, 3)``, BGR."""
    boxes: NDArray[np.float32]
    """float32 ``(N, 4)``, ``x1, y1, x2, y2`` in its pixels."""
    class_ids: NDArray[np.int64]
    """int64 ``(N,)``."""
    ignored: NDArray[np.bool_]
    """bool ``(N,)``: difficult objects and crowds."""

    def keep(self, kept: NDArray[np.bool_]) -> Example:
        """The same picture with these of its objects."""
        return Example(self.image, self.boxes[kept], self.class_ids[kept], self.ignored[kept])


@dataclass(frozen=True)
class Augmentation:
    """How much is done; the defaults are the paper's.

    Attributes:
        colour: chance of each of brightness, contrast, saturation and hue to change.
        brightness: largest change, in grey levels of 255.
        contrast, saturation: range of the factor.
        hue: largest turn, in degrees; 18 as in the release's ports, while its own 18 are OpenCV's steps of 2 degrees.
        expand: chance of a larger canvas.
        largest: its largest side, relative to the photo's.
        crop: whether windows are cut.
        scale: range of a window's side relative to the canvas, aspect ratio apart.
        aspect: range of its width to its height, relative to the canvas's.
        flip: chance of being mirrored.
        mosaic: chance of being put together with three other photos.
        mean: what the canvas is filled with, BGR.
    """

    colour: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 18.0
    expand: float = 0.5
    largest: float = 4.0
    crop: bool = True
    scale: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    mosaic: float = 0.0
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)


NOTHING = Augmentation(colour=0, expand=0, crop=False, flip=0)
"""The photo as the detector would see it."""


def augment(example: Example, size: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> Example:
    """Make an input of the network from a photo.

    Args:
        example: the photo; with no objects it goes the same way.
        size: height and width of the input.
        how: what is done.
        rng: where chance comes from; the same state gives the same input.
    """
    height, width = example.image.shape[:2]
    window = (0, 0, width, height)
    if rng.random() < how.expand:
        window = expanded(window, how.largest, rng)
    if how.crop:
        window = cropped(window, example.boxes, how, rng)
    example = view(example, window, size, how, rng)
    return flipped(example) if rng.random() < how.flip else example


def expanded(photo: Window, largest: float, rng: np.random.Generator) -> Window:
    """A canvas of up to ``largest`` times the photo's sides, with the photo at a random place on it (zoom out)."""
    _, _, width, height = photo
    ratio = rng.uniform(1, largest)
    left, top = (int(rng.uniform(0, side * (ratio - 1))) for side in (width, height))
    return (-left, -top, int(width * ratio) - left, int(height * ratio) - top)


def cropped(canvas: Window, boxes: NDArray[np.float32], how: Augmentation, rng: np.random.Generator) -> Window:
    """A window of the canvas that overlaps an object by at least as much as a lot says.

    The lot is one of: the whole canvas, an IoU of .1, .3, .5, .7 or .9, any window. Where none of 50 windows will do
    another lot is drawn; the whole canvas always will. Of a photo with objects a window shows the centre of one.
    """
    lots = rng.permutation(len(LEAST_OVERLAPS) + 1)
    for least in (LEAST_OVERLAPS[lot - 1] for lot in lots[: np.argmin(lots)]):  # lot 0 is the whole canvas
        windows = _candidates(canvas, how, rng)
        fits = np.flatnonzero(_allowed(windows, boxes, least))
        if len(fits):
            x1, y1, x2, y2 = windows[fits[0]].tolist()
            return (x1, y1, x2, y2)
    return canvas


def _candidates(canvas: Window, how: Augmentation, rng: np.random.Generator) -> NDArray[np.int64]:
    """``(TRIALS, 4)`` windows; aspect ratios are limited so that they fit the canvas, as in the Caffe release."""
    origin, extent = np.array(canvas[:2]), np.array([canvas[2] - canvas[0], canvas[3] - canvas[1]])
    scale = rng.uniform(*how.scale, TRIALS)
    aspect = rng.uniform(np.maximum(how.aspect[0], scale**2), np.minimum(how.aspect[1], scale**-2))
    sides = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=1)
    sides = np.clip((sides * extent).astype(np.int64), 1, extent)
    low = origin + (rng.random((TRIALS, 2)) * (extent - sides + 1)).astype(np.int64)
    return np.concatenate([low, low + sides], axis=1)


def _allowed(windows: NDArray[np.int64], boxes: NDArray[np.float32], least: float) -> NDArray[np.bool_]:
    if len(boxes) == 0:
        return np.ones(len(windows), np.bool_)
    overlapping = (window_iou(windows, boxes) >= least).any(axis=1)
    return np.asarray(overlapping & _centred(windows, boxes).any(axis=1))


def window_iou(windows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU ``(W, N)`` of windows ``(W, 4)`` with boxes ``(N, 4)``."""
    a, b = windows[:, None].astype(np.float64), boxes[None].astype(np.float64)
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def _centred(windows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each window ``(W, 4)`` holds the centre of each box ``(N, 4)``, ``(W, N)``."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centres >= windows[:, None, :2]) & (centres < windows[:, None, 2:])
    return np.asarray(inside.all(axis=-1))


def view(
    example: Example, window: Window, size: tuple[int, int], how: Augmentation, rng: np.random.Generator
) -> Example:
    """What a window shows, colours distorted, as an input of the network; objects are kept by their centre."""
    height, width = example.image.shape[:2]
    x1, y1, x2, y2 = window
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if left < right and top < bottom:
        image = distorted(example.image[top:bottom, left:right], how, rng)
        border = (top - y1, y2 - bottom, left - x1, x2 - right)
        if any(border):
            image = cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=how.mean)  # type: ignore[assignment]
    else:  # the canvas beside the photo
        image = np.full((1, 1, 3), how.mean, np.float32).astype(np.uint8)
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]

    example = example.keep(_centred(np.array([window]), example.boxes)[0])
    scale = np.array([size[1] / (x2 - x1), size[0] / (y2 - y1)] * 2, np.float32)
    boxes = (example.boxes - np.array([x1, y1, x1, y1], np.float32)) * scale
    limits = np.array([size[1], size[0]] * 2, np.float32)
    return example._replace(image=image, boxes=boxes.clip(0, limits))


def distorted(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """Photometric distortion: brightness, contrast before or after the colours, saturation, hue.

    Each step maps grey levels one by one, so a step is a table of 256 entries. Hue counts in 256ths of a turn, which
    8-bit numbers go round in by themselves.
    """
    changes = rng.random(5) < how.colour
    brightness = rng.uniform(-how.brightness, how.brightness) if changes[0] else 0.0
    contrast = rng.uniform(*how.contrast) if changes[1] else 1.0
    saturation = rng.uniform(*how.saturation) if changes[2] else 1.0
    turn = round(rng.uniform(-how.hue, how.hue) * 256 / 360) if changes[3] else 0
    contrast_last = rng.random() < 0.5

    levels = np.arange(256, dtype=np.float64)
    first = _table(levels + brightness)
    last = _table(levels * contrast)
    if not contrast_last:
        first, last = last[first], levels.astype(np.uint8)
    image = _mapped(image, first)
    if saturation != 1 or turn:
        tables = np.stack([_table((levels + turn) % 256), _table(levels * saturation), _table(levels)], axis=1)
        coded = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL), tables[None])
        image = np.asarray(cv2.cvtColor(coded, cv2.COLOR_HSV2BGR_FULL), np.uint8)
    return _mapped(image, last)


def _table(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return levels.clip(0, 255).round().astype(np.uint8)


def _mapped(image: Image, table: NDArray[np.uint8]) -> Image:
    return image if np.array_equal(table, np.arange(256)) else np.asarray(cv2.LUT(image, table), np.uint8)


def flipped(example: Example) -> Example:
    """Mirrored left to right."""
    width = example.image.shape[1]
    boxes = example.boxes.copy()
    boxes[:, 0::2] = width - example.boxes[:, 2::-2]
    return example._replace(image=np.asarray(cv2.flip(example.image, 1), np.uint8), boxes=boxes)


def mosaic(examples: Sequence[Example], size: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> Example:
    """Four photos, each augmented, around a random point near the middle of one input.

    Args:
        examples: four photos.
        size: height and width of the input.
        how: what is done with each.
        rng: where chance comes from.
    """
    height, width = size
    x, y = (round(side * rng.uniform(0.3, 0.7)) for side in (width, height))
    canvas = np.empty((height, width, 3), np.uint8)
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    parts = []
    for example, (x1, y1, x2, y2) in zip(examples, quarters, strict=True):
        part = augment(example, (y2 - y1, x2 - x1), how, rng)
        canvas[y1:y2, x1:x2] = part.image
        parts.append(part._replace(boxes=part.boxes + np.array([x1, y1, x1, y1], np.float32)))
    joined = (np.concatenate([getattr(p, field) for p in parts]) for field in ("boxes", "class_ids", "ignored"))
    return Example(canvas, *joined)
