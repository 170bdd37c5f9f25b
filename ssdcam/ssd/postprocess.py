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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdcam.ssd import host
from ssdcam.ssd.box_coder import decode, pairwise_iou, to_corners
from ssdcam.ssd.spec import ModelSpec, Selection

CROWD = 4
"""Times as many boxes as are to be kept of an image meet in NMS."""

MOST = 2048
"""Boxes of an image that may meet: the memory of their overlaps grows with the square."""

ROUNDS = 16
"""Of NMS: as long a chain of boxes that suppress each other can be followed."""


def postprocess(
    locations: Tensor, raw_scores: Tensor, defaults: Tensor, spec: ModelSpec, selection: Selection
) -> host.PackedBoxes:
    """Score, threshold, decode, clip, suppress.

    Args:
        locations: float ``(B, N, 4)``, the network's.
        raw_scores: float ``(B, N, C)``, the network's, before the score function.
        defaults: float32 ``(N, 4)`` default boxes on the same device.
        spec: coder, score function and columns.
        selection: threshold, NMS figures, classes.

    Returns:
        The boxes of the batch, on the host.

    Raises:
        CheckpointError: the network's output is infinite or no numbers.
    """
    if len(locations) and selection.nms.after * CROWD <= MOST and len(selection.columns(spec)):
        # float32 holds class ids and flags, so that one copy brings all.
        packed = _select(locations, raw_scores, defaults, spec, selection).cpu().numpy()
        if packed[:, 0, 1].all():
            return _unpack(packed[:, 0, 0], packed[:, 1:])
    located, raw, boxes = (tensor.float().cpu().numpy() for tensor in (locations, raw_scores, defaults))
    return host.postprocess(located, raw, boxes, spec, selection)


def _select(locations: Tensor, raw_scores: Tensor, defaults: Tensor, spec: ModelSpec, selection: Selection) -> Tensor:
    """float32 ``(B, 1 + after, 6)``: a row of how many were found and whether that is sure, and a row a box."""
    nms = selection.nms
    scores, places, class_ids, complete = _best(raw_scores, spec, selection)
    located = locations.float().gather(1, places[..., None].expand(-1, -1, 4))
    boxes = to_corners(decode(located, defaults[places], spec.coding)).clamp(0, 1)

    groups = torch.zeros_like(class_ids) if nms.class_agnostic else class_ids
    rivals = (groups[:, :, None] == groups[:, None, :]).triu(diagonal=1)  # i comes before j, and they may meet
    enters = (rivals.sum(dim=1) < nms.before) & (scores >= selection.score)
    suppresses = ((pairwise_iou(boxes, boxes) > nms.iou) & rivals).to(boxes.dtype)

    def again(kept: Tensor) -> Tensor:
        return enters & (torch.bmm(kept[:, None].to(boxes.dtype), suppresses)[:, 0] == 0)

    kept = enters
    for _ in range(ROUNDS):
        kept = again(kept)
    settled = (again(kept) == kept).all(dim=1)

    # What NMS makes of a box depends on better ones alone: those that were left out are no better than the last.
    sure = settled & (complete | ((kept & (scores > scores[:, -1:])).sum(dim=1) >= nms.after))
    row = torch.where(kept, kept.cumsum(dim=1), nms.after + 1).clamp(max=nms.after + 1)  # the last row is thrown away
    found = torch.cat([boxes, scores[..., None], class_ids[..., None].to(boxes.dtype)], dim=2)
    packed = found.new_zeros(len(found), nms.after + 2, 6).scatter(1, row[..., None].expand(-1, -1, 6), found)
    packed[:, 0, 0] = kept.sum(dim=1).clamp(max=nms.after)
    packed[:, 0, 1] = sure & raw_scores.isfinite().all(dim=2).all(dim=1) & located.isfinite().all(dim=2).all(dim=1)
    return packed[:, :-1]


def _best(raw_scores: Tensor, spec: ModelSpec, selection: Selection) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, default boxes and class ids ``(B, K)`` of each image's best, falling; whether more are above threshold.

    Equal scores rank by class and default box, as in the twin; class-agnostic, by default box and class.
    """
    columns = torch.as_tensor(selection.columns(spec), device=raw_scores.device)
    raw_scores = raw_scores.float()
    if spec.score_function == "softmax":
        probabilities = raw_scores.softmax(dim=-1)[..., columns]
    else:
        probabilities = raw_scores[..., columns].sigmoid()
    agnostic = selection.nms.class_agnostic
    ranked = (probabilities if agnostic else probabilities.transpose(1, 2)).flatten(1)
    scores, index = ranked.topk(min(CROWD * selection.nms.after, ranked.shape[1]))
    complete = (scores[:, -1] < selection.score) | torch.tensor(scores.shape == ranked.shape, device=scores.device)
    # topk leaves the order of equal scores open.
    index, by_index = index.sort()
    scores, by_score = scores.gather(1, by_index).sort(descending=True, stable=True)
    index = index.gather(1, by_score)
    count = len(columns) if agnostic else raw_scores.shape[1]
    first, second = index.div(count, rounding_mode="floor"), index % count
    places, picked = (first, second) if agnostic else (second, first)
    return scores, places, columns[picked] - int(spec.background), complete


def _unpack(counts: NDArray[np.float32], rows: NDArray[np.float32]) -> host.PackedBoxes:
    images, places = np.nonzero(np.arange(rows.shape[1]) < counts[:, None])
    found = rows[images, places]
    return host.PackedBoxes(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), images)
