"""Records made elsewhere meet the photos they are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ssdcam.datasets import Dataset
from ssdcam.detections import Detections
from ssdcam.errors import RecordError
from ssdcam.evaluation.records import meet, read_found, select
from ssdcam.records import Record, open_records

from .cases import LABELS, found, sample

FOUND = found([[0, 0, 9, 9], [1, 1, 5, 5]], [0.9, 0.2], [1, 0])
DATA = Dataset(LABELS, (sample("a", [], []), sample("clip_000007", [], []), replace(sample("c", [], []), id="99")), ())


def record(source: str, **more: int) -> Record:
    return Record(source, 100, 100, FOUND, **more)


@pytest.mark.parametrize("target", ["r.jsonl", "r.csv", "r.json", "voc:r", "yolo:r"])
def test_every_format(target: str, tmp_path: Path) -> None:
    prefix, _, name = target.rpartition(":")
    target = f"{prefix}:{tmp_path / name}" if prefix else str(tmp_path / name)
    with open_records(target, labels=LABELS) as writer:
        writer.write(record("photos/c.jpg"))
    result = read_found(target, DATA, tmp_path)
    assert [len(one) for one in result.detections] == [0, 0, 2]
    assert result.detections[2].labels == ("bee", "ant")
    assert result.problems == ()
    assert result.labels == (LABELS if target.endswith(".json") or prefix == "yolo" else None)


def test_labels_that_yolo_holds_as_escapes(tmp_path: Path) -> None:
    labels = ("a\nb", "c\u2028d")
    with open_records(f"yolo:{tmp_path}", labels=labels) as writer:
        writer.write(replace(record("photos/c.jpg"), detections=Detections.empty()))
    assert read_found(f"yolo:{tmp_path}", DATA, tmp_path).labels == labels


@pytest.mark.parametrize(
    ("one", "place"),
    [
        (record("a.jpg"), 0),
        (record("x/y/a.png"), 0),
        (record(r"C:\x\a.jpg"), 0),
        (record("99"), 2),
        (record("clip.mp4", frame=7), 1),
        (record("rtsp://host/clip", frame=7), 1),
    ],
)
def test_by_name(one: Record, place: int) -> None:
    result = meet("x", [one], DATA, None)
    assert [len(found) > 0 for found in result.detections].index(True) == place


def test_truths_that_another_machine_named() -> None:
    windows = replace(DATA, samples=(replace(DATA.samples[0], path=Path(r"C:\x\dog.jpg"), id="1"),))
    assert len(meet("x", [record("photos/dog.jpg")], windows, None).detections[0]) == 2


def test_strays_are_named_once() -> None:
    result = meet("x", [record("a.jpg"), record("b.jpg"), record("z.jpg"), record("a.mp4", frame=0)], DATA, None)
    assert result.problems == ("x: not in the data set and passed over: b.jpg, and 2 more",)
    with pytest.raises(RecordError, match=r"none of its pictures is in the data set, for instance b\.jpg"):
        meet("x", [record("b.jpg")], DATA, None)


def test_another_size_is_named() -> None:
    result = meet("x", [replace(record("a.jpg"), width=50)], DATA, None)
    assert result.problems == ("x: looked at in another size than the data set states: a.jpg (50x100, not 100x100)",)


def test_two_records_for_a_photo() -> None:
    with pytest.raises(RecordError, match=r"two records for a\.jpg"):
        meet("x", [record("a.jpg"), record("b/a.jpg")], DATA, None)


def test_folders_tell_photos_of_a_name_apart() -> None:
    samples = tuple(replace(sample("a", [], []), path=Path(f"/data/{folder}/a.jpg")) for folder in ("one", "two"))
    data = Dataset(LABELS, samples, ())
    assert [len(one) for one in meet("x", [record("two/a.jpg")], data, None).detections] == [0, 2]
    with pytest.raises(RecordError, match=r"could be /data/one/a\.jpg or /data/two/a\.jpg"):
        meet("x", [record("a.jpg")], data, None)


def test_selecting() -> None:
    assert select(FOUND).labels == ("bee", "ant")
    assert select(FOUND, 0.5).labels == ("bee",)
    assert select(FOUND, 0, ["Ant"]).scores.tolist() == pytest.approx([0.2])
