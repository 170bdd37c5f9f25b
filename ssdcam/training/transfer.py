"""Starting from weights: another network's for other classes, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.datasets.aliases import match_labels
from ssdcam.errors import CheckpointError
from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.network import SSD
from ssdcam.ssd.spec import ModelSpec, NmsFigures

PRIOR = 0.01
"""What a new class scores at first where scores are sigmoids: objects are rare (Lin et al., section 4.1)."""


def fresh(spec: ModelSpec, seed: int = 0) -> Checkpoint:
    """An untrained network: He's initialisation for the backbone, Xavier's for the heads.

    torch's own initialisation is a third of He's and lets nothing of a picture through to a deep layer without batch
    normalisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(spec)
        for layer in network.backbone.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for name, parameter in (*network.loc.named_parameters(), *network.conf.named_parameters()):
            if parameter.ndim == 4:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        _expect_few_objects(network, spec)
    return Checkpoint(spec, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def transfer(checkpoint: Checkpoint, spec: ModelSpec, seed: int = 0) -> Checkpoint:
    """Weights for other classes.

    The backbone is taken over, and the predictors of boxes; of the predictors of scores the rows of classes that both
    have, by name or alias. New classes, and feature maps with another number of default boxes, start afresh.

    Args:
        checkpoint: what to start from.
        spec: the network to be trained, of the same architecture and options.
        seed: for the rows that start afresh.

    Raises:
        CheckpointError: the networks are different, or the weights do not fit their own.
    """
    old = checkpoint.spec
    if (old.architecture, dict(old.options)) != (spec.architecture, dict(spec.options)):
        raise CheckpointError(
            f"training {_described(spec)} cannot start from {_described(old)}: the networks must be the same"
        )
    start = fresh(spec, seed)
    if len(old.boxes.boxes_per_cell) != len(spec.boxes.boxes_per_cell):
        raise CheckpointError("training cannot start from a network with another number of feature maps")
    rows = _matching_columns(old, spec)
    weights = dict(start.weights)
    for name, new in start.weights.items():
        given = _given(checkpoint.weights, name)
        head, _, place = name.partition(".")
        if head == "conf" and place[0].isdigit():
            boxes = spec.boxes.boxes_per_cell[int(place.split(".")[0])]
            weights[name] = _rows_kept(given, new, boxes, old.num_columns, spec.num_columns, rows)
        elif given.shape == new.shape:
            weights[name] = given.astype(np.float32)
        elif head != "loc":
            raise CheckpointError(f"the start's weights {name} are {given.shape}, where {new.shape} is needed")
    return Checkpoint(spec, weights)


def retarget(spec: ModelSpec, labels: tuple[str, ...], **changes: Any) -> ModelSpec:
    """A spec for other labels; what is known of the old weights does not hold for the new.

    The figures of NMS are the paper's again: those of a released file suit the scores that it was released with.
    """
    return replace(spec, labels=labels, provenance={}, **{"nms": NmsFigures(), **changes})


def _described(spec: ModelSpec) -> str:
    options = " ".join(f"{key} {value:g}" for key, value in spec.options.items())
    return f"{spec.architecture} {options}".strip()


def _given(weights: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in weights:
        raise CheckpointError(f"the start's weights lack {name}")
    return weights[name]


def _matching_columns(old: ModelSpec, new: ModelSpec) -> list[tuple[int, int]]:
    """Columns of the scores that mean the same: old, new."""
    found = match_labels(new.labels, old.labels)
    pairs = [(i + old.background, k + new.background) for k, i in enumerate(found) if i is not None]
    return [(0, 0), *pairs] if old.background and new.background else pairs


def _rows_kept(
    given: NDArray[Any],
    new: NDArray[Any],
    boxes: int,
    old_columns: int,
    new_columns: int,
    columns: list[tuple[int, int]],
) -> NDArray[Any]:
    """A head's rows are columns within boxes; a layer before the rows (no multiple of them) is taken over whole."""
    if len(new) != boxes * new_columns or len(given) != boxes * old_columns:
        return given.astype(np.float32) if given.shape == new.shape else new
    if given.shape[1:] != new.shape[1:]:
        return new
    kept = new.reshape(boxes, new_columns, *new.shape[1:]).copy()
    source = given.reshape(boxes, old_columns, *given.shape[1:])
    for i, k in columns:
        kept[:, k] = source[:, i]
    return kept.reshape(new.shape)


def _expect_few_objects(network: SSD, spec: ModelSpec) -> None:
    if spec.score_function != "sigmoid":
        return
    for head, boxes in zip(network.conf, spec.boxes.boxes_per_cell, strict=True):
        for parameter in head.parameters():
            if parameter.shape == (boxes * spec.num_columns,):
                nn.init.constant_(parameter, -log((1 - PRIOR) / PRIOR))
