"""What every writer of records can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ssdcam.errors import RecordError
from ssdcam.records.record import Record


class RecordWriter(ABC):
    """Takes records one by one; as a context manager it closes itself whatever happened inside.

    Trouble with the disk is a ``RecordError`` from any of its methods, including the one that makes it.
    """

    @abstractmethod
    def write(self, record: Record) -> None:
        """Add a record.

        Raises:
            RecordError: it cannot be written, or holds what the format cannot say; what was written before remains.
        """

    @abstractmethod
    def close(self) -> None:
        """Bring everything written so far to the disk; closing twice does nothing.

        Raises:
            RecordError: it cannot be written.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LazyWriter(RecordWriter):
    """Begins with the first record, so that what is to be replaced stays as it is while there is nothing instead of it.

    A run that comes to its proper end without a record makes an empty file, too; one that fails does not.

    Args:
        begin: makes the writer that does the work.
    """

    def __init__(self, begin: Callable[[], RecordWriter]) -> None:
        self._begin = begin
        self._writer: RecordWriter | None = None

    def write(self, record: Record) -> None:
        """Hand the record on."""
        self._begun().write(record)

    def close(self) -> None:
        """Close the writer that does the work."""
        self._begun().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._writer is not None:
            self.close()

    def _begun(self) -> RecordWriter:
        if self._writer is None:
            self._writer = self._begin()
        return self._writer


def check_labels(record: Record, labels: Sequence[str], path: Path) -> None:
    """See that each detection bears the label of its class, for formats that keep labels in one list.

    Raises:
        RecordError: one does not.
    """
    found = record.detections
    for label, class_id in zip(found.labels, found.class_ids.tolist(), strict=True):
        if not 0 <= class_id < len(labels) or labels[class_id] != label:
            raise RecordError(
                f"{path}: class {class_id}, {label!r}, is not one of the {len(labels)} labels of this file"
            )
