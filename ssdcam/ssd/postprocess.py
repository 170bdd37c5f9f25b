"""From the network's raw output to boxes, in torch, on the tensors' device (paper, section 2.2).

``ssdcam.ssd.host.postprocess`` is the numpy twin; one oracle tests both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssdcam.ssd import nms
from ssdcam.ssd.box_coder import decode, to_corners
from ssdcam.ssd.spec import ModelSpec, Selection


class PackedBoxes(NamedTuple):
    """The boxes of a batch in one piece, by rising image and falling score."""

    boxes: Tensor
    """float32 ``(M, 4)``, ``x1, y1, x2, y2`` relative to the image, within 0..1."""
    scores: Tensor
    """float32 ``(M,)``."""
    class_ids: Tensor
    """int64 ``(M,)``, background not counted."""
    images: Tensor
    """int64 ``(M,)``: the place in the batch."""


def postprocess(
    locations: Tensor, raw_scores: Tensor, defaults: Tensor, spec: ModelSpec, selection: Selection
) -> PackedBoxes:
    """Score, threshold, decode, clip, suppress.

    Args:
        locations: float ``(B, N, 4)``, the network's.
        raw_scores: float ``(B, N, C)``, the network's, before the score function.
        defaults: float32 ``(N, 4)`` default boxes on the same device.
        spec: coder, score function and columns.
        selection: threshold, NMS figures, classes.
    """
    columns = torch.as_tensor(selection.columns(spec), device=raw_scores.device)
    raw_scores = raw_scores.float()
    if spec.score_function == "softmax":
        probabilities = raw_scores.softmax(dim=-1)[..., columns]
    else:
        probabilities = raw_scores[..., columns].sigmoid()
    images, places, picked = (probabilities >= selection.score).nonzero(as_tuple=True)
    scores = probabilities[images, places, picked]
    class_ids = columns[picked] - int(spec.background)
    groups = images if selection.nms.class_agnostic else images * len(spec.labels) + class_ids

    # The best of each group enter NMS; only they are decoded.
    order = nms.sort_within_groups(scores, groups)
    order = order[nms.rank_within_groups(groups[order]) < selection.nms.before]
    images, places, scores, class_ids, groups = (t[order] for t in (images, places, scores, class_ids, groups))
    centre_form = decode(locations[images, places].float(), defaults[places], spec.coding)
    boxes = to_corners(centre_form).clamp(0, 1)

    kept = nms.nms(boxes, scores, groups, selection.nms.iou)
    kept = kept[nms.sort_within_groups(scores[kept], images[kept])]
    kept = kept[nms.rank_within_groups(images[kept]) < selection.nms.after]
    return PackedBoxes(boxes[kept], scores[kept], class_ids[kept], images[kept])
