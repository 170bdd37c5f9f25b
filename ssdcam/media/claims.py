"""Outputs that are being written, marked by a hidden file beside each that its run holds a lock on.

Where the mark stands and nobody holds it, a run was cut off.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ssdcam.errors import VideoError
from ssdcam.files import exists, lock, release, take


def marker_of(target: Path) -> Path:
    """The mark of an output. Its name is a digest, because the output's own may be as long as names can be."""
    digest = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return target.with_name(f".ssdcam-{digest}.unfinished")


def is_claimed(target: Path) -> bool:
    """Whether another run writes an output at this moment. Never so on Windows, where marks bear no lock."""
    marker = marker_of(target)
    if not exists(marker):
        return False
    try:
        descriptor = os.open(marker, os.O_RDWR)
    except OSError:
        return False
    try:
        return not lock(descriptor, shared=True)  # so that two who ask see no run in each other
    finally:
        os.close(descriptor)


class Claim:
    """One run's right to write an output, for as long as the ``with`` block; its folder is made if need be.

    Args:
        target: the output.
        resumable: whether the mark is to stay where the output was not finished, so that a later run knows.

    Attributes:
        finished: to be set when the output is whole.

    Raises:
        VideoError: another run writes the output, or nothing can be written there.
    """

    def __init__(self, target: Path, resumable: bool) -> None:
        self.finished = False
        self._resumable = resumable
        self._marker = marker_of(target)
        try:
            self._marker.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = take(self._marker)
        except BlockingIOError:
            raise VideoError(f"{target}: is being written by another run") from None
        except OSError as error:
            raise VideoError(f"{target}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release(self._marker, self._descriptor, remove=self.finished or not self._resumable)
