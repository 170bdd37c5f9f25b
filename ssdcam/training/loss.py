"""The MultiBox loss (paper, equations 1 to 3) and hard negative mining, with focal loss as a choice.

Sums come a picture apart: several processes can then divide by the positives of all of them, and a loss that is no
number can be traced to its picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssdcam.ssd.box_coder import encode, to_centres, to_corners
from ssdcam.ssd.spec import ModelSpec
from ssdcam.training.matching import BACKGROUND, IGNORED, match

Classification = Literal["softmax", "sigmoid", "focal"]


@dataclass(frozen=True)
class LossFigures:
    """What the loss is made of.

    Attributes:
        classification: ``softmax`` cross-entropy or ``sigmoid`` binary cross-entropy, both with hard negatives, or
            sigmoid ``focal`` loss over all boxes (Lin et al., arXiv 1708.02002).
        alpha: weight of localisation (equation 1).
        threshold: IoU of a match.
        negatives: hard negatives a positive, a picture; a picture without positives has as many as if it had one.
        focal_alpha: weight of the positives in focal loss; negatives weigh one minus it.
        focal_gamma: how little well-classified boxes count in focal loss.
    """

    classification: Classification = "softmax"
    alpha: float = 1.0
    threshold: float = 0.5
    negatives: float = 3.0
    focal_alpha: float = 0.75
    focal_gamma: float = 2.0


class Targets(NamedTuple):
    """The ground truths of a batch, padded to the most of a picture."""

    boxes: Tensor
    """float32 ``(B, G, 4)``, ``x1, y1, x2, y2`` relative to the picture."""
    class_ids: Tensor
    """int64 ``(B, G)``, background not counted."""
    present: Tensor
    """bool ``(B, G)``; False is padding."""
    ignored: Tensor
    """bool ``(B, G)``: difficult objects and crowds, neither found nor missed."""
    known: Tensor
    """bool ``(B, C)``: the classes that the picture's data set labels. Nothing is learnt of the others from it."""


class LossSums(NamedTuple):
    """Sums over each picture's boxes, float32 ``(B,)``."""

    location: Tensor
    classification: Tensor
    positives: Tensor


def multibox_loss(
    locations: Tensor,
    raw_scores: Tensor,
    targets: Targets,
    defaults: Tensor,
    spec: ModelSpec,
    figures: LossFigures,
    soft: Tensor | None = None,
) -> LossSums:
    """Match, then sum the loss of each picture.

    Args:
        locations: float ``(B, N, 4)``, the network's.
        raw_scores: float ``(B, N, columns)``, the network's, before the score function.
        targets: the ground truths.
        defaults: float32 ``(N, 4)``, default boxes, centre-form.
        spec: box coder, columns.
        figures: the loss's own.
        soft: float ``(B, N, C)``, a teacher's scores: what to learn about the classes that a picture's data set does
            not label, 0 to 1, or -1 where the teacher has nothing to say either. With the sigmoid losses only.

    Returns:
        Sums, to be divided by the positives of the batch; see :func:`total_loss`.
    """
    locations, raw_scores = locations.float(), raw_scores.float()
    matched = match(
        targets.boxes, targets.present, to_corners(defaults), ignored=targets.ignored, threshold=figures.threshold
    )
    positive = matched >= 0
    pictures, places = positive.nonzero(as_tuple=True)
    truths = matched[pictures, places]
    wanted = encode(to_centres(targets.boxes[pictures, truths]), defaults[places], spec.coding)
    errors = F.smooth_l1_loss(locations[pictures, places], wanted, reduction="none").sum(dim=1)
    location = errors.new_zeros(len(matched)).index_add(0, pictures, errors)

    class_ids = torch.full_like(matched, -1)
    class_ids[pictures, places] = targets.class_ids[pictures, truths]
    if figures.classification == "softmax":
        of_boxes = _cross_entropy(raw_scores, class_ids, targets.known)
    else:
        of_boxes = _sigmoid_loss(raw_scores[..., int(spec.background) :], class_ids, targets.known, figures, soft)
    if figures.classification == "focal":
        counted = matched != IGNORED
    else:
        counted = positive | hard_negatives(of_boxes.detach(), matched, figures.negatives)
    classification = of_boxes.where(counted, of_boxes.new_zeros(())).sum(dim=1)
    return LossSums(location, classification, positive.sum(dim=1).float())


def total_loss(sums: LossSums, positives: Tensor, alpha: float) -> Tensor:
    """Equation 1: one number for a batch whose positives, in all processes, are given; without any, the plain sum."""
    return (sums.classification.sum() + alpha * sums.location.sum()) / positives.clamp(min=1)


def hard_negatives(losses: Tensor, matched: Tensor, ratio: float) -> Tensor:
    """The background boxes that the network gets most wrong (section 2.2, hard negative mining).

    Args:
        losses: float ``(B, N)``, each box's classification loss.
        matched: int64 ``(B, N)``, of :func:`ssdcam.training.matching.match`.
        ratio: boxes a positive of the picture, and of a picture without positives.

    Returns:
        bool ``(B, N)``.
    """
    background = matched == BACKGROUND
    wanted = ratio * (matched >= 0).sum(dim=1, keepdim=True).clamp(min=1)
    order = losses.masked_fill(~background, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return background & (ranks < wanted)


def _cross_entropy(raw_scores: Tensor, class_ids: Tensor, known: Tensor) -> Tensor:
    """Softmax over the background and the known classes, ``(B, N)``; the others take no part and learn nothing."""
    columns = F.pad(known, (1, 0), value=True)
    scores = raw_scores.masked_fill(~columns[:, None], -torch.inf)
    return F.cross_entropy(scores.flatten(0, 1), (class_ids + 1).flatten(), reduction="none").view_as(class_ids)


def _sigmoid_loss(
    scores: Tensor, class_ids: Tensor, known: Tensor, figures: LossFigures, soft: Tensor | None
) -> Tensor:
    """Binary cross-entropy or focal loss, summed over the classes with something to learn, ``(B, N)``."""
    wanted = scores.new_zeros(*class_ids.shape, scores.shape[2] + 1)
    wanted = wanted.scatter_(2, class_ids[..., None] + 1, 1.0)[..., 1:]  # the first column takes the background
    taught = known[:, None]
    if soft is not None:
        wanted = torch.where(taught, wanted, soft.clamp(min=0))
        taught = taught | (soft >= 0)
    losses = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    if figures.classification == "focal":
        # For hard targets the focal loss of its paper; for a teacher's, its usual extension.
        weight = figures.focal_alpha * wanted + (1 - figures.focal_alpha) * (1 - wanted)
        losses = losses * weight * (wanted - scores.sigmoid()).abs().pow(figures.focal_gamma)
    return losses.where(taught, losses.new_zeros(())).sum(dim=2)
