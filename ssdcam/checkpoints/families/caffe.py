"""The models released with the paper (weiliu89/caffe, branch ssd), whose layer names are ours, and those like them."""

from __future__ import annotations

from dataclasses import replace

from ssdcam.checkpoints.families.family import Family
from ssdcam.checkpoints.families.vgg import vgg_variants
from ssdcam.checkpoints.prototxt import Description
from ssdcam.errors import CheckpointError
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


def described(description: Description) -> Family:
    """The family with a ``.prototxt``'s input size, default boxes, coder and NMS figures.

    Raises:
        CheckpointError: what it describes is no network of this family, or cannot be laid out.
    """
    from ssdcam.ssd.architectures import map_sizes  # needs torch

    maps = len(description.priors)
    try:
        if maps not in FAMILY.variants:
            raise ValueError(f"it has PriorBox layers on {maps} feature maps")
        variant = FAMILY.variants[maps]
        size = description.input_size or variant.input_size
        layout = description.layout(_SOURCES[:maps], size, map_sizes(variant.architecture, size, {}))
        return replace(
            FAMILY,
            variants={maps: replace(variant, input_size=size, boxes=layout)},
            nms=description.nms or FAMILY.nms,
            coding=description.coding,
        )
    except ValueError as error:
        raise CheckpointError(f"{description.path}: does not describe an SSD of {FAMILY.title}: {error}") from error
