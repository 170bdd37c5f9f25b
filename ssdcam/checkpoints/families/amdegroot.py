"""amdegroot/ssd.pytorch, whose checkpoints are of two colour orders that their keys do not tell apart."""

from __future__ import annotations

from dataclasses import replace

from ssdcam.checkpoints.families.family import Family
from ssdcam.checkpoints.families.vgg import extra_layers, vgg_layers, vgg_variants
from ssdcam.ssd.spec import NO_LIMIT, NmsFigures, Normalisation

RGB = Family(
    name="amdegroot",
    title="amdegroot/ssd.pytorch (RGB)",
    signature=("vgg.0.weight", "L2Norm.weight", "loc.0.weight"),
    layers=(
        *vgg_layers(r"vgg\."),
        *extra_layers(r"extras\."),
        ("L2Norm", "backbone.conv4_3_norm"),
        (r"(loc|conf)\.(\d)", r"\1.\2"),
    ),
    variants=vgg_variants("centre"),
    normalisation=Normalisation("rgb", mean=(123, 117, 104), std=(1, 1, 1)),
    nms=NmsFigures(iou=0.45, before=200, after=NO_LIMIT),
    assumption="taken to want RGB pictures, as amdegroot's later checkpoints do (--family amdegroot-bgr if not)",
    known_files=("ssd300_mAP_77.43_v2.pth",),
)

BGR = replace(
    RGB,
    name="amdegroot-bgr",
    title="amdegroot/ssd.pytorch (BGR)",
    normalisation=Normalisation("bgr", mean=(104, 117, 123), std=(1, 1, 1)),
    known_files=("ssd_300_VOC0712.pth",),
)
