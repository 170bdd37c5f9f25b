r"""VOC: a folder with an XML file a picture or frame, in the manner of PASCAL VOC's annotations.

As in VOC, pixels count from 1 and both ends of a box are pixels inside it: a box from x1 to x2 is written as ``xmin``
x1 + 1 and ``xmax`` x2. Beside VOC's own elements stand ``path`` (the whole source), ``score`` and ``class_id``, and for
frames ``frame`` and ``time``. Characters that XML cannot hold are written as ``\uXXXX``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from ssdcam.errors import RecordError
from ssdcam.files import write_whole
from ssdcam.records.disk import reading, writing
from ssdcam.records.escapes import escape, unescape
from ssdcam.records.names import FileNames, files_in, last_part
from ssdcam.records.record import Record, from_json, to_json
from ssdcam.records.writer import RecordWriter

_SUFFIX = ".xml"
# A carriage return may stand in XML, but every parser makes a line feed of it.
_UNFIT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class VocWriter(RecordWriter):
    """Writes each record's file whole. Files that were in the folder remain, unless one has the same name.

    Names are those of :class:`~ssdcam.records.names.FileNames`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = FileNames()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, record: Record) -> None:
        """Write the record's file."""
        path = self._folder / f"{self._names.name(record)}{_SUFFIX}"
        data = _to_xml(to_json(record))
        with writing(path):
            write_whole(path, data)

    def close(self) -> None:
        """Nothing is left to do."""


def read_voc(folder: Path) -> Iterator[Record]:
    """Records in the order of the file names, numbers in them counted as people do.

    Of other tools' files: an object without a score gets 1; one without a class id the next for its name, from 0 in the
    order of appearance; a picture without a path its file name.

    Raises:
        RecordError: a file, which it names, cannot be read or makes no sense.
    """
    class_ids: dict[str, int] = {}
    for path in files_in(folder, _SUFFIX):
        with reading(path):
            data = path.read_bytes()
        try:
            record = from_json(_from_xml(data, class_ids))
        except ElementTree.ParseError as error:
            reason = expat.ErrorString(error.code)
            raise RecordError(f"{path}: line {error.position[0]}: is no XML or cut short: {reason}") from None
        except (ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
            raise RecordError(f"{path}: {error}") from None
        yield record


def _to_xml(values: Mapping[str, Any]) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, "filename", last_part(values["source"]))
    _add(root, "path", values["source"])
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", values["width"]), ("height", values["height"]), ("depth", 3)):
        _add(size, key, value)
    for key in ("frame", "time"):
        if key in values:
            _add(root, key, values[key])
    _add(root, "segmented", 0)
    for found in values["detections"]:
        thing = ElementTree.SubElement(root, "object")
        _add(thing, "name", found["label"])
        for key, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _add(thing, key, value)
        x1, y1, x2, y2 = found["box"]
        corners = ElementTree.SubElement(thing, "bndbox")
        for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(corners, key, round(value, 2))
        _add(thing, "score", found["score"])
        _add(thing, "class_id", found["class_id"])
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, "utf-8")
    return data + b"\n"


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = escape(str(value), _UNFIT)


def _from_xml(data: bytes, class_ids: dict[str, int]) -> dict[str, Any]:
    # expat fetches nothing from outside the file and stops entities that grow without end
    root = ElementTree.fromstring(data)  # noqa: S314  # our own format, no entities fetched
    source = _text(root, "path") if root.find("path") is not None else _text(root, "filename")
    return {
        "source": source,
        "width": _number(root, "size/width"),
        "height": _number(root, "size/height"),
        **{key: _number(root, key) for key in ("frame", "time") if root.find(key) is not None},
        "detections": [_object(thing, i, class_ids) for i, thing in enumerate(root.iterfind("object"), 1)],
    }


def _object(thing: ElementTree.Element, place: int, class_ids: dict[str, int]) -> dict[str, Any]:
    try:
        label = _text(thing, "name")
        # Some tools count from 0. Unrounded, 1.62 - 1 lies behind 0.62, and an empty box would end before its start.
        x1, y1 = (max(0.0, round(_number(thing, f"bndbox/{key}") - 1, 6)) for key in ("xmin", "ymin"))
        x2, y2 = (_number(thing, f"bndbox/{key}") for key in ("xmax", "ymax"))
        score = _number(thing, "score") if thing.find("score") is not None else 1.0
        if thing.find("class_id") is not None:
            class_id = _number(thing, "class_id")
        else:
            class_id = class_ids.setdefault(label, len(class_ids))
    except ValueError as error:
        raise ValueError(f"object {place}: {error}") from None
    return {"label": label, "class_id": class_id, "score": score, "box": [x1, y1, x2, y2]}


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.find(path)
    if found is None:
        raise ValueError(f"{path} is missing")
    return unescape(found.text or "", _UNFIT)


def _number(element: ElementTree.Element, path: str) -> float:
    text = _text(element, path)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path} is {text!r}, not a number") from None
