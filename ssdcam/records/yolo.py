r"""YOLO: a folder with a text file a picture or frame, a detection a line.

A line holds ``class cx cy w h score``: the class counted from 0, the box's centre and size as parts of the picture's, 8
decimals each. ``classes.txt`` has the label of each class on a line of its own (characters that would break the line
stand as ``\uXXXX``). None of these tells how large a picture is, which one it was, or in which order they came, so
``index.jsonl`` has a line a file: ``{"file": .., "source": .., "frame": .., "time": .., "width": .., "height": ..}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssdcam import json_fields as fields
from ssdcam.detections import Detections
from ssdcam.errors import RecordError
from ssdcam.files import write_whole
from ssdcam.records.disk import append_whole, open_to_append, reading, writing
from ssdcam.records.escapes import escape, unescape
from ssdcam.records.jsontext import dump, read_lines
from ssdcam.records.names import FileNames, files_in
from ssdcam.records.record import Found, Record, detections_of, found_from_json, from_json, to_json
from ssdcam.records.writer import RecordWriter, check_labels

LABELS_FILE = "classes.txt"
INDEX_FILE = "index.jsonl"
_SUFFIX = ".txt"
_ROUNDED = 1e-6  # of the picture's size: what an edge may be off, as many tools write six decimals
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


class YoloWriter(RecordWriter):
    """Writes each record's file whole, and its line in the index after it.

    Files that were in the folder remain, unless one has the same name; those of an earlier run leave the index. Names
    are those of :class:`~ssdcam.records.names.FileNames`.
    """

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self._folder = folder
        self._labels = tuple(labels)
        self._names = FileNames(reserved=(Path(LABELS_FILE).stem,))
        self._index_path = folder / INDEX_FILE
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._index = open_to_append(self._index_path)
        try:
            self._write(LABELS_FILE, "".join(f"{escape(label, _UNFIT)}\n" for label in labels))
        except BaseException:
            self._index.close()
            raise

    def write(self, record: Record) -> None:
        """Write the record's file and add it to the index."""
        check_labels(record, self._labels, self._folder)
        values = to_json(record)
        name = f"{self._names.name(record)}{_SUFFIX}"
        self._write(name, "".join(_line(found, record.width, record.height) for found in values.pop("detections")))
        with writing(self._index_path):
            append_whole(self._index, f"{dump({'file': name, **values})}\n".encode())

    def close(self) -> None:
        """Close the index."""
        with writing(self._index_path):
            self._index.close()

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        with writing(path):
            write_whole(path, text.encode())


def read_yolo(
    folder: Path,
    *,
    sizes: Callable[[str], tuple[int, int]] | None = None,
    labels: Sequence[str] | None = None,
) -> Iterator[Record]:
    """Records in the order of the index; a line without a score gets 1.

    Args:
        folder: holds the text files.
        sizes: gives width and height in pixels of the picture that belongs to a text file, by the file's name without
            its suffix. For folders of other tools, that have no index; the source is that name, and the order that of
            the names.
        labels: by class id, for folders that have no list of them.

    Raises:
        RecordError: a file cannot be read, or a line, which it names, is cut short or makes no sense.
    """
    names = read_labels(folder) if labels is None else labels
    for path, picture in _listed(folder) if sizes is None else _measured(folder, sizes):
        yield replace(picture, detections=_read_detections(path, picture, names))


def _listed(folder: Path) -> Iterator[tuple[Path, Record]]:
    index = folder / INDEX_FILE
    for number, values in read_lines(index):
        try:
            values = fields.mapping(values)
            name = fields.text(values, "file")
            if Path(name).name != name:
                raise ValueError(f"file is {name!r}, not a file of this folder")
            picture = from_json({**values, "detections": []})
        except ValueError as error:
            raise RecordError(f"{index}: line {number}: {error}") from None
        yield folder / name, picture


def _measured(folder: Path, sizes: Callable[[str], tuple[int, int]]) -> Iterator[tuple[Path, Record]]:
    for path in files_in(folder, _SUFFIX):
        if path.name != LABELS_FILE:
            width, height = sizes(path.stem)
            yield path, from_json({"source": path.stem, "width": width, "height": height, "detections": []})


def read_labels(folder: Path) -> tuple[str, ...]:
    """The labels that the writer of a folder knew, by class id.

    Raises:
        RecordError: the list of them cannot be read.
    """
    text = _read_text(folder / LABELS_FILE)
    lines = text.split("\n")  # not splitlines, which knows more ends of a line than files do
    return tuple(unescape(line.removesuffix("\r"), _UNFIT) for line in (lines if lines[-1] else lines[:-1]))


def _read_detections(path: Path, picture: Record, names: Sequence[str]) -> Detections:
    found = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if line.strip():
            try:
                found.append(_found(line, picture.width, picture.height, names))
            except ValueError as error:
                raise RecordError(f"{path}: line {number}: {error}") from None
    return detections_of(found)


def _read_text(path: Path) -> str:
    with reading(path):
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: line {1 + data.count(10, 0, error.start)}: is no UTF-8 text") from None


def _line(found: Mapping[str, Any], width: int, height: int) -> str:
    x1, y1, x2, y2 = found["box"]
    parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([str(found["class_id"]), *(f"{part:.8f}" for part in parts), f"{found['score']:.4f}\n"])


def _back_inside(edge: float) -> float:
    """An edge, as a part of the picture's size, that lies outside by no more than rounding moves it; others stay."""
    return min(max(edge, 0.0), 1.0) if -_ROUNDED <= edge <= 1 + _ROUNDED else edge


def _found(line: str, width: int, height: int, names: Sequence[str]) -> Found:
    words = line.split()
    if len(words) not in (5, 6):
        raise ValueError(f"holds {len(words)} values, not class, cx, cy, w, h and perhaps a score")
    try:
        class_id, (cx, cy, w, h, *score) = int(words[0]), map(float, words[1:])
    except ValueError:
        raise ValueError("holds something that is no number") from None
    if not 0 <= class_id < len(names):
        raise ValueError(f"class {class_id} is not one of the {len(names)} labels")
    edges = [(cx - w / 2, width), (cy - h / 2, height), (cx + w / 2, width), (cy + h / 2, height)]
    box = [_back_inside(edge) * size for edge, size in edges]
    return found_from_json(
        {"label": names[class_id], "class_id": class_id, "score": score[0] if score else 1.0, "box": box}
    )
