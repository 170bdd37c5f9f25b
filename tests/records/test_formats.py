"""What a target means, and what the package needs to be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssdcam.errors import RecordError, WrongUsageError
from ssdcam.records import open_records, read_records

from .samples import FORMATS, LABELS, TWO, as_json, read, record, targets, write


@pytest.mark.parametrize("target", ["r.txt", "r", "-", "", "voc:", "yolo:", "coco:x", "VOC:x", "dir/", ".jsonl"])
def test_other_targets_are_wrong_usage_and_the_error_says_what_is_possible(target: str) -> None:
    for attempt in (lambda: open_records(target, labels=LABELS), lambda: read_records(target)):
        with pytest.raises(WrongUsageError) as caught:
            attempt()
        message = str(caught.value)
        assert repr(target) in message
        assert "\n" not in message
        for possible in (".jsonl", ".csv", ".json", "voc:DIR", "yolo:DIR"):
            assert possible in message


@pytest.mark.parametrize("name", ["R.JSONL", "voc:r.jsonl", "a.b.Csv"])
def test_suffixes_may_be_large_and_names_may_hold_colons(name: str, tmp_path: Path) -> None:
    for target in (f"{tmp_path}/{name}", tmp_path / name):
        write(target, [record("a.jpg", TWO)])
        assert (tmp_path / name).is_file()
        assert read(target) == as_json([record("a.jpg", TWO)])


@pytest.mark.parametrize("name", ["voc", "yolo"])
def test_folders_are_made_with_those_above_them(name: str, tmp_path: Path) -> None:
    write(f"{name}:{tmp_path}/new/newer", [record("a.jpg", TWO)])
    assert read(f"{name}:{tmp_path}/new/newer") == as_json([record("a.jpg", TWO)])


@pytest.mark.parametrize("name", ["json", "yolo"])
def test_labels_that_contradict_the_list_are_refused_and_the_rest_goes_on(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    with open_records(target, labels=LABELS[:2]) as writer:
        with pytest.raises(RecordError, match="class 2, 'chaise, longue'"):
            writer.write(record("bad.jpg", TWO))
        with pytest.raises(RecordError, match="class 1, 'cat'"):
            writer.write(record("bad.jpg", [(1, 0.5, (0, 0, 1, 1))], labels=("person", "cat")))
        writer.write(record("good.jpg", TWO[:1]))
    assert read(target) == as_json([record("good.jpg", TWO[:1])])


@pytest.mark.parametrize("name", FORMATS)
def test_reading_what_is_not_there_names_it(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path / "gone")[name]
    with pytest.raises(RecordError, match=r"gone.*cannot be read: No such file"):
        list(read_records(target))


def test_importing_it_loads_neither_torch_nor_opencv() -> None:
    code = "import sys, ssdcam.records; print(sorted({'torch', 'cv2', 'av', 'ssdcam.ssd'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
