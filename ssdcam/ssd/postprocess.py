"""From the network's raw output to boxes on the device where it lies (paper, section 2.2), in torch.

``ssdcam.ssd.host.postprocess`` is the numpy twin; one oracle tests both. Here no shape depends on what was found, so
the device works without asking the host, until everything comes over in one copy. That needs limits: the best
candidates of an image only, and a number of rounds. An image that they do not suffice for, which the copy tells, is
left to the twin.

Greedy NMS keeps a box unless a kept box of higher score overlaps it. Its result is the one fixed point of
``keep[j] = not any(keep[i] and overlaps[i, j] for i before j)``, reached by repeating that assignment for all j at
once, in at most as many rounds as the longest chain of suppressions (a handful), not as many as there are boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdcam.ssd import host
from ssdcam.ssd.box_coder import pairwise_iou, shift, to_corners
from ssdcam.ssd.spec import ModelSpec, Selection

CROWD = 4
"""Times as many boxes as are to be kept of an image meet in NMS."""

MOST = 2048
"""Boxes of an image that may meet: the memory of their overlaps grows with the square."""

ROUNDS = 16
"""Of NMS: as long a chain of boxes that suppress each other can be followed."""

_RANKS = 2**32 - 1  # more than there are pairs of default box and class

Selector = Callable[[Tensor, Tensor, Selection], NDArray[np.float32] | None]


def postprocess(
    locations: Tensor,
    raw_scores: Tensor,
    defaults: Tensor,
    spec: ModelSpec,
    selection: Selection,
    selector: Selector | None = None,
) -> host.PackedBoxes:
    """Score, threshold, decode, clip, suppress.

    Args:
        locations: float ``(B, N, 4)``, the network's.
        raw_scores: float ``(B, N, C)``, the network's, before the score function.
        defaults: float32 ``(N, 4)`` default boxes on the same device.
        spec: coder, score function and columns.
        selection: threshold, NMS figures, classes.
        selector: a way of the device's own to do this. It gives None, or ``(B, 1 + after, 6)`` on the host: of an image
            a row of how many boxes were found and whether that is sure, and a row a box, ``x1, y1, x2, y2, score,
            class id``.

    Returns:
        The boxes of the batch, on the host.

    Raises:
        CheckpointError: the network's output is infinite or no numbers.
    """
    if len(locations) and len(selection.columns(spec)):
        packed = selector(locations, raw_scores, selection) if selector else None
        if not _sure(packed) and selection.nms.after * CROWD <= MOST:
            packed = _select(locations, raw_scores, defaults, spec, selection).cpu().numpy()
        if _sure(packed):
            return _unpack(packed[:, 0, 0], packed[:, 1:])
    located, raw, boxes = (tensor.float().cpu().numpy() for tensor in (locations, raw_scores, defaults))
    return host.postprocess(located, raw, boxes, spec, selection)


def _sure(packed: NDArray[np.float32] | None) -> TypeGuard[NDArray[np.float32]]:
    return packed is not None and bool(packed[:, 0, 1].all())


def _select(locations: Tensor, raw_scores: Tensor, defaults: Tensor, spec: ModelSpec, selection: Selection) -> Tensor:
    """float32 ``(B, 1 + after, 6)``: a row of how many were found and whether that is sure, and a row a box.

    Corners, score and class id; float32 holds ids and flags, so that one copy brings all.
    """
    nms = selection.nms
    scores, places, class_ids, complete = _best(raw_scores, spec, selection)
    located = locations.gather(1, places[..., None].expand(-1, -1, 4)).float()
    offsets = located * _constant(spec.coding.variances, located.dtype, located.device)
    boxes = to_corners(shift(offsets, defaults[places], spec.coding.max_log_size)).clamp(0, 1)

    groups = torch.zeros_like(class_ids) if nms.class_agnostic else class_ids
    rivals = (groups[:, :, None] == groups[:, None, :]).triu(diagonal=1)  # i comes before j, and they may meet
    enters = scores >= selection.score
    if nms.before < scores.shape[1]:
        enters &= rivals.sum(dim=1) < nms.before
    suppresses = ((pairwise_iou(boxes, boxes) > nms.iou) & rivals).to(boxes.dtype)

    def again(kept: Tensor) -> Tensor:
        return enters & (torch.bmm(kept[:, None].to(boxes.dtype), suppresses)[:, 0] == 0)

    kept = enters
    for _ in range(ROUNDS):
        kept = again(kept)
    settled = (again(kept) == kept).all(dim=1)

    # What NMS makes of a box depends on better ones alone: those that were left out are no better than the last.
    sure = settled & (complete | ((kept & (scores > scores[:, -1:])).sum(dim=1) >= nms.after))
    # Numbers that are none are the twin's to complain of. A sum, which is one pass, tells them, unless it overflows.
    sure &= (raw_scores.sum(dim=(1, 2), dtype=torch.float32) + located.sum(dim=(1, 2))).isfinite()
    row = torch.where(kept, kept.cumsum(dim=1), nms.after + 1).clamp(max=nms.after + 1)  # the last row is thrown away
    found = torch.cat([boxes, scores[..., None], class_ids[..., None].to(boxes.dtype)], dim=2)
    packed = found.new_zeros(len(found), nms.after + 2, 6).scatter(1, row[..., None].expand(-1, -1, 6), found)
    packed[:, 0, 0] = kept.sum(dim=1).clamp(max=nms.after)
    packed[:, 0, 1] = sure
    return packed[:, :-1]


def _best(raw_scores: Tensor, spec: ModelSpec, selection: Selection) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, default boxes and class ids ``(B, K)`` of each image's best, falling; whether no more pass the threshold.

    Equal scores rank by class and default box, as in the twin; class-agnostic, by default box and class.
    """
    columns, most = tuple(selection.columns(spec).tolist()), CROWD * selection.nms.after
    if spec.score_function == "softmax":
        probabilities = raw_scores.softmax(dim=-1, dtype=torch.float32)
    else:
        probabilities = raw_scores.float().sigmoid()
    probabilities = _columns(probabilities, columns)

    # The best pairs of default box and class are among the classes of as many default boxes, those with the best one.
    num_boxes, num_classes = probabilities.shape[1:]
    places = probabilities.amax(dim=2).topk(min(most, num_boxes), sorted=False).indices[..., None]
    probabilities = probabilities.gather(1, places.expand(-1, -1, num_classes))
    picked = _constant(tuple(range(num_classes)), torch.int64, places.device)
    agnostic = selection.nms.class_agnostic
    rank = places * num_classes + picked if agnostic else picked * num_boxes + places

    # A float that is not negative sorts as its bits do. With its rank behind it no order is left open.
    keys = ((probabilities.view(torch.int32).long() << 32) + (_RANKS - rank)).flatten(1)
    keys = keys.topk(min(most, keys.shape[1])).values
    scores = (keys >> 32).int().view(torch.float32)
    complete = scores[:, -1] < selection.score
    if keys.shape[1] == num_boxes * num_classes:
        complete = torch.ones_like(complete)
    rank = _RANKS - (keys & _RANKS)
    inner = num_classes if agnostic else num_boxes
    outer_ids, inner_ids = rank.div(inner, rounding_mode="floor"), rank % inner
    places, picked = (outer_ids, inner_ids) if agnostic else (inner_ids, outer_ids)
    if _consecutive(columns):
        return scores, places, picked + (columns[0] - spec.background), complete
    return scores, places, _constant(columns, torch.int64, places.device)[picked] - int(spec.background), complete


def _columns(scores: Tensor, columns: tuple[int, ...]) -> Tensor:
    if _consecutive(columns):
        return scores[..., columns[0] : columns[-1] + 1]
    return scores[..., _constant(columns, torch.int64, scores.device)]


def _consecutive(columns: tuple[int, ...]) -> bool:
    return columns[-1] - columns[0] == len(columns) - 1


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device, copied to it once."""
    return torch.tensor(values, dtype=dtype, device=device)


def _unpack(counts: NDArray[np.float32], rows: NDArray[np.float32]) -> host.PackedBoxes:
    numbers = counts.astype(np.int64)
    rows = rows[:, : numbers.max()]
    found = rows[np.arange(rows.shape[1]) < numbers[:, None]]
    images = np.repeat(np.arange(len(rows)), numbers)
    return host.PackedBoxes(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), images)
