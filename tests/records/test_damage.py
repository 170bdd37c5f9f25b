"""Damaged files: one clear line with the file and the place, never another kind of error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdcam.errors import RecordError
from ssdcam.records import read_records

from .samples import FORMATS, TWO, record, targets, write

THREE = [record(f"{name}.jpg", TWO) for name in "abc"]


def edited(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> Path:
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    return path


def complaint(target: str | Path) -> str:
    with pytest.raises(RecordError) as caught:
        list(read_records(target))
    message = str(caught.value)
    assert "\n" not in message
    return message


def jsonl(folder: Path) -> Path:
    write(folder / "r.jsonl", THREE)
    return folder / "r.jsonl"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{]\n", "is no JSON or cut short"),
        (b"[1]\n", "not a JSON object"),
        (b'{"source": "\xff"}\n', "is no UTF-8 text"),
        (b'{"source": "a.jpg", "detections": []}\n', "width is missing"),
        (b'{"width": NaN}\n', "NaN is not a number"),
        (b'{"width": ' + b"9" * 5000 + b"}\n", "cannot be understood"),
        (b"[" * 100_000 + b"\n", "cannot be understood"),
    ],
)
def test_a_line_of_jsonl(tmp_path: Path, line: bytes, reason: str) -> None:
    path = edited(jsonl(tmp_path), lambda lines: [lines[0], b"\n", line, lines[2]])
    message = complaint(path)
    assert message.startswith(f"{path}: line 3: ")
    assert reason in message


def test_a_last_line_of_jsonl_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    path = jsonl(tmp_path)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert complaint(path).startswith(f"{path}: line 3: is no JSON or cut short")
    path.write_bytes(whole[:-1])  # only the line's end is missing
    assert len(list(read_records(path))) == 3


def csv_file(folder: Path) -> Path:
    write(folder / "r.csv", THREE)
    return folder / "r.csv"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a.jpg,,,640,480,person\r\n", "holds 6 values where the header has 12"),
        (b"a.jpg,,,640,480,person,0,high,1,2,3,4\r\n", "score is 'high', not a number"),
        (b"a.jpg,,,640,480,person,0,nan,1,2,3,4\r\n", "score is nan"),
        (b"a.jpg,,,640,,person,0,0.5,1,2,3,4\r\n", "height is None"),
        (b"a.jpg,,,640,480,person,0.5,0.5,1,2,3,4\r\n", "class_id is 0.5"),
        (b"a.jpg,,,640,480,person,0,0.5,3,2,1,4\r\n", "ends before it starts"),
        (b"\xff.jpg,,,640,480,person,0,0.5,1,2,3,4\r\n", "is no UTF-8 text"),
        (b'"a"b.jpg,,,640,480,person,0,0.5,1,2,3,4\r\n', "expected"),
    ],
)
def test_a_row_of_csv(tmp_path: Path, line: bytes, reason: str) -> None:
    path = edited(csv_file(tmp_path), lambda lines: [*lines[:3], line, *lines[3:]])
    message = complaint(path)
    assert message.startswith(f"{path}: line 4: ")
    assert reason in message


def test_a_csv_cut_inside_quotes_or_before_the_last_column(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"chaise")])
    assert complaint(path) == f"{path}: line 7: unexpected end of data"
    path.write_bytes(whole[: whole.rindex(b"640")])
    assert complaint(path).startswith(f"{path}: line 7: ")


@pytest.mark.parametrize("content", [b"", b"image,label\na.jpg,cat\n"])
def test_a_csv_without_its_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    assert "r.csv: line 1: the header lacks" in complaint(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"file_name": "b.jpg"', '"file_name" "b.jpg"', ": line 3: is no JSON or cut short"),
        ('"file_name": "b.jpg"', '"file_name": 2', r": images[1]: file_name is 2"),
        ('"id": 1, "name"', '"id": "one", "name"', ": categories[0]: id is 'one'"),
        ('"image_id": 2, "category_id": 3', '"image_id": 9, "category_id": 3', ": annotations[3]: image_id 9"),
        ('"bbox": [48.2,', '"bbox": [', ": annotations[0]: bbox"),
        ('"annotations"', '"anotations"', ": annotations is missing"),
        ('"categories": [', '"categories": {}, "x": [', ": categories is {}, not a list"),
    ],
)
def test_a_coco_file(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "r.json"
    write(path, THREE)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    assert f"{path}{reason}" in complaint(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("</size>", "", ": line 38: is no XML or cut short: mismatched tag"),
        ("<name>person", "<name>\1", "is no XML or cut short"),
        ("<width>640</width>", "", "size/width is missing"),
        ("<width>640</width>", "<width/>", "size/width is '', not a number"),
        ("<height>480", "<height>0", "height is 0"),
        ("<name>chaise, longue</name>", "", "object 2: name is missing"),
        ("<xmin>1.0<", "<xmin>wide<", "object 2: bndbox/xmin is 'wide', not a number"),
        ("<score>0.5<", "<score>inf<", "score is inf"),
        ("<xmax>195.0<", "<xmax>3<", "ends before it starts"),
        ("<annotation>", "<?xml version='1.0' encoding='klingon'?><annotation>", "unknown encoding"),
        ("<annotation>", "<?xml version='1.0' encoding='utf-32'?><annotation>", "r.xml: "),
    ],
)
def test_a_voc_file(tmp_path: Path, old: str, new: str, reason: str) -> None:
    write(f"voc:{tmp_path}", [record("r.jpg", TWO)])
    path = tmp_path / "r.xml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    message = complaint(f"voc:{tmp_path}")
    assert message.startswith(f"{path}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.txt", b"\n0 0.5 0.5 1 1 0.5 7\n", "line 2: holds 7 values"),
        ("b.txt", b"0 0.5 0.5 1 x 0.5\n", "line 1: holds something that is no number"),
        ("b.txt", b"0 0.5 0.5 1 nan 0.5\n", "line 1: box is [0.0, nan, 640.0, nan], not 4 numbers"),
        ("b.txt", b"0 0.5 0.5 -1 1 0.5\n", "line 1: the box (640.0, 0.0, 0.0, 480.0) ends before it starts"),
        ("b.txt", b"3 0.5 0.5 1 1 0.5\n", "line 1: class 3 is not one of the 3 labels"),
        ("b.txt", b"-1 0.5 0.5 1 1 0.5\n", "line 1: class -1 is not one"),
        ("b.txt", b"\n\n\xff", "line 3: is no UTF-8 text"),
        ("b.txt", None, "cannot be read: No such file"),
        ("classes.txt", None, "cannot be read: No such file"),
        ("classes.txt", b"one\n\xff\n", "line 2: is no UTF-8 text"),
        ("index.jsonl", None, "cannot be read: No such file"),
        ("index.jsonl", b'{"file": "a.txt"}\n', "line 1: source is missing"),
        (
            "index.jsonl",
            b'{"file": "../a.txt", "source": "a", "width": 1, "height": 1}\n',
            "line 1: file is '../a.txt'",
        ),
        ("index.jsonl", b'{"file": "a.txt", "sou', "line 1: is no JSON or cut short"),
        ("index.jsonl", b"7\n", "line 1: is 7, not a JSON object"),
    ],
)
def test_a_yolo_folder(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    write(f"yolo:{tmp_path}", THREE)
    path = tmp_path / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert complaint(f"yolo:{tmp_path}").startswith(f"{path}: {reason}")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_no_damage_makes_another_kind_of_error(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        target = targets(Path(folder))[name]
        write(target, [record("a.jpg", TWO, frame=1, time=2.5)])
        path = data.draw(st.sampled_from(sorted(p for p in Path(folder).rglob("*") if p.is_file())))
        content = path.read_bytes()
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 9)))
        path.write_bytes(content[:start] + data.draw(st.binary(max_size=4)) + content[end:])
        try:
            list(read_records(target))
        except RecordError as error:
            assert str(error).startswith(folder)  # noqa: PT017  # reading may also succeed
