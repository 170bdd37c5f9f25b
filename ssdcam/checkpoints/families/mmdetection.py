"""mmdetection's SSD300 and SSD512 (version 2.14 and later), whose scores have the background last."""

from __future__ import annotations

from math import log

import numpy as np

from ssdcam.checkpoints.families.family import Array, Family, Variant
from ssdcam.checkpoints.families.vgg import vgg_layers
from ssdcam.ssd.default_boxes import COCO300, MMDETECTION512
from ssdcam.ssd.spec import BoxCoding, NmsFigures, Normalisation


def _background_first(head: str, array: Array, boxes: int) -> Array:
    if head == "loc":
        return array
    return np.roll(array.reshape(boxes, -1, *array.shape[1:]), 1, axis=1).reshape(array.shape)


FAMILY = Family(
    name="mmdetection",
    title="mmdetection SSD",
    signature=("backbone.features.0.weight", "neck.l2_norm.weight", "bbox_head.cls_convs.0.0.weight"),
    layers=(
        *vgg_layers(r"backbone\.features\."),
        *((rf"neck\.extra_layers\.{k}\.{n}\.conv", f"backbone.conv{6 + k}_{1 + n}") for k in range(5) for n in (0, 1)),
        (r"neck\.l2_norm", "backbone.conv4_3_norm"),
        (r"bbox_head\.reg_convs\.(\d)\.0", r"loc.\1"),
        (r"bbox_head\.cls_convs\.(\d)\.0", r"conf.\1"),
    ),
    variants={
        6: Variant("ssd300-vgg16", (300, 300), COCO300.layout()),
        7: Variant("ssd512-vgg16", (512, 512), MMDETECTION512.layout()),
    },
    normalisation=Normalisation("rgb", mean=(123.675, 116.28, 103.53), std=(1, 1, 1)),
    nms=NmsFigures(iou=0.45, before=1000, after=200),
    coding=BoxCoding(max_log_size=log(1000 / 16)),
    predictor=_background_first,
)
