"""Named architectures: from a spec to its network, and from a name to a spec to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ssdcam.ssd.backbones.mobilenet_v1 import MobileNetV1
from ssdcam.ssd.backbones.vgg import VGG16
from ssdcam.ssd.default_boxes import VOC300, BoxLayout, layout_tensorflow
from ssdcam.ssd.network import SSD
from ssdcam.ssd.spec import ModelSpec, NmsFigures, Normalisation, ScoreFunction

MapSizes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Architecture:
    """A network, and what its authors trained it with.

    Attributes:
        backbone: builds the backbone; takes the spec's options as keywords.
        head_kernel: side of the predictors' kernels.
        input_size: height and width of the input.
        boxes: default boxes for an input size and its feature maps.
        normalisation, score_function, nms: as in :class:`ssdcam.ssd.spec.ModelSpec`.
    """

    backbone: Callable[..., nn.Module]
    head_kernel: int
    input_size: tuple[int, int]
    boxes: Callable[[tuple[int, int], MapSizes], BoxLayout]
    normalisation: Normalisation
    score_function: ScoreFunction
    nms: NmsFigures


def _voc300_boxes(input_size: tuple[int, int], map_sizes: MapSizes) -> BoxLayout:
    return VOC300.layout() if input_size == (VOC300.side, VOC300.side) else VOC300.stretched(map_sizes)


ARCHITECTURES: Mapping[str, Architecture] = {
    "ssd300-vgg16": Architecture(
        backbone=VGG16,
        head_kernel=3,
        input_size=(300, 300),
        boxes=_voc300_boxes,
        normalisation=Normalisation("bgr", mean=(104, 117, 123), std=(1, 1, 1)),
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssd300-mobilenet-v1": Architecture(
        backbone=MobileNetV1,
        head_kernel=1,
        input_size=(300, 300),
        boxes=lambda _, map_sizes: layout_tensorflow(map_sizes),
        normalisation=Normalisation("rgb", mean=(127.5,) * 3, std=(127.5,) * 3),
        score_function="sigmoid",
        nms=NmsFigures(iou=0.6, before=100, after=100),
    ),
}


def architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        ValueError: there is none; the message names those there are.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is none of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def new_spec(
    name: str,
    labels: Sequence[str],
    *,
    input_size: tuple[int, int] | None = None,
    options: Mapping[str, float] | None = None,
) -> ModelSpec:
    """The spec of an untrained network of a named architecture.

    Args:
        name: one of ``ARCHITECTURES``.
        labels: its classes, background not counted.
        input_size: height and width in pixels; the architecture's own if not given.
        options: keywords of its backbone, such as ``{"width": 0.75}``.
    """
    arch = architecture(name)
    size = input_size or arch.input_size
    return ModelSpec(
        architecture=name,
        labels=tuple(labels),
        input_size=size,
        normalisation=arch.normalisation,
        boxes=arch.boxes(size, map_sizes(name, size, options or {})),
        score_function=arch.score_function,
        nms=arch.nms,
        options=dict(options or {}),
    )


def build_network(spec: ModelSpec) -> SSD:
    """The network of a spec, with weights as torch initialises them.

    Raises:
        ValueError: the spec contradicts the architecture: unknown options, or another number of feature maps.
    """
    arch = architecture(spec.architecture)
    backbone = _build_backbone(arch, spec.options)
    return SSD(backbone, spec.boxes.boxes_per_cell, spec.num_columns, arch.head_kernel)


def map_sizes(name: str, input_size: tuple[int, int], options: Mapping[str, float]) -> list[tuple[int, int]]:
    """Rows and columns of each feature map for an input of that height and width.

    Raises:
        ValueError: the input is too small for the network.
    """
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        backbone = _build_backbone(architecture(name), options)
        try:
            maps = backbone(torch.empty(1, 3, *input_size))
        except RuntimeError as error:
            height, width = input_size
            raise ValueError(
                f"{name} cannot take an input of {width}x{height} pixels: its last feature map would be empty"
            ) from error
    return [(m.shape[2], m.shape[3]) for m in maps]


def _build_backbone(arch: Architecture, options: Mapping[str, float]) -> nn.Module:
    try:
        return arch.backbone(**options)
    except TypeError as error:
        raise ValueError(f"options {dict(options)} do not suit the architecture: {error}") from error
