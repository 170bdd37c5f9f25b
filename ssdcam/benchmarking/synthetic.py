"""Load made on the spot: pictures, videos, and raw scores such as a trained detector gives."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detections import Image
from ssdcam.media.video_writer import VideoWriter
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.host import pairwise_iou, to_corners
from ssdcam.ssd.spec import ModelSpec

Floats = NDArray[np.float32]

_SHAPES = 12
_RATE = 30

# Of made-up scores. With these a picture of SSD300 has about 25 pairs of box and class from .5 on and 1,800 from
# .01 on; of the embedded detector, a photo of VOC has 20 from .5 on.
_OBJECTS = 8
_NOISE = (-13.0, 2.7)  # mean and deviation of the logit where nothing is
_STEEPNESS, _HALF_AT = 12.0, 0.63  # logit over the IoU of default box and object


def scenes(count: int, width: int, height: int, seed: int = 0) -> Iterator[Image]:
    """Pictures of a moving scene: textured shapes that wander over a textured ground, and a little noise.

    Args:
        count: how many.
        width: in pixels.
        height: in pixels.
        seed: the same one gives the same pictures.
    """
    rng = np.random.default_rng(seed)
    margin = max(width, height) // 4
    ground = _texture(rng, width + margin, height + margin, max(width, height) // 40 + 2)
    sides = rng.uniform(0.08, 0.35, (_SHAPES, 2)) * (width, height)
    shapes = [_texture(rng, max(int(w), 4), max(int(h), 4), 6) for w, h in sides]
    masks = [_mask(shape, round_=bool(i % 2)) for i, shape in enumerate(shapes)]
    starts, speeds = rng.uniform(0, 1, (_SHAPES, 2)), rng.uniform(-0.012, 0.012, (_SHAPES, 2))
    noise = rng.integers(0, 6, (height, width, 3), np.uint8)
    for index in range(count):
        shift = _swing(index * 0.006, margin)
        picture = ground[shift : shift + height, shift : shift + width].copy()
        for shape, mask, start, speed in zip(shapes, masks, starts, speeds, strict=True):
            h, w = shape.shape[:2]
            place = start + index * speed
            x, y = _swing(place[0], width - w), _swing(place[1], height - h)
            cv2.copyTo(shape, mask, dst=picture[y : y + h, x : x + w])
        yield np.asarray(cv2.add(picture, np.roll(noise, index * 7, axis=1)), np.uint8)


def write_scene(path: Path, width: int = 1280, height: int = 720, seconds: float = 5.0) -> None:
    """Write a moving scene as an H.264 video, 30 frames a second.

    Raises:
        VideoError: it cannot be written.
    """
    with VideoWriter(path, width=width, height=height, rate=Fraction(_RATE)) as writer:
        for index, picture in enumerate(scenes(max(round(seconds * _RATE), 1), width, height)):
            writer.write(picture, index / _RATE)


def detector_like(spec: ModelSpec, batch: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Locations and raw scores as a trained detector gives for pictures with some objects.

    What random weights give says nothing about how long decoding and NMS take: it finds nothing, or everything.

    Returns:
        ``(batch, N, 4)`` and ``(batch, N, columns)``.
    """
    rng = np.random.default_rng(seed)
    defaults = default_boxes(spec.boxes)
    locations = rng.normal(0, 0.5, (batch, len(defaults), 4)).astype(np.float32)
    raw = rng.normal(*_NOISE, (batch, len(defaults), spec.num_columns)).astype(np.float32)
    corners = to_corners(defaults)
    for picture in raw:
        centres, sizes = rng.uniform(0.2, 0.8, (_OBJECTS, 2)), rng.uniform(0.1, 0.6, (_OBJECTS, 2))
        objects = to_corners(np.concatenate([centres, sizes], axis=1).astype(np.float32))
        for overlap in pairwise_iou(objects, corners):
            column = rng.integers(spec.background, spec.num_columns)
            logits = _STEEPNESS * (overlap - _HALF_AT) + rng.normal(0, 1, len(defaults))
            near = overlap > 0
            picture[near, column] = np.maximum(picture[near, column], logits[near])
    if spec.background:
        raw[..., 0] = 0  # with softmax a class' score is then much the same as the sigmoid of its logit
    return locations, raw


def _texture(rng: np.random.Generator, width: int, height: int, cells: int) -> Image:
    """Smooth colours with finer grain on top."""
    coarse = rng.integers(20, 220, (cells, cells, 3), np.uint8)
    fine = rng.integers(0, 30, (max(height // 4, 1), max(width // 4, 1), 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.add(smooth, cv2.resize(fine, (width, height))), np.uint8)


def _mask(shape: Image, *, round_: bool) -> NDArray[np.uint8]:
    """Where a shape is: an ellipse, or all of it; ``(height, width)``."""
    height, width = shape.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    if round_:
        cv2.ellipse(mask, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
    else:
        mask[:] = 1
    return mask


def _swing(place: float, room: int) -> int:
    """To and fro between 0 and ``room``, once over and back while ``place`` grows by 2."""
    place %= 2
    return int((place if place < 1 else 2 - place) * room)
