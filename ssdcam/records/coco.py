"""COCO: one JSON object of ``images``, ``categories`` and ``annotations``.

The annotations have the form of COCO's results (``image_id``, ``category_id``, ``bbox`` as x, y, width, height, and
``score``) with ``id``, ``area`` and ``iscrowd`` beside it, so that COCO's tools take the object as a data set and the
list of annotations as results. The category of class c is c + 1. An image's ``file_name`` is the record's source;
frames have ``frame`` and ``time`` as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import FileIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

from ssdcam import json_fields as fields
from ssdcam.errors import RecordError
from ssdcam.files import write_whole
from ssdcam.records.disk import append_whole, check_place, reading, writing
from ssdcam.records.jsontext import dump, parse
from ssdcam.records.record import Found, Record, detections_of, found_from_json, from_json, to_line
from ssdcam.records.writer import RecordWriter, check_labels

T = TypeVar("T")


class CocoWriter(RecordWriter):
    """Writes the whole file when it is closed; until then ``path`` holds what it held before.

    Records wait in a nameless file of the same folder, not in memory, and a killed process leaves nothing of it behind.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        check_place(path)
        self._path = path
        self._labels = tuple(labels)
        with writing(path):
            self._waiting: FileIO = TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115  # until close

    def write(self, record: Record) -> None:
        """Put the record with those that wait."""
        check_labels(record, self._labels, self._path)
        line = to_line(record)
        with writing(self._path):
            append_whole(self._waiting, f"{line}\n".encode())

    def close(self) -> None:
        """Write the file and put it into place."""
        if self._waiting.closed:
            return
        with writing(self._path), self._waiting:
            try:
                self._write_all()
            except KeyboardInterrupt:  # takes effect once the file is whole
                self._write_all()
                raise

    def _write_all(self) -> None:
        write_whole(self._path, (text.encode() for text in _coco_text(self._waiting, self._labels)))


def read_coco(path: Path) -> Iterator[Record]:
    """A record for each image, in the order of ``images``; an annotation without a score gets 1.

    Classes are counted from 0 in the order of the category ids.

    Raises:
        RecordError: the file cannot be read or makes no sense.
    """
    whole = _read_object(path)
    yield from _records(path, whole, path, _entries(path, whole, "annotations", lambda annotation: annotation))


def read_coco_results(results_path: Path, ground_truth_path: Path) -> Iterator[Record]:
    """Records from a plain list of results, with the images and categories of the data set they belong to.

    Args:
        results_path: ``[{"image_id": .., "category_id": .., "bbox": [x, y, width, height], "score": ..}, ...]``
        ground_truth_path: a COCO file with ``images`` and ``categories``; its annotations are not looked at.

    Raises:
        RecordError: a file cannot be read or makes no sense, or a result belongs to no image or category.
    """
    results = _read(results_path)
    if not isinstance(results, list):
        raise RecordError(f"{results_path}: is no list of COCO results")
    yield from _records(ground_truth_path, _read_object(ground_truth_path), results_path, results)


def _coco_text(waiting: FileIO, labels: Sequence[str]) -> Iterator[str]:
    """The file piece by piece: the waiting records are gone through twice, so that no more than one is in memory."""
    yield '{"images": [\n'
    yield from _separated(_image(i, values) for i, values in enumerate(_waiting_values(waiting), 1))
    yield '\n],\n"categories": [\n'
    yield from _separated({"id": i, "name": label} for i, label in enumerate(labels, 1))
    yield '\n],\n"annotations": [\n'
    ids = count(1)
    yield from _separated(
        _annotation(next(ids), i, found)
        for i, values in enumerate(_waiting_values(waiting), 1)
        for found in values["detections"]
    )
    yield "\n]}\n"


def _waiting_values(waiting: FileIO) -> Iterator[dict[str, Any]]:
    waiting.seek(0)
    with open(waiting.fileno(), "rb", closefd=False) as lines:  # buffered, unlike itself
        for line in lines:
            yield json.loads(line)


def _separated(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    separator = ""
    for item in items:
        yield separator + dump(item)
        separator = ",\n"


def _image(image_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
    size = {"width": values["width"], "height": values["height"]}
    moment = {key: values[key] for key in ("frame", "time") if key in values}
    return {"id": image_id, "file_name": values["source"], **size, **moment}


def _annotation(annotation_id: int, image_id: int, found: Mapping[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = found["box"]
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": found["class_id"] + 1,
        "bbox": [x1, y1, width, height],
        "score": found["score"],
        "area": round(width * height, 2),
        "iscrowd": 0,
    }


def _read(path: Path) -> Any:
    with reading(path):
        data = path.read_bytes()
    return parse(data, path)


def _read_object(path: Path) -> Mapping[str, Any]:
    whole = _read(path)
    if not isinstance(whole, dict):
        raise RecordError(f"{path}: is no COCO file: no object of images and categories")
    return whole


def _records(path: Path, whole: Mapping[str, Any], found_path: Path, annotations: Sequence[Any]) -> Iterator[Record]:
    """Bring together the images and categories of one file and the annotations of the same or another."""
    images = _entries(path, whole, "images", lambda image: (fields.identity(image, "id"), _picture(image)))
    categories = _entries(path, whole, "categories", lambda c: (fields.whole(c, "id", 0), fields.text(c, "name")))
    classes = {number: (class_id, label) for class_id, (number, label) in enumerate(sorted(categories))}
    found: dict[int | str, list[Found]] = {number: [] for number, _ in images}

    def add(annotation: Mapping[str, Any]) -> None:
        image_id, category_id = fields.identity(annotation, "image_id"), fields.whole(annotation, "category_id", 0)
        if image_id not in found:
            raise ValueError(f"image_id {image_id!r} is not among the images")
        if category_id not in classes:
            raise ValueError(f"category_id {category_id} is not among the categories")
        class_id, label = classes[category_id]
        x, y, width, height = fields.numbers(annotation, "bbox", 4)
        score = fields.number(annotation, "score") if "score" in annotation else 1.0
        box = [x, y, x + width, y + height]
        found[image_id].append(found_from_json({"label": label, "class_id": class_id, "score": score, "box": box}))

    _converted(found_path, "annotations", annotations, add)
    for number, picture in images:
        yield replace(picture, detections=detections_of(found[number]))


def _picture(image: Mapping[str, Any]) -> Record:
    return from_json({**image, "source": fields.text(image, "file_name"), "detections": []})


def _entries(path: Path, whole: Mapping[str, Any], key: str, convert: Callable[[Mapping[str, Any]], T]) -> list[T]:
    try:
        entries = fields.items(whole, key)
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None
    return _converted(path, key, entries, convert)


def _converted(path: Path, name: str, items: Sequence[Any], convert: Callable[[Mapping[str, Any]], T]) -> list[T]:
    converted = []
    for i, item in enumerate(items):
        try:
            converted.append(convert(fields.mapping(item)))
        except ValueError as error:
            raise RecordError(f"{path}: {name}[{i}]: {error}") from None
    return converted
