"""Linzaer's Ultra-Light-Fast-Generic-Face-Detector-1MB, 'slim' and 'RFB', at an input of 320x240."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Family, Variant, Weights
from ssdcam.checkpoints.families.qfgaohao import MOBILENET, STACK, separable_heads
from ssdcam.ssd.default_boxes import layout_faces
from ssdcam.ssd.spec import NmsFigures


def _branches(weights: Weights) -> dict[str, float]:
    return {"branches": float("backbone.features.7.shortcut.0.weight" in weights)}


FAMILY = Family(
    name="ultralight-faces",
    title="Linzaer's Ultra-Light face detector",
    signature=("base_net.1.3.weight", "extras.0.2.2.weight", "classification_headers.3.weight"),
    layers=(
        *STACK,
        (r"base_net\.7\.(branch\d\.\d|shortcut)\.conv", r"backbone.features.7.\1.0"),
        (r"base_net\.7\.(branch\d\.\d|shortcut)\.bn", r"backbone.features.7.\1.0.norm"),
        (r"base_net\.7\.ConvLinear\.conv", r"backbone.features.7.together.0"),
        (r"base_net\.7\.ConvLinear\.bn", r"backbone.features.7.together.0.norm"),
        (r"extras\.0\.0", "backbone.extras.0.0.0"),
        (r"extras\.0\.2\.0", "backbone.extras.0.1.0.0"),
        (r"extras\.0\.2\.2", "backbone.extras.0.1.1.0"),
        *separable_heads(norm=None, last=2),
    ),
    variants={
        4: Variant(
            "ultralight-faces",
            (240, 320),
            layout_faces((240, 320), [(30, 40), (15, 20), (8, 10), (4, 5)]),
            _branches,
        )
    },
    normalisation=MOBILENET,
    nms=NmsFigures(iou=0.3, before=1500, after=750),
    labels=("face",),
)
