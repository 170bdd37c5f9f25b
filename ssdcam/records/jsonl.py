"""JSON lines: a record a line, each on the disk as soon as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ssdcam.errors import RecordError
from ssdcam.records.disk import append_whole, open_to_append, writing
from ssdcam.records.jsontext import read_lines
from ssdcam.records.record import Record, from_json, to_line
from ssdcam.records.writer import RecordWriter


class JsonlWriter(RecordWriter):
    """Writes a line a record, in one write of the operating system: a process that is killed leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_to_append(path)

    def write(self, record: Record) -> None:
        """Append the record's line."""
        line = to_line(record)
        with writing(self._path):
            append_whole(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Close the file."""
        with writing(self._path):
            self._file.close()


def read_jsonl(path: Path) -> Iterator[Record]:
    """Records in the order of their lines, one at a time; blank lines are passed over.

    Raises:
        RecordError: the file cannot be read, or a line, which it names, is cut short or no record.
    """
    for number, values in read_lines(path):
        try:
            record = from_json(values)
        except ValueError as error:
            raise RecordError(f"{path}: line {number}: {error}") from None
        yield record
