"""The models released with the paper (weiliu89/caffe, branch ssd), whose layer names are ours."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Family
from ssdcam.checkpoints.families.vgg import vgg_variants
from ssdcam.ssd.spec import Normalisation

_SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2")

FAMILY = Family(
    name="caffe",
    title="weiliu89/caffe SSD",
    signature=("conv1_1.weight", "conv4_3_norm.weight", "conv4_3_norm_mbox_loc.weight"),
    layers=(
        *((f"{source}_mbox_(loc|conf)", rf"\1.{k}") for k, source in enumerate(_SOURCES)),
        (r"(conv\d+_\d|conv4_3_norm|fc6|fc7)", r"backbone.\1"),
    ),
    variants=vgg_variants("none"),
    normalisation=Normalisation("bgr", mean=(104, 117, 123), std=(1, 1, 1)),
)
