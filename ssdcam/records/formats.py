"""Which format a target means: told by its suffix, or by what stands before the folder's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, reader_of
from ssdcam.records.coco import CocoWriter, read_coco
from ssdcam.records.csvtable import CsvWriter, read_csv
from ssdcam.records.disk import check_file, check_place, make_folder, writing
from ssdcam.records.jsonl import JsonlWriter, read_jsonl
from ssdcam.records.record import Record
from ssdcam.records.voc import VocWriter, read_voc
from ssdcam.records.writer import LazyWriter, RecordWriter
from ssdcam.records.yolo import YoloWriter, read_yolo


@dataclass(frozen=True)
class _Format:
    check: Callable[[Path], None]
    open: Callable[[Path, Sequence[str]], RecordWriter]
    read: Callable[[Path], Iterator[Record]]


_FILES = {
    ".jsonl": _Format(check_file, lambda path, labels: JsonlWriter(path), read_jsonl),
    ".csv": _Format(check_file, lambda path, labels: CsvWriter(path), read_csv),
    ".json": _Format(check_place, CocoWriter, read_coco),
}
_FOLDERS = {
    "voc": _Format(make_folder, lambda path, labels: VocWriter(path), read_voc),
    "yolo": _Format(make_folder, YoloWriter, read_yolo),
}


def records_place(target: str | Path) -> tuple[Path, bool]:
    """Where a target's records go: a path, and whether it is a folder.

    Raises:
        WrongUsageError: the target is no place for records.
    """
    form, path = _resolved(target)
    return path, form in _FOLDERS.values()


def open_records(target: str | Path, *, labels: Sequence[str]) -> RecordWriter:
    """Start writing records.

    Args:
        target: a file ending in ``.jsonl``, ``.csv`` or ``.json`` (COCO), or ``voc:DIR`` or ``yolo:DIR``. A file that
            exists is replaced, from the first record on (``.json``: when the writer is closed); a folder is made if
            need be.
        labels: the detector's, by class id. The COCO and YOLO formats keep them in one list.

    Raises:
        WrongUsageError: the target is none of these.
        RecordError: it cannot be written, or is a pipe that nobody reads.
    """
    form, path = _resolved(target)
    if exists(path) and not path.is_file() and not path.is_dir():  # such as /dev/null: nothing in it could be lost
        with writing(path), reader_of(path):
            return form.open(path, labels)
    form.check(path)
    return LazyWriter(lambda: form.open(path, labels))


def read_records(target: str | Path) -> Iterator[Record]:
    """Read records back, from targets as :func:`open_records` takes them; one at a time, but for ``.json``.

    Raises:
        WrongUsageError: the target is none of these.
        RecordError: (from the iterator) a file cannot be read, or is damaged at the line that is named.
    """
    form, path = _resolved(target)
    return form.read(path)


def _resolved(target: str | Path) -> tuple[_Format, Path]:
    prefix, _, folder = str(target).partition(":")
    if folder and prefix in _FOLDERS:
        return _FOLDERS[prefix], Path(folder)
    form = _FILES.get(Path(target).suffix.lower())
    if form is None:
        possible = ", ".join([*(f"NAME{suffix}" for suffix in _FILES), *(f"{prefix}:DIR" for prefix in _FOLDERS)])
        raise WrongUsageError(f"{str(target)!r} is no place for records: possible are {possible}")
    return form, Path(target)
