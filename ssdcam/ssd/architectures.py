"""Named architectures: from a spec to its network, and from a name to a spec to start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from math import log

import torch
from torch import nn

from ssdcam.ssd.backbones.mobilenet_v1 import MobileNetV1
from ssdcam.ssd.backbones.mobilenet_v1_relu import MobileNetV1ReLU, UltraLight
from ssdcam.ssd.backbones.mobilenet_v2 import MobileNetV2
from ssdcam.ssd.backbones.mobilenet_v3 import MobileNetV3Large
from ssdcam.ssd.backbones.resnet import ResNet50
from ssdcam.ssd.backbones.squeezenet import SqueezeNet
from ssdcam.ssd.backbones.vgg import SSD512_EXTRAS, VGG16
from ssdcam.ssd.default_boxes import (
    COCO300,
    MOBILENET300,
    SQUEEZENET300,
    VOC300,
    VOC512,
    BoxLayout,
    Clip,
    PaperTable,
    layout_faces,
    layout_ssdlite,
    layout_tensorflow,
)
from ssdcam.ssd.network import PLAIN_1X1, PLAIN_3X3, SSD, Head, SeparableConv2d
from ssdcam.ssd.spec import IMAGENET, BoxCoding, ModelSpec, NmsFigures, Normalisation, ScoreFunction

_PAPER_CODING = BoxCoding()

MapSizes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Architecture:
    """A network, and what its authors trained it with.

    Attributes:
        backbone: builds the backbone; takes the spec's options as keywords.
        head, last_head: make the predictors; see :class:`ssdcam.ssd.network.SSD`.
        input_size: height and width of the input.
        boxes: default boxes for an input size and its feature maps.
        normalisation, score_function, nms, coding: as in :class:`ssdcam.ssd.spec.ModelSpec`.
    """

    backbone: Callable[..., nn.Module]
    input_size: tuple[int, int]
    boxes: Callable[[tuple[int, int], MapSizes], BoxLayout]
    normalisation: Normalisation
    score_function: ScoreFunction
    nms: NmsFigures
    coding: BoxCoding = _PAPER_CODING
    head: Head = PLAIN_3X3
    last_head: Head | None = None


def _boxes(table: PaperTable, clip: Clip = "none") -> Callable[[tuple[int, int], MapSizes], BoxLayout]:
    """A table's default boxes: as released for an input of its own size, else stretched."""
    own = (table.side, table.side)
    return lambda size, map_sizes: table.layout(clip) if size == own else table.stretched(map_sizes, clip)


_CAFFE = Normalisation("bgr", mean=(104, 117, 123), std=(1, 1, 1))
_HALF = Normalisation("rgb", mean=(127.5,) * 3, std=(127.5,) * 3)
_POWER_OF_TWO = Normalisation("rgb", mean=(127,) * 3, std=(128,) * 3)

ARCHITECTURES: Mapping[str, Architecture] = {
    "ssd300-vgg16": Architecture(
        backbone=VGG16,
        input_size=(300, 300),
        boxes=_boxes(VOC300),
        normalisation=_CAFFE,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssd512-vgg16": Architecture(
        backbone=partial(VGG16, stages=SSD512_EXTRAS),
        input_size=(512, 512),
        boxes=_boxes(VOC512),
        normalisation=_CAFFE,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssd300-mobilenet-v1": Architecture(
        backbone=MobileNetV1,
        head=PLAIN_1X1,
        input_size=(300, 300),
        boxes=lambda _, map_sizes: layout_tensorflow(map_sizes),
        normalisation=_HALF,
        score_function="sigmoid",
        nms=NmsFigures(iou=0.6, before=100, after=100),
    ),
    "ssdlite320-mobilenet-v3-large": Architecture(
        backbone=MobileNetV3Large,
        head=SeparableConv2d,
        input_size=(320, 320),
        boxes=lambda _, map_sizes: layout_ssdlite(map_sizes),
        normalisation=_HALF,
        score_function="softmax",
        nms=NmsFigures(iou=0.55, before=300, after=300),
        coding=BoxCoding(max_log_size=log(1000 / 16)),
    ),
    "ssd300-mobilenet-v1-relu": Architecture(
        backbone=MobileNetV1ReLU,
        input_size=(300, 300),
        boxes=_boxes(MOBILENET300, "centre"),
        normalisation=_POWER_OF_TWO,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssdlite300-mobilenet-v2": Architecture(
        backbone=MobileNetV2,
        head=SeparableConv2d,
        last_head=PLAIN_1X1,
        input_size=(300, 300),
        boxes=_boxes(MOBILENET300, "centre"),
        normalisation=_POWER_OF_TWO,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssdlite300-squeezenet": Architecture(
        backbone=SqueezeNet,
        head=partial(SeparableConv2d, activation=nn.ReLU),
        last_head=PLAIN_1X1,
        input_size=(300, 300),
        boxes=_boxes(SQUEEZENET300, "centre"),
        normalisation=_POWER_OF_TWO,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ssd300-resnet50": Architecture(
        backbone=ResNet50,
        input_size=(300, 300),
        boxes=_boxes(COCO300, "centre"),
        normalisation=IMAGENET,
        score_function="softmax",
        nms=NmsFigures(),
    ),
    "ultralight-faces": Architecture(
        backbone=UltraLight,
        head=partial(SeparableConv2d, activation=nn.ReLU),
        last_head=PLAIN_3X3,
        input_size=(240, 320),
        boxes=layout_faces,
        normalisation=_POWER_OF_TWO,
        score_function="softmax",
        nms=NmsFigures(iou=0.3),
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
        coding=arch.coding,
        options=dict(options or {}),
    )


def build_network(spec: ModelSpec) -> SSD:
    """The network of a spec, with weights as torch initialises them.

    Raises:
        ValueError: the spec contradicts the architecture: unknown options, or another number of feature maps.
    """
    arch = architecture(spec.architecture)
    backbone = _build_backbone(arch, spec.options)
    return SSD(backbone, spec.boxes.boxes_per_cell, spec.num_columns, arch.head, arch.last_head)


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
    parameters = signature(arch.backbone).parameters.values()
    known = [parameter.name for parameter in parameters if isinstance(parameter.default, int | float)]
    for name in options:
        if name not in known:
            raise ValueError(f"the architecture has no option {name!r}: it has {', '.join(known) or 'none'}")
    return arch.backbone(**options)
