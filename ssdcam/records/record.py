"""One picture or frame and what was found in it, and its form in JSON, which every format here is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from ssdcam import json_fields as fields
from ssdcam.detections import Detections
from ssdcam.errors import RecordError
from ssdcam.records.jsontext import dump


@dataclass(frozen=True, eq=False)
class Record:
    """What was found in one picture or frame.

    Attributes:
        source: path, URL or camera as people may see it: whoever makes the record takes passwords out of a URL.
        width: of the picture as shown, in pixels.
        height: of the picture as shown, in pixels.
        detections: what was found, in those pixels.
        frame: which frame of a video or camera, from 0; None for a picture.
        time: the frame's moment in seconds, from the stream's own clock; None for a picture.
    """

    source: str
    width: int
    height: int
    detections: Detections
    frame: int | None = None
    time: float | None = None


def to_json(record: Record) -> dict[str, Any]:
    """A record as JSON's own types, rounded: boxes to 2 decimals, scores to 4, the time to 6.

    Raises:
        RecordError: a box, a score or the time is not finite.
    """
    found = record.detections
    boxes, scores = found.boxes.astype(np.float64), found.scores.astype(np.float64)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and isfinite(record.time or 0.0)):
        raise RecordError(f"{record.source}: a box, a score or the time is not a finite number")
    moment: dict[str, Any] = {}
    if record.frame is not None:
        moment["frame"] = int(record.frame)
    if record.time is not None:
        moment["time"] = round(float(record.time), 6)
    rounded_scores = (np.round(scores, 4) + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0
    rounded_boxes = (np.round(boxes, 2) + 0.0).tolist()
    return {
        "source": record.source,
        **moment,
        "width": int(record.width),
        "height": int(record.height),
        "detections": [
            {"label": label, "class_id": class_id, "score": score, "box": box}
            for label, class_id, score, box in zip(
                found.labels, found.class_ids.tolist(), rounded_scores, rounded_boxes, strict=True
            )
        ],
    }


def to_line(record: Record) -> str:
    """A record as one line of JSON, without the line's end; UTF-8 can encode it whatever the source's name holds.

    Raises:
        RecordError: a box, a score or the time is not finite.
    """
    return dump(to_json(record))


def from_json(values: Any) -> Record:
    """The inverse of :func:`to_json`; keys that it does not know are passed over.

    Raises:
        ValueError: something is missing, of the wrong kind or out of range.
    """
    values = fields.mapping(values)
    found = []
    for i, item in enumerate(fields.items(values, "detections")):
        try:
            found.append(found_from_json(item))
        except ValueError as error:
            raise ValueError(f"detections[{i}]: {error}") from None
    return Record(
        source=fields.text(values, "source"),
        width=fields.whole(values, "width", 1),
        height=fields.whole(values, "height", 1),
        detections=detections_of(found),
        frame=None if values.get("frame") is None else fields.whole(values, "frame", 0),
        time=None if values.get("time") is None else fields.number(values, "time"),
    )


class Found(NamedTuple):
    """One detection; the box is x1, y1, x2, y2 in pixels."""

    label: str
    class_id: int
    score: float
    box: tuple[float, float, float, float]


def found_from_json(values: Any) -> Found:
    """One detection of a record. Score and box stand as they are: another tool's box may reach outside the picture.

    Raises:
        ValueError: something is missing, of the wrong kind, or the box's end lies before its start.
    """
    values = fields.mapping(values)
    box = fields.numbers(values, "box", 4)
    if box[2] < box[0] or box[3] < box[1]:
        raise ValueError(f"the box {box} ends before it starts")
    return Found(fields.text(values, "label"), fields.whole(values, "class_id", 0), fields.number(values, "score"), box)


def detections_of(found: Sequence[Found]) -> Detections:
    """What was found in one picture, put in order of falling score."""
    ordered = sorted(found, key=lambda one: -one.score)
    return Detections(
        np.array([one.box for one in ordered], np.float32).reshape(-1, 4),
        np.array([one.score for one in ordered], np.float32),
        np.array([one.class_id for one in ordered], np.int64),
        tuple(one.label for one in ordered),
    )
