"""Whether a file does what torch does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdcam.detection.agreement import Agreement, compare, pictures_to_compare
from ssdcam.errors import ExportError
from ssdcam.exporting.formats import Run, to_planes
from ssdcam.exporting.network import DecodedSSD
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import Selection

Floats = NDArray[np.float32]

Raw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What a file's raw output should be: the network's own, or in 8-bit integers that of its runtime."""

BATCHES = (1, 3)
"""Sizes of the batches that files are tried with."""

# Of boxes relative to the image, and of probabilities. Runtimes differ by a hundredth of it, wrong files by far more.
_TOLERANCE = 1e-3

# A difference in the last digit can decide whether one box suppresses another.
_MOST_UNPAIRED = 0.02
_LEAST_CANDIDATES = 100  # a picture


def in_torch(run: Run) -> Raw:
    """What takes and gives arrays, for tensors."""

    def raw(images: Tensor) -> tuple[Tensor, Tensor]:
        locations, raw_scores = run(images.numpy())
        return torch.from_numpy(locations), torch.from_numpy(raw_scores)

    return raw


def pictures(height: int, width: int) -> list[Floats]:
    """A batch of each of :data:`BATCHES`: edges, flat places and detail of several sizes, the same every time.

    Returns:
        float32 ``(B, 3, height, width)``, whole numbers from 0 to 255.
    """
    rng = np.random.default_rng(0)
    images = np.zeros((sum(BATCHES), 3, height, width), np.float32)
    for side in (1, 4, 16, 64):
        cells = rng.random((len(images), 3, -(-height // side), -(-width // side)), np.float32) ** 2
        images += cells.repeat(side, axis=2).repeat(side, axis=3)[:, :, :height, :width]
    images = (images * 255 / images.max()).round()
    return np.split(images, np.cumsum(BATCHES)[:-1])


@torch.inference_mode()
def check_outputs(run: Run, network: DecodedSSD, raw: Raw, what: str) -> float:
    """Compare boxes and probabilities with those that torch decodes from what they should be made of.

    Returns:
        The largest difference.

    Raises:
        ExportError: they differ by more than runtimes do.
    """
    largest = 0.0
    for images in pictures(*network.spec.input_size):
        expected = [output.numpy() for output in network.decode(*raw(torch.from_numpy(images)))]
        found = run(images)
        if [output.shape for output in found] != [output.shape for output in expected]:
            raise ExportError(f"{what}: has outputs of other shapes than torch's, so it is not kept")
        for ours, theirs in zip(expected, found, strict=True):
            difference = float(np.abs(ours - theirs).max())
            if not difference <= _TOLERANCE:  # NaN is none
                raise ExportError(f"{what}: differs from torch by {difference:.2g}, so it is not kept")
            largest = max(largest, difference)
    return largest


@torch.inference_mode()
def check_quantised(run: Run, network: DecodedSSD, photos: NDArray[np.uint8], what: str) -> Agreement:
    """Compare a detector in 8-bit integers with torch's, on some of the pictures ``(N, H, W, 3)`` that it was made on.

    Raises:
        ExportError: it has lost too much.
    """
    looked_at = [to_planes(picture[None]) for picture in pictures_to_compare(photos)]
    found = compare(
        ((boxes[0].numpy(), scores[0].numpy()) for boxes, scores in map(network, map(torch.from_numpy, looked_at))),
        ((boxes[0], scores[0]) for boxes, scores in map(run, looked_at)),
    )
    if not found.enough:
        raise ExportError(
            f"{what}: in int8 its boxes overlap torch's by {found.overlap:.2f} and its scores differ by "
            f"{found.apart:.2f}, so it is not kept; calibrate on more pictures, or export in fp16"
        )
    return found


@torch.inference_mode()
def lively(network: DecodedSSD, raw: Raw, selection: Selection) -> Selection:
    """The same figures with a threshold so low that our pictures show something."""
    batches = [torch.from_numpy(images) for images in pictures(*network.spec.input_size)]
    scores = torch.cat([network.decode(*raw(images))[1].flatten() for images in batches])
    enough = scores.topk(min(len(scores), _LEAST_CANDIDATES * sum(BATCHES))).values[-1]
    return Selection(min(selection.score, float(enough)), selection.nms)


@torch.inference_mode()
def check_detections(run: Run, network: DecodedSSD, raw: Raw, selection: Selection, what: str) -> tuple[int, int]:
    """Compare what is left after NMS with what torch leaves.

    Returns:
        How many detections torch leaves, and how many of either have no counterpart.

    Raises:
        ExportError: they are others.
    """
    total = unpaired = 0
    for images in pictures(*network.spec.input_size):
        expected = postprocess(*raw(torch.from_numpy(images)), network.defaults, network.spec, selection)
        boxes, scores, class_ids, counts = run(images)
        for place, count in enumerate(counts):
            mine = expected.images == place
            ours = _rows(*(part[mine] for part in expected[:3]))
            theirs = _rows(boxes[place, :count], scores[place, :count], class_ids[place, :count])
            total += len(ours)
            unpaired += _unpaired(ours, theirs)
    if unpaired > max(2, _MOST_UNPAIRED * total):
        raise ExportError(f"{what}: {unpaired} of its detections are not torch's {total}, so it is not kept")
    return total, unpaired


def _rows(boxes: Any, scores: Any, class_ids: Any) -> NDArray[np.float64]:
    return np.column_stack([boxes, scores, class_ids]).astype(np.float64)


def _unpaired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> int:
    """How many rows of either have no counterpart in the other."""
    alike = np.abs(ours[:, None] - theirs[None]).max(axis=2, initial=0) <= _TOLERANCE
    return int((~alike.any(axis=1)).sum() + (~alike.any(axis=0)).sum())
