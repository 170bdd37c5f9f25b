"""What a family of published checkpoints is, as data, and the one way from its arrays to a checkpoint of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.labels import COCO, COCO_WITH_GAPS, VOC
from ssdcam.errors import CheckpointError, WrongUsageError
from ssdcam.ssd.default_boxes import BoxLayout
from ssdcam.ssd.spec import BoxCoding, ModelSpec, NmsFigures, Normalisation

log = logging.getLogger("ssdcam")

Array = NDArray[Any]
Weights = Mapping[str, Array]
BoxSizes = Literal["voc", "coco"]

# Labels that a network of so many columns is taken to have; --labels names others.
_LABELS = {1 + len(names): names for names in (VOC, COCO, COCO_WITH_GAPS)}
_SIZES: Mapping[int, BoxSizes] = {21: "voc", 81: "coco", 91: "coco"}

_PAPER_NMS, _PAPER_CODING = NmsFigures(), BoxCoding()

_KINDS = {"scale_weight": "weight"}  # torchvision's L2 norm is no layer of its own

# A batch norm's count of batches, and buffers that some releases store, are no weights.
_NO_WEIGHTS = re.compile(r".*\.num_batches_tracked|(.*\.)?(priors|anchors)")


@dataclass(frozen=True)
class Variant:
    """One of a family's networks.

    Attributes:
        architecture: its name in ``ssdcam.ssd.architectures``.
        input_size: height and width in pixels.
        boxes: its default boxes; where the family has two sets, ``voc`` and ``coco``, which the keys cannot tell apart.
        options: the architecture's options, read off our names and the arrays' shapes.
    """

    architecture: str
    input_size: tuple[int, int]
    boxes: BoxLayout | Mapping[BoxSizes, BoxLayout]
    options: Callable[[Weights], Mapping[str, float]] = lambda _: {}


@dataclass(frozen=True)
class Family:
    """Checkpoints that one code base publishes.

    Attributes:
        name: what ``--family`` takes.
        title: its authors' name for it.
        signature: keys that all its files have, and no other family's.
        layers: patterns of its layers' names and ours, the first that matches whole is taken. A batch norm's name of
            ours is its convolution's and ``.norm``.
        variants: its networks by their number of feature maps.
        normalisation, nms, coding: as in :class:`ssdcam.ssd.spec.ModelSpec`.
        epsilon: of its batch norms.
        predictor: reorders a predictor's output channels to ours, which are boxes of columns or coordinates, the
            background first. Takes ``loc`` or ``conf``, the weights or biases and the boxes of a cell.
        labels: its classes, where there is only one set.
        assumption: what about its files the keys do not tell, said unless ``--family`` is given or the name is known.
        known_files: published files that this is known of.
    """

    name: str
    title: str
    signature: tuple[str, ...]
    layers: tuple[tuple[str, str], ...]
    variants: Mapping[int, Variant]
    normalisation: Normalisation
    nms: NmsFigures = _PAPER_NMS
    coding: BoxCoding = _PAPER_CODING
    epsilon: float = 1e-5
    predictor: Callable[[str, Array, int], Array] = lambda _head, array, _boxes: array
    labels: tuple[str, ...] | None = None
    assumption: str | None = None
    known_files: tuple[str, ...] = ()


def convert(family: Family, arrays: Weights, path: Path, boxes: BoxSizes | None = None) -> Checkpoint:
    """A checkpoint from a family's arrays.

    Args:
        family: whose arrays they are.
        arrays: by their names in the file, which end in ``.weight`` and ``.bias``.
        path: the file, for messages and for what its name tells.
        boxes: which set of default boxes, where the family has two.

    Raises:
        CheckpointError: the arrays are not this family's: some are missing, left over, or of a wrong shape.
        WrongUsageError: ``boxes`` was given, but there is nothing to choose.
    """
    try:
        weights = fold_norms(_renamed(family, arrays), family.epsilon)
        per_cell, columns = _count(weights)
        if len(per_cell) not in family.variants:
            raise ValueError(f"it has predictors for {len(per_cell)} feature maps")
        variant = family.variants[len(per_cell)]
        for head in ("loc", "conf"):
            for k, n in enumerate(per_cell):
                for kind in ("weight", "bias"):
                    if (name := f"{head}.{k}.{kind}") in weights:
                        weights[name] = family.predictor(head, weights[name], n)
        spec = ModelSpec(
            architecture=variant.architecture,
            labels=family.labels or _LABELS.get(columns) or tuple(f"class {i}" for i in range(columns - 1)),
            input_size=variant.input_size,
            normalisation=family.normalisation,
            boxes=_choose_boxes(variant, columns, path, boxes),
            coding=family.coding,
            nms=family.nms,
            options=variant.options(weights),
            provenance={"source": f"converted from {path.name}", "family": family.title},
        )
        if columns != spec.num_columns:
            raise ValueError(f"it has scores for {columns} columns instead of {spec.num_columns}")
        _check(spec, weights)
    except (ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: is no checkpoint of {family.title}: {error}") from error
    return Checkpoint(spec, weights)


def _renamed(family: Family, arrays: Weights) -> dict[str, Array]:
    weights = {}
    for key, array in arrays.items():
        layer, _, kind = key.rpartition(".")
        if _NO_WEIGHTS.fullmatch(key):
            continue
        ours = next((match.expand(to) for of, to in family.layers if (match := re.fullmatch(of, layer))), None)
        if ours is None:
            raise ValueError(f"it has no layer {layer or key}")
        if array.dtype.kind != "f":
            raise ValueError(f"{key} is of {array.dtype}, not of floating-point numbers")
        weights[f"{ours}.{_KINDS.get(kind, kind)}"] = array
    return weights


def fold_norms(weights: Weights, epsilon: float) -> dict[str, Array]:
    """Fold every ``NAME.norm`` into the convolution ``NAME`` before it, which gets a bias.

    A norm with no convolution before it becomes a factor and an offset a channel.

    Args:
        weights: arrays by name; a norm has ``weight``, ``bias``, ``running_mean``, ``running_var``.
        epsilon: what keeps the norm from dividing by zero.

    Raises:
        ValueError: a norm is not whole, or is of other channels than its convolution.
    """
    folded = {name: array for name, array in weights.items() if ".norm." not in name}
    for layer in {name.rpartition(".norm.")[0] for name in weights if ".norm." in name}:
        try:
            scale, bias, mean, variance = (
                weights[f"{layer}.norm.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
        except KeyError as error:
            raise ValueError(f"it lacks weights for {error.args[0]}") from error
        kernel = weights.get(f"{layer}.weight", np.ones(len(scale), np.float32))
        if not scale.shape == bias.shape == mean.shape == variance.shape == kernel.shape[:1]:
            raise ValueError(f"the norm of {layer} has another number of channels")
        with np.errstate(all="ignore"):  # what overflows is refused when the network is loaded
            scale /= np.sqrt(variance + epsilon)
            before = weights.get(f"{layer}.bias", np.float32(0))
            folded[f"{layer}.weight"] = (kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.float32)
            folded[f"{layer}.bias"] = ((before - mean) * scale + bias).astype(np.float32)
    return folded


def _count(weights: Weights) -> tuple[list[int], int]:
    """Default boxes in a cell of each feature map, and columns of the scores."""
    per_cell: list[int] = []
    counts = set()
    while (loc := weights.get(f"loc.{len(per_cell)}.bias")) is not None:
        conf = weights.get(f"conf.{len(per_cell)}.bias")
        boxes, rest = divmod(loc.size, 4)
        if conf is None or loc.ndim != 1 or conf.ndim != 1 or rest or not boxes or len(conf) % boxes:
            raise ValueError(f"its predictors of feature map {len(per_cell)} do not go together")
        counts.add(len(conf) // boxes)
        per_cell.append(boxes)
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError("its predictors are missing, or are for different numbers of classes")
    return per_cell, counts.pop()


def _choose_boxes(variant: Variant, columns: int, path: Path, given: BoxSizes | None) -> BoxLayout:
    if isinstance(variant.boxes, BoxLayout):
        if given:
            raise WrongUsageError(f"{path}: its family has one set of default boxes: --boxes has nothing to choose")
        return variant.boxes
    if given:
        if given not in variant.boxes:
            raise WrongUsageError(f"--boxes {given} is none of {', '.join(get_args(BoxSizes))}")
        return variant.boxes[given]
    if columns in _SIZES:
        return variant.boxes[_SIZES[columns]]
    chosen: BoxSizes = "coco" if "coco" in path.name.lower() else "voc"
    other = "voc" if chosen == "coco" else "coco"
    log.warning(
        "%s: has %d classes, like neither VOC nor COCO; taken to have %s's default boxes (--boxes %s if not)",
        *(path, columns - 1, chosen.upper(), other),
    )
    return variant.boxes[chosen]


def _check(spec: ModelSpec, weights: Weights) -> None:
    """Compare with what the network needs, which is made without memory."""
    import torch  # seconds to import, and needed only here

    from ssdcam.ssd.architectures import build_network

    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in build_network(spec).state_dict().items()}
    if missing := wanted.keys() - weights.keys():
        raise ValueError(f"it lacks weights for {min(missing)}")
    if extra := weights.keys() - wanted.keys():
        raise ValueError(f"it has weights that {spec.architecture} has no place for, such as {min(extra)}")
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} is {weights[name].shape}, where {shape} is needed")
