"""Records to test with: a few by hand, and strategies for any number of odd ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ssdcam.detections import Detections
from ssdcam.records import Record, open_records, read_records, to_json

LABELS = ("person", "dining table", "chaise, longue")

# Every Unicode character, and the half surrogates by which Python names the bytes of an undecodable file name.
any_text = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\0\1\t\n\r\x1b\x7f\x85\u2028\ufeff\ufffe\uffff,;\"'<>&]/\\:* "),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
    ),
    max_size=12,
) | st.sampled_from(["\\u0001", "\\u005c", "\\u005cu0001", "\\\\udcff", "C:\\u0041\\b.jpg", "]]>", '"', "=1+1", "-"])


@st.composite
def detections(draw: st.DrawFn, labels: Sequence[str], width: int, height: int, least: int = 0) -> Detections:
    """Boxes inside the picture, by falling score, some of them tiny or as large as the picture."""
    n = draw(st.integers(least, 4))
    part = st.floats(0, 1, width=32)
    corners = draw(st.lists(st.tuples(part, part, part, part), min_size=n, max_size=n))
    size = (width, height, width, height)
    boxes = np.array([[a * s for a, s in zip(c, size, strict=True)] for c in corners], np.float32).reshape(-1, 4)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    scores = np.sort(np.array(draw(st.lists(part, min_size=n, max_size=n)), np.float32))[::-1]
    class_ids = np.array(draw(st.lists(st.integers(0, len(labels) - 1), min_size=n, max_size=n)), np.int64)
    return Detections(boxes, scores, class_ids, tuple(labels[i] for i in class_ids.tolist()))


@st.composite
def labelled_records(draw: st.DrawFn, least: int = 0) -> tuple[list[str], list[Record]]:
    """Labels, and records of pictures and videos with at least so many detections each; no two of the same moment."""
    labels = draw(st.lists(any_text, min_size=1, max_size=4))
    records = []
    for source in draw(st.lists(any_text, max_size=3, unique=True)):
        frames = draw(st.just([None]) | st.lists(st.integers(0, 2_000_000), min_size=1, max_size=2, unique=True))
        for frame in frames:
            width, height = draw(st.integers(1, 20_000)), draw(st.integers(1, 20_000))
            time = None if frame is None else draw(st.floats(-1, 1e6))
            found = draw(detections(labels, width, height, least))
            records.append(Record(source, width, height, found, frame, time))
    return labels, records


def record(
    source: str = "a.jpg",
    found: Iterable[tuple[int, float, tuple[float, float, float, float]]] = (),
    frame: int | None = None,
    time: float | None = None,
    labels: Sequence[str] = LABELS,
) -> Record:
    """A record of a picture of 640 x 480, from class ids, scores and boxes."""
    rows = list(found)
    boxes = np.array([box for _, _, box in rows], np.float32).reshape(-1, 4)
    ids = np.array([i for i, _, _ in rows], np.int64)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return Record(source, 640, 480, Detections(boxes, scores, ids, tuple(labels[i] for i, _, _ in rows)), frame, time)


TWO = ((0, 0.91314, (48.2, 240.1, 195.0, 371.4)), (2, 0.5, (0.0, 0.0, 640.0, 480.0)))


def write(target: str | Path, records: Iterable[Record], labels: Sequence[str] = LABELS) -> None:
    with open_records(target, labels=labels) as writer:
        for one in records:
            writer.write(one)


def read(target: str | Path) -> list[dict[str, Any]]:
    return [to_json(one) for one in read_records(target)]


def as_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    return [to_json(one) for one in records]


def targets(folder: Path) -> dict[str, str]:
    """A target of each format."""
    return {
        "jsonl": f"{folder}/r.jsonl",
        "csv": f"{folder}/r.csv",
        "json": f"{folder}/r.json",
        "voc": f"voc:{folder}/voc",
        "yolo": f"yolo:{folder}/yolo",
    }


FORMATS = tuple(targets(Path()))
