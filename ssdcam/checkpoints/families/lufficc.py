"""lufficc/SSD on VGG-16."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Family
from ssdcam.checkpoints.families.vgg import extra_layers, vgg_layers, vgg_variants
from ssdcam.ssd.spec import NO_LIMIT, NmsFigures, Normalisation

FAMILY = Family(
    name="lufficc",
    title="lufficc/SSD",
    signature=("backbone.vgg.0.weight", "box_head.predictor.cls_headers.0.weight"),
    layers=(
        *vgg_layers(r"backbone\.vgg\."),
        *extra_layers(r"backbone\.extras\."),
        (r"backbone\.l2_norm", "backbone.conv4_3_norm"),
        (r"box_head\.predictor\.reg_headers\.(\d)", r"loc.\1"),
        (r"box_head\.predictor\.cls_headers\.(\d)", r"conf.\1"),
    ),
    variants=vgg_variants("centre"),
    normalisation=Normalisation("rgb", mean=(123, 117, 104), std=(1, 1, 1)),
    nms=NmsFigures(iou=0.45, before=NO_LIMIT, after=100),
)
