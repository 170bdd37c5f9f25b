r"""CSV: a row a detection, under a header, as RFC 4180 has it (UTF-8, CRLF, quotes where needed).

``frame`` and ``time`` are empty for pictures. A record in which nothing was found has no row. The bytes of a file name
that is no UTF-8 stand as ``\udcXX``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ssdcam.errors import RecordError
from ssdcam.records.disk import append_whole, open_to_append, reading, writing
from ssdcam.records.escapes import escape, unescape
from ssdcam.records.record import Found, Record, detections_of, found_from_json, from_json, to_json
from ssdcam.records.writer import RecordWriter

_PICTURE = ("source", "frame", "time", "width", "height")
_DETECTION = ("label", "class_id", "score")
_BOX = ("x1", "y1", "x2", "y2")
COLUMNS = (*_PICTURE, *_DETECTION, *_BOX)

_TEXTS = ("source", "label")
_UNFIT = re.compile("[\ud800-\udfff]")


class CsvWriter(RecordWriter):
    """Writes the rows of a record in one write of the operating system: a killed process leaves whole records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_to_append(path)
        try:
            self._append([COLUMNS])
        except BaseException:
            self._file.close()
            raise

    def write(self, record: Record) -> None:
        """Append the record's rows."""
        values = to_json(record)
        picture = [values.get(key) for key in _PICTURE]
        self._append([[*picture, *(found[key] for key in _DETECTION), *found["box"]] for found in values["detections"]])

    def close(self) -> None:
        """Close the file."""
        with writing(self._path):
            self._file.close()

    def _append(self, rows: Sequence[Sequence[Any]]) -> None:
        text = StringIO(newline="")
        csv.writer(text).writerows(
            [escape(cell, _UNFIT) if isinstance(cell, str) else cell for cell in r] for r in rows
        )
        with writing(self._path):
            append_whole(self._file, text.getvalue().encode())


def read_csv(path: Path) -> Iterator[Record]:
    """Records in the order of their rows, one at a time; neighbouring rows of one picture make one record.

    The columns may stand in any order, with others between them.

    Raises:
        RecordError: the file cannot be read, or a row, whose line it names, is cut short or makes no sense. A number
            cut short at the very end of a file is still a number, and goes unseen.
    """
    for picture, rows in groupby(_rows(path), key=itemgetter(1)):
        numbers, _, found = zip(*rows, strict=True)
        try:
            record = from_json({**dict(zip(_PICTURE, picture, strict=True)), "detections": []})
        except ValueError as error:
            raise RecordError(f"{path}: line {numbers[0]}: {error}") from None
        yield replace(record, detections=detections_of(found))


def _rows(path: Path) -> Iterator[tuple[int, tuple[Any, ...], Found]]:
    """Line number, picture and detection of each row."""
    # Decoding runs ahead of the rows; marked bytes show in the row that has them, whose line is then known.
    with reading(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, [])
            if missing := [column for column in COLUMNS if column not in header]:
                raise ValueError(f"the header lacks {', '.join(missing)}")
            for row in rows:
                if row:  # blank lines are passed over
                    values = _values(header, row)
                    box = [values[key] for key in _BOX]
                    yield rows.line_num, itemgetter(*_PICTURE)(values), found_from_json({**values, "box": box})
        except (csv.Error, ValueError) as error:
            raise RecordError(f"{path}: line {max(rows.line_num, 1)}: {error}") from None


def _values(header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise ValueError(f"holds {len(row)} values where the header has {len(header)}")
    if any(_UNFIT.search(cell) for cell in row):
        raise ValueError("is no UTF-8 text")
    cells = dict(zip(header, row, strict=True))
    return {column: _value(column, cells[column]) for column in COLUMNS}


def _value(column: str, cell: str) -> Any:
    if column in _TEXTS:
        return unescape(cell, _UNFIT)
    try:
        return float(cell) if cell else None  # whole numbers too: a spreadsheet may have made 7.0 of 7
    except ValueError:
        raise ValueError(f"{column} is {cell!r}, not a number") from None
