"""What the families on VGG-16 share: the numbers that PyTorch's list of its layers gives them, and their variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssdcam.checkpoints.families.family import Variant
from ssdcam.ssd.default_boxes import COCO300, COCO512, VOC300, VOC512, Clip

# Layers by their place in a list where activations and pools count too.
_PLACES = {
    0: "conv1_1",
    2: "conv1_2",
    5: "conv2_1",
    7: "conv2_2",
    10: "conv3_1",
    12: "conv3_2",
    14: "conv3_3",
    17: "conv4_1",
    19: "conv4_2",
    21: "conv4_3",
    24: "conv5_1",
    26: "conv5_2",
    28: "conv5_3",
    31: "fc6",
    33: "fc7",
}


def vgg_layers(prefix: str, last: str = "fc7") -> Iterator[tuple[str, str]]:
    """Patterns of a family's layers and ours, for VGG-16 up to a layer.

    Args:
        prefix: pattern of what stands before the place in the list.
        last: our name of the last layer that the list holds.
    """
    for place, name in _PLACES.items():
        yield rf"{prefix}{place}", f"backbone.{name}"
        if name == last:
            return


def extra_layers(prefix: str) -> Iterator[tuple[str, str]]:
    """The same for the extra layers, where they are one list of convolutions."""
    for place in range(10):
        yield rf"{prefix}{place}", f"backbone.conv{6 + place // 2}_{1 + place % 2}"


def vgg_variants(clip: Clip) -> Mapping[int, Variant]:
    """SSD300 and SSD512, each with VOC's and COCO's default boxes."""
    return {
        6: Variant("ssd300-vgg16", (300, 300), {"voc": VOC300.layout(clip), "coco": COCO300.layout(clip)}),
        7: Variant("ssd512-vgg16", (512, 512), {"voc": VOC512.layout(clip), "coco": COCO512.layout(clip)}),
    }
