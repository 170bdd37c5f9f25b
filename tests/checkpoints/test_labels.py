from __future__ import annotations

from pathlib import Path

import pytest

from ssdcam.checkpoints.labels import COCO, COCO_WITH_GAPS, VOC, read_labels
from ssdcam.errors import CheckpointError


def test_voc() -> None:
    assert len(VOC) == len(set(VOC)) == 20
    assert tuple(sorted(VOC)) == VOC
    assert (VOC[0], VOC[14], VOC[19]) == ("aeroplane", "person", "tvmonitor")


def test_coco() -> None:
    assert len(COCO) == len(set(COCO)) == 80
    assert (COCO[0], COCO[79]) == ("person", "toothbrush")


def test_coco_with_gaps_is_numbered_as_coco_is() -> None:
    # Category ids of COCO's own annotation files, which count from 1.
    ids = {"person": 1, "stop sign": 13, "cat": 17, "dog": 18, "dining table": 67, "tv": 72, "toothbrush": 90}
    assert len(COCO_WITH_GAPS) == len(set(COCO_WITH_GAPS)) == 90
    assert {name: COCO_WITH_GAPS.index(name) + 1 for name in ids} == ids
    assert tuple(name for name in COCO_WITH_GAPS if not name.startswith("unused")) == COCO


def test_coco_agrees_with_a_published_label_map(shared: Path) -> None:
    lines = (shared / "weights/coco_ssd_mobilenet_v1/labelmap.txt").read_text().splitlines()
    published = [line for line in lines if line and line != "???"]
    assert published == list(COCO)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\ndog", ("cat", "dog")),
        (b"cat\r\ndog\r\n\r\n", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\n", ("cat",)),  # a byte order mark, as Windows puts there
        (b"  traffic light \t\n", ("traffic light",)),
        (b"cat\n\ndog\n", ("cat", "class 1", "dog")),  # a class without a name keeps its number
        (b"\ncat\n", ("class 0", "cat")),
        ("猫\nhällo\n".encode(), ("猫", "hällo")),
        (b"same\nsame\n", ("same", "same")),
    ],
)
def test_reads_a_name_a_line(content: bytes, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert read_labels(tmp_path / "names.txt") == expected


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no names"),
        (b"\n \n\t\n", "holds no names"),
        (b"caf\xe9\n", "is no UTF-8 text"),
        (b"\xff\xfec\0a\0t\0", "is no UTF-8 text"),  # UTF-16
        (None, "cannot be read: No such file"),
    ],
)
def test_says_what_is_wrong_with_a_file(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"names\.txt: {complaint}"):
        read_labels(tmp_path / "names.txt")
