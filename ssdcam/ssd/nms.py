"""Exact non-maximum suppression, batched over images and classes, on the tensors' device.

Greedy NMS keeps a box unless a kept box of higher score overlaps it. Its result is the one fixed point of
``keep[j] = not any(keep[i] and overlaps[i, j] for i before j)``, reached by repeating that assignment for all j at
once, in at most as many rounds as the longest chain of suppressions (a handful), not as many as there are boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssdcam.ssd.box_coder import pairwise_iou

# Overlaps are held for this many boxes by this many boxes at a time, which bounds memory whatever enters.
BLOCK = 1024


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Suppress, within each group, every box that overlaps a kept one of higher score.

    Args:
        boxes: float ``(N, 4)``, ``x1, y1, x2, y2``, in any unit.
        scores: float ``(N,)``; equal scores rank by index.
        groups: int64 ``(N,)``, such as image and class; boxes of different groups do not meet.
        iou: boxes that overlap by more than this suppress each other.

    Returns:
        int64 indices of the kept boxes, by rising group and falling score within a group.
    """
    order = sort_within_groups(scores, groups)
    if len(order) == 0:
        return order
    boxes = boxes[order]
    counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    keep = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for group_starts, group_counts, length in _batches(starts, counts):
        places = torch.arange(length, device=boxes.device)
        present = places < group_counts[:, None]
        index = (group_starts[:, None] + places).clamp(max=len(order) - 1)
        kept = greedy(boxes[index], present, iou)
        keep[index[present]] = kept[present]
    return order[keep]


def sort_within_groups(scores: Tensor, groups: Tensor) -> Tensor:
    """Indices that sort by rising group, within it by falling score, within that by index."""
    by_score = torch.argsort(scores, descending=True, stable=True)
    return by_score[torch.argsort(groups[by_score], stable=True)]


def rank_within_groups(sorted_groups: Tensor) -> Tensor:
    """Each element's place (0, 1, ...) in its run of equal values."""
    counts = torch.unique_consecutive(sorted_groups, return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    places = torch.arange(len(sorted_groups), device=sorted_groups.device)
    ranks: Tensor = places - starts.repeat_interleave(counts)
    return ranks


def _batches(starts: Tensor, counts: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Groups of similar size (within a factor of two) together, no more than fit BLOCK x BLOCK overlaps at a time."""
    bits = [(count - 1).bit_length() for count in counts.tolist()]  # 0 for lone boxes: nothing can suppress them
    for size_bits in sorted(set(bits) - {0}):
        length = 2**size_bits
        at_once = max(1, BLOCK * BLOCK // min(length, BLOCK) ** 2)
        places = torch.tensor([i for i, b in enumerate(bits) if b == size_bits], device=counts.device)
        for first in range(0, len(places), at_once):
            batch = places[first : first + at_once]
            yield starts[batch], counts[batch], length


def greedy(boxes: Tensor, present: Tensor, iou: float, block_size: int = BLOCK) -> Tensor:
    """Greedy NMS in each row of padded boxes; in words of Python that ``torch.jit.script`` knows.

    Args:
        boxes: float ``(groups, L, 4)``, ``x1, y1, x2, y2``, by falling score.
        present: bool ``(groups, L)``, False for padding.
        iou: boxes that overlap by more than this suppress each other.
        block_size: overlaps are held for this many boxes by this many boxes at a time.

    Returns:
        bool ``(groups, L)``: which are kept.
    """
    length = boxes.shape[1]
    keep = torch.zeros_like(present)
    for start in range(0, length, block_size):
        block = boxes[:, start : start + block_size]
        alive = present[:, start : start + block_size]
        for earlier in range(0, start, block_size):
            above = pairwise_iou(boxes[:, earlier : earlier + block_size], block) > iou
            alive = alive & ~(above & keep[:, earlier : earlier + block_size, None]).any(dim=1)
        suppresses = (pairwise_iou(block, block) > iou).triu(diagonal=1)
        kept = alive
        while True:
            again = alive & ~(suppresses & kept[..., None]).any(dim=1)
            if torch.equal(again, kept):
                break
            kept = again
        keep[:, start : start + block_size] = kept
    return keep
