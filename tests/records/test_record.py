"""The record and its JSON form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from ssdcam.detections import Detections
from ssdcam.errors import RecordError
from ssdcam.records import Record, from_json, to_json, to_line

from .samples import TWO, labelled_records, record


def test_a_picture_has_the_documented_form() -> None:
    assert to_line(record("a.jpg", TWO)) == (
        '{"source": "a.jpg", "width": 640, "height": 480, "detections": ['
        '{"label": "person", "class_id": 0, "score": 0.9131, "box": [48.2, 240.1, 195.0, 371.4]}, '
        '{"label": "chaise, longue", "class_id": 2, "score": 0.5, "box": [0.0, 0.0, 640.0, 480.0]}]}'
    )


def test_a_frame_has_its_number_and_time_behind_the_source() -> None:
    line = to_line(record("v.mp4", (), frame=0, time=1 / 3))
    assert line == '{"source": "v.mp4", "frame": 0, "time": 0.333333, "width": 640, "height": 480, "detections": []}'


def test_values_are_plain_python_even_where_numpy_made_them() -> None:
    found = record("a", TWO).detections
    values = to_json(Record("a", np.int32(640), np.int64(480), found, np.int64(3), np.float32(0.5)))  # type: ignore[arg-type]
    assert [type(values[key]) for key in ("frame", "time", "width", "height")] == [int, float, int, int]
    assert {type(v) for one in values["detections"] for v in (one["score"], *one["box"])} == {float}
    assert type(values["detections"][0]["class_id"]) is int


def test_no_zero_is_negative() -> None:
    values = to_json(record("a", [(0, -0.0, (-0.0, -0.001, 1, 1))]))
    assert "-" not in json.dumps(values)


def test_file_names_that_are_no_text_can_be_encoded_and_come_back() -> None:
    source = b"caf\xe9\xff.jpg".decode("utf-8", "surrogateescape")
    line = to_line(record(source))
    assert json.loads(line.encode())["source"] == source


def test_readable_scripts_stay_readable() -> None:
    assert '"рыба 魚 🐟"' in to_line(record("рыба 魚 🐟"))


@pytest.mark.parametrize("character", "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_no_character_breaks_the_line(character: str) -> None:
    assert len(to_line(record(f"a{character}b")).splitlines()) == 1


@given(labelled_records())
def test_a_line_is_one_line_of_strict_json(sample: tuple[list[str], list[Record]]) -> None:
    for one in sample[1]:
        line = to_line(one)
        assert len(line.encode().decode().splitlines()) == 1
        assert json.loads(line, parse_constant=pytest.fail) == to_json(one)


@given(labelled_records())
def test_from_json_undoes_to_json(sample: tuple[list[str], list[Record]]) -> None:
    for one in sample[1]:
        back = from_json(to_json(one))
        assert to_json(back) == to_json(one)
        found = back.detections
        assert [a.dtype.name for a in (found.boxes, found.scores, found.class_ids)] == ["float32", "float32", "int64"]
        assert np.allclose(found.boxes, one.detections.boxes, atol=0.0051)
        assert np.allclose(found.scores, one.detections.scores, atol=0.000051)


def test_detections_come_sorted_by_falling_score_and_ties_keep_their_order() -> None:
    values = to_json(record("a", TWO))
    values["detections"] = [dict(values["detections"][0], score=s, class_id=i) for i, s in enumerate((0.1, 0.7, 0.1))]
    assert from_json(values).detections.class_ids.tolist() == [1, 0, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    found = record("a", TWO).detections
    boxes, scores = found.boxes.copy(), found.scores.copy()
    boxes[1, 2], scores[0] = bad, bad
    for broken in (
        Record("photo.jpg", 640, 480, Detections(boxes, found.scores, found.class_ids, found.labels)),
        Record("photo.jpg", 640, 480, Detections(found.boxes, scores, found.class_ids, found.labels)),
        Record("photo.jpg", 640, 480, found, 0, bad),
    ):
        with pytest.raises(RecordError, match=r"photo\.jpg.*finite"):
            to_json(broken)


def change(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A good record's JSON with one value replaced, or taken out where the value is Ellipsis."""
    values = json.loads(to_line(record("a", TWO, frame=1, time=0.5)))
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return dict(values)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("source",), ..., "source is missing"),
        (("source",), 3, "source is 3, not a text"),
        (("width",), ..., "width is missing"),
        (("width",), 0, "width is 0"),
        (("height",), 1.5, "height is 1.5"),
        (("height",), True, "height is True"),
        (("height",), float("inf"), "height is inf"),
        (("height",), 10**400, "height is 1000"),
        (("frame",), -1, "frame is -1"),
        (("time",), "now", "time is 'now', not a number"),
        (("detections",), ..., "detections is missing"),
        (("detections",), {}, "detections is {}, not a list"),
        (("detections", 1), None, r"detections\[1\]: is None, not a JSON object"),
        (("detections", 1, "label"), None, r"detections\[1\]: label is None"),
        (("detections", 0, "class_id"), -1, r"detections\[0\]: class_id is -1"),
        (("detections", 0, "class_id"), 2**70, "class_id"),
        (("detections", 0, "score"), float("nan"), "score is nan"),
        (("detections", 0, "score"), 1e39, "score is 1e"),
        (("detections", 0, "box"), [1, 2, 3], r"box is \[1, 2, 3\], not 4 numbers"),
        (("detections", 0, "box"), [1, 2, 3, "4"], "box"),
        (("detections", 0, "box", 2), 10**400, "box"),
        (("detections", 0, "box"), [5, 2, 3, 4], "ends before it starts"),
        (("detections", 0, "box"), [1, 5, 3, 4], "ends before it starts"),
    ],
)
def test_what_is_wrong_is_said(path: tuple[str | int, ...], value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        from_json(change(path, value))
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_no_record(value: Any) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        from_json(value)


def test_a_newer_record_with_more_keys_can_be_read() -> None:
    values = change(("mask",), [1, 2])
    values["frame"] = values["time"] = None
    back = from_json(values)
    assert (back.frame, back.time, len(back.detections)) == (None, None, 2)
