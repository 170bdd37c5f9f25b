"""Every format gives back what was written, up to what it is documented to lose."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from ssdcam.records import Record, open_records, read_records

from .samples import FORMATS, LABELS, TWO, as_json, labelled_records, read, record, targets, write

Sample = tuple[list[str], list[Record]]
few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(name: str, sample: Sample) -> list[dict[str, Any]]:
    labels, records = sample
    with TemporaryDirectory() as folder:
        target = targets(Path(folder))[name]
        write(target, records, labels)
        return read(target)


@few
@given(labelled_records())
def test_jsonl(sample: Sample) -> None:
    assert there_and_back("jsonl", sample) == as_json(sample[1])


@few
@given(labelled_records())
def test_coco(sample: Sample) -> None:
    assert there_and_back("json", sample) == as_json(sample[1])


@few
@given(labelled_records())
def test_yolo(sample: Sample) -> None:
    assert there_and_back("yolo", sample) == as_json(sample[1])


@few
@given(labelled_records(least=1))
def test_csv(sample: Sample) -> None:
    assert there_and_back("csv", sample) == as_json(sample[1])


@few
@given(labelled_records())
def test_csv_loses_only_records_without_detections(sample: Sample) -> None:
    assert there_and_back("csv", sample) == [one for one in as_json(sample[1]) if one["detections"]]


@few
@given(labelled_records())
def test_voc_loses_only_the_order(sample: Sample) -> None:
    def moment(one: dict[str, Any]) -> tuple[str, int]:
        return one["source"], one.get("frame", -1)

    assert sorted(there_and_back("voc", sample), key=moment) == sorted(as_json(sample[1]), key=moment)


@pytest.mark.parametrize("name", FORMATS)
def test_a_video_comes_back_in_order(name: str, tmp_path: Path) -> None:
    frames = [record("v.mp4", TWO, frame=i, time=i / 25) for i in (0, 9, 10, 999_999, 1_000_000)]
    write(targets(tmp_path)[name], frames)
    assert read(targets(tmp_path)[name]) == as_json(frames)


@pytest.mark.parametrize("name", FORMATS)
def test_odd_labels_and_sources_come_back(name: str, tmp_path: Path) -> None:
    plain = ("", "a,b;c", '"', "'", "<&>]]>&lt;", "\\", "\\u0001", "a/b\\c", "..", "#", "null", "1", "🐟", "x" * 10_000)
    control = ("\ufeffx", " edges\t", "a\r", "\r\n", "\0\1\x1f", "caf\udce9", "\u2028", "\x85", "\ufffe\uffff")
    odd = plain + control
    records = [record(text, [(i, 0.5, (1, 2, 3, 4))], frame=i, time=1, labels=odd) for i, text in enumerate(odd)]
    write(targets(tmp_path)[name], records, odd)
    assert sorted(read(targets(tmp_path)[name]), key=lambda one: one["frame"]) == as_json(records)


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_at_the_edges_come_back_inside(name: str, tmp_path: Path) -> None:
    boxes = [box for i in range(1, 480) for box in ((0, 0, i / 3, i / 7), (i / 3, i / 7, 640, 480))]
    write(targets(tmp_path)[name], [record("a.jpg", [(0, 0.5, box) for box in boxes])])
    (one,) = read_records(targets(tmp_path)[name])
    assert len(one.detections.boxes) == len(boxes)
    assert one.detections.boxes.min() >= 0
    assert (one.detections.boxes.max(axis=0) <= (640, 480, 640, 480)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_a_box_that_rounding_makes_empty_comes_back(name: str, tmp_path: Path) -> None:
    boxes = [(i / 16, i / 16, i / 16 + 0.001, i / 16 + 0.001) for i in range(320)]
    one = record("a.jpg", [(0, 0.5, box) for box in boxes])
    write(targets(tmp_path)[name], [one])
    assert read(targets(tmp_path)[name]) == as_json([one])


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_at_all_is_a_readable_file_too(name: str, tmp_path: Path) -> None:
    write(targets(tmp_path)[name], [])
    assert read(targets(tmp_path)[name]) == []


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_a_file_that_exists_is_replaced(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    write(target, [record(f"{i}.jpg", TWO) for i in range(50)])
    write(target, [record("new.jpg", TWO)])
    assert read(target) == as_json([record("new.jpg", TWO)])


@pytest.mark.parametrize("name", FORMATS)
def test_closing_twice_changes_nothing(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    with open_records(target, labels=LABELS) as writer:
        writer.write(record("a.jpg", TWO))
        writer.close()
    writer.close()
    assert read(target) == as_json([record("a.jpg", TWO)])
