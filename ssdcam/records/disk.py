"""Trouble with the disk as one line for the user, and writes that happen whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile

from ssdcam import files
from ssdcam.errors import RecordError
from ssdcam.files import exists, is_folder, lock


def writing(path: Path) -> AbstractContextManager[None]:
    """Turn an ``OSError`` inside into a ``RecordError`` that names the file and the reason."""
    return files.writing(path, RecordError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside into a ``RecordError`` that names the file and the reason."""
    try:
        files.check_ends(path)
        yield
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # half a character, or a zero byte
        raise RecordError(f"{path}: cannot be read: no file can be called so") from error


def check_file(path: Path) -> None:
    """See that a file could be written, and leave everything as it is.

    Raises:
        RecordError: it could not.
    """
    with writing(path):
        if exists(path):
            path.open("ab").close()
        else:
            TemporaryFile(dir=path.parent).close()


def check_place(path: Path) -> None:
    """See that a file could be put into its place once it is whole, and leave everything as it is.

    Raises:
        RecordError: it could not.
    """
    if is_folder(path):
        raise RecordError(f"{path}: cannot be written: is a folder")
    with writing(path):
        TemporaryFile(dir=path.parent).close()


def make_folder(path: Path) -> None:
    """Make a folder, if need be, that files could be written to.

    Raises:
        RecordError: that cannot be.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()


def open_to_append(path: Path) -> FileIO:
    """Open a file that records are appended to, empty it, and keep other runs away from it while it is open.

    Raises:
        RecordError: it cannot be written, or another run writes it.
    """
    with writing(path):
        file = path.open("ab", buffering=0)
        try:
            if path.is_file():  # a pipe or device may have several who write
                if not lock(file.fileno()):
                    raise RecordError(f"{path}: is being written by another run")
                file.truncate(0)
                file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def append_whole(file: FileIO, data: bytes) -> None:
    """Append all of ``data`` in one write of the operating system, or nothing.

    Raises:
        OSError: it cannot be written; of a file (a pipe cannot take back what it gave) nothing of ``data`` remains.
    """
    start = file.tell() if file.seekable() else None
    written = 0
    try:
        while written < len(data):  # a disk that is nearly full takes a part first and fails afterwards
            written += file.write(memoryview(data)[written:])
    except BaseException:
        if start is not None:
            with suppress(OSError):  # a device has no length
                file.truncate(start)
                file.seek(start)
        raise
