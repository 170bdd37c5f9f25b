"""NVIDIA DeepLearningExamples' SSD300 on ResNet-50, whose predictors lay out coordinates before boxes."""

from __future__ import annotations

from ssdcam.checkpoints.families.family import Array, Family, Variant
from ssdcam.ssd.default_boxes import COCO300
from ssdcam.ssd.spec import IMAGENET, NmsFigures


def _boxes_first(_head: str, array: Array, boxes: int) -> Array:
    """From channels ``value * boxes + box`` to ``box * values + value``."""
    values = len(array) // boxes
    return array.reshape(values, boxes, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


_BODY = r"feature_extractor\.feature_extractor"

FAMILY = Family(
    name="nvidia-resnet50",
    title="NVIDIA DeepLearningExamples SSD300",
    signature=("feature_extractor.feature_extractor.0.weight", "additional_blocks.0.0.weight", "loc.0.weight"),
    layers=(
        (rf"{_BODY}\.0", "backbone.conv1"),
        (rf"{_BODY}\.1", "backbone.conv1.norm"),
        *(
            rule
            for place, stage in ((4, 0), (5, 1), (6, 2))
            for rule in (
                (rf"{_BODY}\.{place}\.(\d)\.conv(\d)", rf"backbone.stages.{stage}.\1.conv\2"),
                (rf"{_BODY}\.{place}\.(\d)\.bn(\d)", rf"backbone.stages.{stage}.\1.conv\2.norm"),
                (rf"{_BODY}\.{place}\.(\d)\.downsample\.0", rf"backbone.stages.{stage}.\1.downsample"),
                (rf"{_BODY}\.{place}\.(\d)\.downsample\.1", rf"backbone.stages.{stage}.\1.downsample.norm"),
            )
        ),
        (r"additional_blocks\.(\d)\.0", r"backbone.extras.\1.0.0"),
        (r"additional_blocks\.(\d)\.1", r"backbone.extras.\1.0.0.norm"),
        (r"additional_blocks\.(\d)\.3", r"backbone.extras.\1.1.0"),
        (r"additional_blocks\.(\d)\.4", r"backbone.extras.\1.1.0.norm"),
        (r"(loc|conf)\.(\d)", r"\1.\2"),
    ),
    variants={6: Variant("ssd300-resnet50", (300, 300), COCO300.layout("centre"))},
    normalisation=IMAGENET,
    nms=NmsFigures(iou=0.45, before=200, after=200),
    predictor=_boxes_first,
)
