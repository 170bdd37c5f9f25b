"""torchvision's two detectors, ``ssd300_vgg16`` and ``ssdlite320_mobilenet_v3_large``."""

from __future__ import annotations

from math import log

from ssdcam.checkpoints.families.family import Family, Variant, Weights
from ssdcam.checkpoints.families.vgg import vgg_layers
from ssdcam.ssd.default_boxes import COCO300, layout_ssdlite
from ssdcam.ssd.spec import BoxCoding, NmsFigures, Normalisation

_CODING = BoxCoding(max_log_size=log(1000 / 16))

SSD300 = Family(
    name="torchvision-ssd300",
    title="torchvision ssd300_vgg16",
    signature=("backbone.scale_weight", "head.classification_head.module_list.0.weight"),
    layers=(
        *vgg_layers(r"backbone\.features\.", last="conv4_3"),
        *((rf"backbone\.extra\.0\.{i}", f"backbone.conv5_{n}") for n, i in enumerate((1, 3, 5), 1)),
        (r"backbone\.extra\.0\.7\.1", "backbone.fc6"),
        (r"backbone\.extra\.0\.7\.3", "backbone.fc7"),
        *(
            (rf"backbone\.extra\.{stage - 5}\.{2 * (n - 1)}", f"backbone.conv{stage}_{n}")
            for stage in (6, 7, 8, 9)
            for n in (1, 2)
        ),
        ("backbone", "backbone.conv4_3_norm"),
        (r"head\.regression_head\.module_list\.(\d)", r"loc.\1"),
        (r"head\.classification_head\.module_list\.(\d)", r"conf.\1"),
    ),
    variants={6: Variant("ssd300-vgg16", (300, 300), COCO300.layout("size"))},
    # Its means are on 0 to 1 and its std is 1/255.
    normalisation=Normalisation("rgb", mean=(0.48235 * 255, 0.45882 * 255, 0.40784 * 255), std=(1, 1, 1)),
    coding=_CODING,
)


def _tail(weights: Weights) -> dict[str, float]:
    return {"tail": len(weights["backbone.features.1.3.0.bias"]) / 960}


SSDLITE320 = Family(
    name="torchvision-ssdlite320",
    title="torchvision ssdlite320_mobilenet_v3_large",
    signature=("backbone.features.0.0.0.weight", "head.classification_head.module_list.0.0.0.weight"),
    layers=(
        (r"backbone\.(features\.\d\.\d+)(?:\.block)?(.*)\.1", r"backbone.\1\2.0.norm"),
        (r"backbone\.(features\.\d\.\d+)(?:\.block)?(.*)", r"backbone.\1\2"),
        (r"backbone\.(extra\.\d\.\d)\.1", r"backbone.\1.0.norm"),
        (r"backbone\.(extra\.\d\.\d\.0)", r"backbone.\1"),
        *(
            rule
            for theirs, ours in (("regression", "loc"), ("classification", "conf"))
            for rule in (
                (rf"head\.{theirs}_head\.module_list\.(\d)\.0\.0", rf"{ours}.\1.depthwise"),
                (rf"head\.{theirs}_head\.module_list\.(\d)\.0\.1", rf"{ours}.\1.depthwise.norm"),
                (rf"head\.{theirs}_head\.module_list\.(\d)\.1", rf"{ours}.\1"),
            )
        ),
    ),
    variants={
        6: Variant(
            "ssdlite320-mobilenet-v3-large",
            (320, 320),
            layout_ssdlite([(n, n) for n in (20, 10, 5, 3, 2, 1)]),
            _tail,
        )
    },
    normalisation=Normalisation("rgb", mean=(127.5,) * 3, std=(127.5,) * 3),
    nms=NmsFigures(iou=0.55, before=300, after=300),
    coding=_CODING,
    epsilon=1e-3,
)
