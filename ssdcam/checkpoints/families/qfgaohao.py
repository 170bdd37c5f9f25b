"""qfgaohao/pytorch-ssd, which NVIDIA's jetson-inference trains with, on four backbones."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Family, Variant, Weights
from ssdcam.checkpoints.families.vgg import vgg_layers
from ssdcam.ssd.default_boxes import MOBILENET300, SQUEEZENET300, VOC300
from ssdcam.ssd.spec import NO_LIMIT, NmsFigures, Normalisation

_NMS = NmsFigures(iou=0.45, before=200, after=NO_LIMIT)
MOBILENET = Normalisation("rgb", mean=(127,) * 3, std=(128,) * 3)

HEADS = ((r"regression_headers\.(\d)", r"loc.\1"), (r"classification_headers\.(\d)", r"conf.\1"))


def separable_heads(norm: int | None, last: int) -> tuple[tuple[str, str], ...]:
    """Patterns of predictors that are lists of a depthwise convolution, perhaps a norm, and a 1x1 convolution.

    Args:
        norm: place of the norm in the list; None where there is none.
        last: place of the 1x1 convolution.
    """
    rules = []
    for theirs, ours in HEADS:
        rules.append((rf"{theirs}\.0", f"{ours}.depthwise"))
        rules.append((rf"{theirs}\.{last}", ours))
        if norm is not None:
            rules.append((rf"{theirs}\.{norm}", f"{ours}.depthwise.norm"))
    return (*rules, *HEADS)


# A MobileNet's first convolution, and its separable ones, each with a norm behind it.
STACK = (
    (r"base_net\.0\.0", "backbone.features.0.0"),
    (r"base_net\.0\.1", "backbone.features.0.0.norm"),
    (r"base_net\.(\d+)\.0", r"backbone.features.\1.0.0"),
    (r"base_net\.(\d+)\.1", r"backbone.features.\1.0.0.norm"),
    (r"base_net\.(\d+)\.3", r"backbone.features.\1.1.0"),
    (r"base_net\.(\d+)\.4", r"backbone.features.\1.1.0.norm"),
)

VGG = Family(
    name="vgg16-ssd",
    title="qfgaohao/pytorch-ssd vgg16-ssd",
    signature=("base_net.0.weight", "source_layer_add_ons.0.running_mean", "classification_headers.0.weight"),
    layers=(
        *vgg_layers(r"base_net\."),
        (r"source_layer_add_ons\.0", "backbone.conv4_3_norm.norm"),
        *((rf"extras\.{k}\.{2 * n}", f"backbone.conv{6 + k}_{1 + n}") for k in range(4) for n in (0, 1)),
        *HEADS,
    ),
    variants={6: Variant("ssd300-vgg16", (300, 300), VOC300.layout("centre"), lambda _: {"batch_norm": 1.0})},
    normalisation=Normalisation("rgb", mean=(123, 117, 104), std=(1, 1, 1)),
    nms=_NMS,
)

MOBILENET_V1 = Family(
    name="mb1-ssd",
    title="qfgaohao/pytorch-ssd mb1-ssd",
    signature=("base_net.1.3.weight", "extras.3.2.weight", "classification_headers.0.weight"),
    layers=(
        *STACK,
        (r"extras\.(\d)\.0", r"backbone.extras.\1.0.0"),
        (r"extras\.(\d)\.2", r"backbone.extras.\1.1.0"),
        *HEADS,
    ),
    variants={6: Variant("ssd300-mobilenet-v1-relu", (300, 300), MOBILENET300.layout("centre"))},
    normalisation=MOBILENET,
    nms=_NMS,
)


def _width(weights: Weights) -> dict[str, float]:
    return {"width": len(weights["backbone.features.17.2.0.bias"]) / 320}


MOBILENET_V2_LITE = Family(
    name="mb2-ssd-lite",
    title="qfgaohao/pytorch-ssd mb2-ssd-lite",
    signature=("base_net.1.conv.0.weight", "extras.0.conv.0.weight", "classification_headers.0.3.weight"),
    layers=(
        (r"base_net\.(0|18)\.0", r"backbone.features.\1.0"),
        (r"base_net\.(0|18)\.1", r"backbone.features.\1.0.norm"),
        *(
            rule
            for theirs, ours in ((r"base_net\.(\d+)", "features"), (r"extras\.(\d)", "extras"))
            for n in range(3)
            for rule in (
                (rf"{theirs}\.conv\.{3 * n}", rf"backbone.{ours}.\1.{n}.0"),
                (rf"{theirs}\.conv\.{3 * n + 1}", rf"backbone.{ours}.\1.{n}.0.norm"),
            )
        ),
        *separable_heads(norm=1, last=3),
    ),
    variants={6: Variant("ssdlite300-mobilenet-v2", (300, 300), MOBILENET300.layout("centre"), _width)},
    normalisation=MOBILENET,
    nms=_NMS,
)

SQUEEZENET_LITE = Family(
    name="sq-ssd-lite",
    title="qfgaohao/pytorch-ssd sq-ssd-lite",
    signature=("base_net.3.squeeze.weight", "extras.4.2.0.weight", "classification_headers.0.2.weight"),
    layers=(
        (r"base_net\.(\d+.*)", r"backbone.features.\1"),
        (r"extras\.(\d)\.0", r"backbone.extras.\1.0.0"),
        (r"extras\.(\d)\.2\.0", r"backbone.extras.\1.1.0.0"),
        (r"extras\.(\d)\.2\.2", r"backbone.extras.\1.1.1.0"),
        *separable_heads(norm=None, last=2),
    ),
    variants={6: Variant("ssdlite300-squeezenet", (300, 300), SQUEEZENET300.layout("centre"))},
    normalisation=MOBILENET,
    nms=_NMS,
)
