"""Files: written whole, locked, and looked at without surprises. On the ground floor: errors and standard library."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from ssdcam.errors import SsdcamError

if sys.platform != "win32":
    import fcntl

STREAMS = {Path("/dev/stdout"): "stdout", Path("/dev/stderr"): "stderr"}
"""Names for what is open already, and Python's: where it goes to a file, that holds what others wrote, too."""

_SMALL = 2**24  # bytes


@contextmanager
def writing(path: Path, kind: type[SsdcamError]) -> Iterator[None]:
    """Turn an ``OSError`` inside, such as of a full disk, into an error of ours that names the file and the reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes | memoryview | Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all: whatever ends the process, ``path`` holds what it held before or ``data``.

    Data in pieces need not fit in memory. A link is followed. What is no regular file, such as ``/dev/null`` or a pipe,
    is written to and stays what it is; so do the files behind :data:`STREAMS`.

    Raises:
        OSError: it cannot be written, or is a pipe that nobody reads; what was there before is untouched.
    """
    pieces = [data] if isinstance(data, bytes | memoryview) else data
    if path in STREAMS:
        stream = getattr(sys, STREAMS[path])  # the command line has moved it to another descriptor
        stream.flush()
        with open(stream.fileno(), "wb", closefd=False) as file:  # where it is, behind what was printed
            file.writelines(pieces)
        return
    if exists(path) and not path.is_file():  # by this name: what /dev/fd/63 leads to may have no other
        with reader_of(path), path.open("wb") as file:
            file.writelines(pieces)
        return
    path = Path(os.path.realpath(path))  # Path.resolve raises on links in a circle
    # Named before it is made: whenever a signal comes, it is known what to remove.
    temporary = path.parent / f".ssdcam-{token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        if exists(path):
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def reader_of(path: Path) -> Iterator[None]:
    """See that somebody reads a pipe, and hold on to them: to open one that nobody reads would wait for ever.

    Raises:
        OSError: nobody does.
    """
    if not path.is_fifo():
        yield
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "is a pipe that nobody reads") from error
        raise
    try:
        yield
    finally:
        os.close(descriptor)


def check_ends(path: Path) -> None:
    """Refuse a device, such as ``/dev/zero``, before it is read to an end that it may not have.

    Raises:
        OSError: it is one, or cannot be looked at.
    """
    if path.is_char_device() and path != Path(os.devnull):
        raise OSError(errno.EINVAL, "is a device, not a file")


def read_small(path: Path) -> bytes:
    """A file that nobody would write megabytes into; it may be a pipe.

    Raises:
        OSError: it cannot be read, or is larger than that.
    """
    with path.open("rb") as file:
        data = file.read(_SMALL + 1)
    if len(data) > _SMALL:
        raise OSError(errno.EFBIG, f"holds more than {_SMALL >> 20} MiB")
    return data


def exists(path: Path) -> bool:
    """Whether a file is there, as far as one can see: a name may be too long, a folder closed to us."""
    try:
        return path.exists()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether it is a regular file, as far as one can see."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether it is a folder, as far as one can see."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file below a folder is a system's or a program's own: ``._dog.jpg``, as macOS adds, or a thumbnail."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def not_a_folder(path: Path) -> Path | None:
    """What is in the way of making a folder: the nearest of it and those above that is there, if it is something else.

    Whether the folder may be made there is not asked.
    """
    nearest = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    return None if nearest is None or is_folder(nearest) else nearest


def same_file(a: Path, b: Path) -> bool:
    """Whether two names are one file."""
    try:
        return a.samefile(b)
    except OSError:
        return False


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file for as long as it is open, unless someone else has; False then.

    Where the file system or, on Windows, the system knows no such locks, nobody ever has.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def take(marker: Path) -> int:
    """Make a file that marks what a process works on, and lock it; :func:`release` lets go of it.

    Returns:
        Its descriptor.

    Raises:
        BlockingIOError: it is another process'.
        OSError: it cannot be made.
    """
    while True:
        descriptor = os.open(marker, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not lock(descriptor):
                raise BlockingIOError
            if exists(marker) and os.path.samestat(os.fstat(descriptor), marker.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its run came to its end between our opening and locking it


def release(marker: Path, descriptor: int, *, remove: bool = True) -> None:
    """Let others have what a process worked on.

    Args:
        marker: the file that :func:`take` made.
        descriptor: what it returned.
        remove: whether the file goes, too, as far as that can be.
    """
    if sys.platform == "win32":  # which removes no file that is open
        os.close(descriptor)
    if remove:
        with suppress(OSError):
            marker.unlink()
    if sys.platform != "win32":  # the lock goes last: nobody may take a mark that is about to be removed
        os.close(descriptor)
