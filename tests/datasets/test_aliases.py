"""Labels meet by name."""

from __future__ import annotations

import pytest

from ssdcam.checkpoints.labels import COCO, COCO_WITH_GAPS, VOC
from ssdcam.datasets import match_labels
from ssdcam.datasets.aliases import canonical


def test_all_of_voc_is_in_coco() -> None:
    found = {name: COCO[i] for name, i in zip(VOC, match_labels(VOC, COCO), strict=True) if i is not None}
    assert {name: other for name, other in found.items() if name != other} == {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
    assert len(found) == 20


@pytest.mark.parametrize("labels", [VOC, COCO, COCO_WITH_GAPS])
def test_no_two_classes_are_taken_for_one(labels: tuple[str, ...]) -> None:
    assert match_labels(labels, labels) == tuple(range(len(labels)))
    assert len({canonical(label) for label in labels}) == len(labels)


@pytest.mark.parametrize("name", ["Dining Table", "dining-table", "dining_table", "DININGTABLE"])
def test_spelling_does_not_matter(name: str) -> None:
    assert match_labels([name, "table tennis"], ["sofa", "dining table"]) == (1, None)


def test_the_same_spelling_comes_first() -> None:
    assert match_labels(["TV", "tv", "television"], ["tvmonitor", "TV", "tv"]) == (1, 2, 0)
