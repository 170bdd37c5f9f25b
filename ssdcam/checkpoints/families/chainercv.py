"""chainercv's SSD300 and SSD512, NumPy archives whose locations are in the order y, x, h, w."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Array, Family, Variant
from ssdcam.ssd.default_boxes import VOC300, VOC512
from ssdcam.ssd.spec import NO_LIMIT, NmsFigures, Normalisation


def _x_first(head: str, array: Array, boxes: int) -> Array:
    if head == "conf":
        return array
    return array.reshape(boxes, 4, *array.shape[1:])[:, [1, 0, 3, 2]].reshape(array.shape)


FAMILY = Family(
    name="chainercv",
    title="chainercv SSD",
    signature=("extractor.conv1_1.weight", "extractor.norm4.weight", "multibox.conf.0.weight"),
    layers=(
        (r"extractor\.(conv[1-5]_\d)", r"backbone.\1"),
        (r"extractor\.norm4", "backbone.conv4_3_norm"),
        (r"extractor\.conv6", "backbone.fc6"),
        (r"extractor\.conv7", "backbone.fc7"),
        *((rf"extractor\.conv{stage + 2}_(\d)", rf"backbone.conv{stage}_\1") for stage in range(6, 11)),
        (r"multibox\.(loc|conf)\.(\d)", r"\1.\2"),
    ),
    variants={
        6: Variant("ssd300-vgg16", (300, 300), VOC300.layout()),
        7: Variant("ssd512-vgg16", (512, 512), VOC512.layout()),
    },
    normalisation=Normalisation("rgb", mean=(123, 117, 104), std=(1, 1, 1)),
    nms=NmsFigures(iou=0.45, before=NO_LIMIT, after=NO_LIMIT),
    predictor=_x_first,
)
