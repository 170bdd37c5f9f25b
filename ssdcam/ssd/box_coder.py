"""Boxes and IoU in torch: the door between default boxes, locations and corners (paper, equation 2).

``ssdcam.ssd.host`` holds the numpy twins of what inference needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssdcam.ssd.spec import BoxCoding


def to_corners(boxes: Tensor) -> Tensor:
    """``(..., 4)`` from ``cx, cy, w, h`` to ``x1, y1, x2, y2``."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """``(..., 4)`` from ``x1, y1, x2, y2`` to ``cx, cy, w, h``."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def encode(boxes: Tensor, defaults: Tensor, coding: BoxCoding) -> Tensor:
    """What the network should say of each default box for it to become the given box.

    Args:
        boxes: float ``(..., 4)``, centre-form, relative to the image, of positive size.
        defaults: float ``(..., 4)``, the default boxes in the same form.
        coding: the coder's figures.

    Returns:
        Locations ``(..., 4)``: ``dx, dy, dw, dh``, each divided by its variance.

    Raises:
        ValueError: a box has no width or no height; its logarithm would be infinite.
    """
    if not bool((boxes[..., 2:] > 0).all()):
        raise ValueError("boxes must have positive width and height to be encoded")
    centre = (boxes[..., :2] - defaults[..., :2]) / defaults[..., 2:]
    size = (boxes[..., 2:] / defaults[..., 2:]).log()
    return torch.cat([centre, size], dim=-1) / boxes.new_tensor(coding.variances)


def decode(locations: Tensor, defaults: Tensor, coding: BoxCoding) -> Tensor:
    """The inverse of :func:`encode`: float ``(..., 4)`` centre-form boxes, relative to the image, not clipped."""
    return shift(locations * locations.new_tensor(coding.variances), defaults, coding.max_log_size)


def shift(offsets: Tensor, defaults: Tensor, max_log_size: float) -> Tensor:
    """The second half of :func:`decode`: boxes from locations that are multiplied by their variances already."""
    centre = defaults[..., :2] + offsets[..., :2] * defaults[..., 2:]
    size = defaults[..., 2:] * offsets[..., 2:].clamp(max=max_log_size).exp()
    return torch.cat([centre, size], dim=-1)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (Jaccard overlap) of every box of ``a`` with every box of ``b``.

    Args:
        a: float ``(..., N, 4)``, ``x1, y1, x2, y2``.
        b: float ``(..., M, 4)``, in the same units, with the same leading axes.

    Returns:
        float ``(..., N, M)`` in 0 to 1; 0 where neither box has an area.
    """
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    union = _area(a) + _area(b) - intersection
    return intersection / union.clamp(min=1.1754943508222875e-38)  # float32's least, as torch.jit.script has no finfo


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
