"""Which default box answers for which ground truth (paper, section 2.2, matching strategy)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ssdcam.ssd.box_coder import pairwise_iou

BACKGROUND: Final = -1
IGNORED: Final = -2

_TAKEN = -1.0  # below every IoU
_AT_ONCE = 2**26  # overlaps; several tensors of that size are held at a time


def match(
    boxes: Tensor, present: Tensor, defaults: Tensor, *, ignored: Tensor | None = None, threshold: float = 0.5
) -> Tensor:
    """Match default boxes with the ground truths of a batch of pictures.

    Every ground truth first gets a default box of its own, best pair first; then every default box left over goes to
    the ground truth that it overlaps most, if by the threshold at least. Of equal overlaps the ground truth that comes
    first wins, then the default box that comes first.

    Args:
        boxes: float ``(B, G, 4)``, ``x1, y1, x2, y2``, padded to the most ground truths of a picture.
        present: bool ``(B, G)``; False is padding.
        defaults: float ``(N, 4)``, ``x1, y1, x2, y2`` in the same units.
        ignored: bool ``(B, G)``, ground truths that are neither object nor background (difficult ones, crowds). They
            get no default box, and those that they cover by half and that no object wants are ignored.
        threshold: least IoU of a match beyond each ground truth's own.

    Returns:
        int64 ``(B, N)``: the index of the matched ground truth, ``BACKGROUND`` or ``IGNORED``.
    """
    batch, most, count = *boxes.shape[:2], len(defaults)
    if batch > 1 and batch * most * count > _AT_ONCE:  # a picture of hundreds of objects pads all the others to it
        every = torch.zeros_like(present) if ignored is None else ignored
        alone = [slice(i, i + 1) for i in range(batch)]
        return torch.cat([match(boxes[i], present[i], defaults, ignored=every[i], threshold=threshold) for i in alone])
    if most == 0:
        return torch.full((batch, count), BACKGROUND, dtype=torch.int64, device=boxes.device)
    wanted = present if ignored is None else present & ~ignored
    overlaps = pairwise_iou(boxes, defaults.expand(batch, count, 4))
    overlaps = overlaps.masked_fill(~wanted[..., None], _TAKEN)

    best, matched = overlaps.max(dim=1)
    matched = matched.masked_fill(best < threshold, BACKGROUND)
    own = assign_each(overlaps)
    pictures, truths = (own >= 0).nonzero(as_tuple=True)
    matched[pictures, own[pictures, truths]] = truths

    if ignored is not None:
        covered = _coverage(boxes, defaults).masked_fill(~(present & ignored)[..., None], 0).amax(dim=1)
        matched = matched.masked_fill((covered >= 0.5) & (matched == BACKGROUND), IGNORED)
    return matched


def assign_each(overlaps: Tensor) -> Tensor:
    """Greedy bipartite matching: a default box for every ground truth, best pair first.

    A pair that is the best both of its row and of its column is one that the greedy order would take whatever else
    it took before. So all such pairs are taken at once, in as many rounds as the longest chain of ground truths that
    want each other's boxes: two or three for a photo, rather than one a ground truth.

    Args:
        overlaps: float ``(B, G, N)``, IoU; negative where a ground truth takes no part.

    Returns:
        int64 ``(B, G)``: the index of the default box, -1 for a ground truth that overlaps none that is left.
    """
    batch, most, _ = overlaps.shape
    own = torch.full((batch, most), -1, dtype=torch.int64, device=overlaps.device)
    left = overlaps.clone()
    while True:
        best, places = left.max(dim=2)
        rivals = left.gather(2, places[:, None].expand(-1, most, -1)).argmax(dim=1)
        mutual = (rivals == torch.arange(most, device=left.device)) & (best > 0)
        pictures, truths = mutual.nonzero(as_tuple=True)
        if len(pictures) == 0:
            return own
        taken = places[pictures, truths]
        own[pictures, truths] = taken
        left[pictures, truths] = _TAKEN
        left[pictures, :, taken] = _TAKEN


def _coverage(boxes: Tensor, defaults: Tensor) -> Tensor:
    """The share of each default box's area that each ground truth covers, ``(B, G, N)``."""
    boxes = boxes.unsqueeze(-2)
    sides = (torch.minimum(boxes[..., 2:], defaults[:, 2:]) - torch.maximum(boxes[..., :2], defaults[:, :2])).clamp(0)
    areas = (defaults[:, 2:] - defaults[:, :2]).prod(dim=-1)
    return sides.prod(dim=-1) / areas.clamp(min=torch.finfo(areas.dtype).tiny)
