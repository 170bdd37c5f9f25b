"""The cameras that are there, and what they offer."""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

_SYS, _DEV = Path("/sys/class/video4linux"), Path("/dev")

# What OpenCV reads cameras with, the first that works.
BACKENDS: dict[str, tuple[int, ...]] = {
    "linux": (cv2.CAP_V4L2,),
    "darwin": (cv2.CAP_AVFOUNDATION,),
    "win32": (cv2.CAP_MSMF, cv2.CAP_DSHOW),
}

# Where devices have no names in the file system, these indices are tried.
_PROBED = range(8)

# Listed where a camera offers every size within a range.
_COMMON_SIZES = ((640, 480), (800, 600), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))

# From linux/videodev2.h: request number, size of its structure in bytes.
_QUERY_CAPABILITIES, _ENUM_FORMATS, _ENUM_SIZES, _ENUM_INTERVALS = (0, 104), (2, 64), (74, 44), (75, 52)
_REQUEST_BUFFERS = (8, 20)
_HAS_DEVICE_CAPABILITIES, _CAPTURES = 0x80000000, 0x00001001
_CAPTURE_BUFFERS, _DISCRETE, _MAPPED = 1, 1, 1

# No camera has as many formats, sizes or rates; a driver that goes on for ever is broken.
_MOST = 256

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True)
class Mode:
    """One way a camera can work.

    Attributes:
        fourcc: how it encodes the pictures, four letters: ``MJPG``, ``YUYV``, ...
        width: pixels.
        height: pixels.
        rates: frames a second that it advertises, the highest first; empty where unknown.
    """

    fourcc: str
    width: int
    height: int
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Camera:
    """A camera that is there.

    Attributes:
        source: what to call it on the command line: an index, or ``/dev/videoN``.
        name: what it calls itself.
        modes: what it offers; empty where the system does not tell, or not this user.
    """

    source: str
    name: str
    modes: tuple[Mode, ...]

    def __str__(self) -> str:
        return f"{self.source} ({self.name})"


def list_cameras() -> list[Camera]:
    """The cameras that are there, in the order of their numbers."""
    return list(_from_linux(_SYS, _DEV) if sys.platform == "linux" else _from_probing(cv2.VideoCapture))


def is_busy(device: Path, ioctl: Ioctl | None = None) -> bool:
    """Whether another program has a camera's pictures, on Linux, where that is told without switching it on.

    Whoever asks for buffers has the camera until they are given back, as they are here at once.
    """
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.EBUSY
    ask = ioctl or _system_ioctl()
    try:
        for count in (1, 0):
            number, size = _REQUEST_BUFFERS
            question = struct.pack("<III", count, _CAPTURE_BUFFERS, _MAPPED).ljust(size, b"\0")
            ask(handle, _code(number, size, write=True), bytearray(question))
    except OSError as error:
        return error.errno == errno.EBUSY
    finally:
        os.close(handle)
    return False


def _from_probing(capture_factory: Callable[[int, int], cv2.VideoCapture]) -> Iterator[Camera]:
    for index in _PROBED:
        for backend in BACKENDS.get(sys.platform, (cv2.CAP_ANY,)):
            capture = capture_factory(index, backend)
            try:
                if capture.isOpened():
                    yield Camera(str(index), f"camera {index}", ())
                    break
            finally:
                capture.release()


def _from_linux(sys_folder: Path, dev_folder: Path, ioctl: Ioctl | None = None) -> Iterator[Camera]:
    nodes = sys_folder.glob("video*") if sys_folder.is_dir() else ()
    for number in sorted(int(node.name[5:]) for node in nodes if re.fullmatch(r"video\d+", node.name)):
        device = dev_folder / f"video{number}"
        name_file = sys_folder / device.name / "name"
        name = name_file.read_text(errors="replace").strip() if name_file.is_file() else device.name
        try:
            handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError:  # not this user's, or taken: still there
            yield Camera(str(device), name, ())
            continue
        try:
            modes = _modes(handle, ioctl or _system_ioctl())
        finally:
            os.close(handle)
        if modes is not None:
            yield Camera(str(device), name, modes)


def _system_ioctl() -> Ioctl:
    from fcntl import ioctl  # not everywhere

    return lambda handle, request, buffer: ioctl(handle, request, buffer, True)


def _modes(handle: int, ioctl: Ioctl) -> tuple[Mode, ...] | None:
    """What a device offers; None where it is no camera: webcams have further nodes that give only metadata."""
    capabilities = _ask(handle, ioctl, _QUERY_CAPABILITIES, write=False)
    if capabilities is None:
        return None
    whole, device = struct.unpack_from("<II", capabilities, 84)
    if not (device if whole & _HAS_DEVICE_CAPABILITIES else whole) & _CAPTURES:
        return None
    return tuple(
        Mode(
            fourcc.decode("ascii", "replace").rstrip(),
            width,
            height,
            tuple(_rates(handle, ioctl, fourcc, width, height)),
        )
        for fourcc in _formats(handle, ioctl)
        for width, height in _sizes(handle, ioctl, fourcc)
    )


def _formats(handle: int, ioctl: Ioctl) -> Iterator[bytes]:
    for index in range(_MOST):
        answer = _ask(handle, ioctl, _ENUM_FORMATS, struct.pack("<II", index, _CAPTURE_BUFFERS))
        if answer is None:
            return
        yield bytes(answer[44:48])


def _sizes(handle: int, ioctl: Ioctl, fourcc: bytes) -> Iterator[tuple[int, int]]:
    for index in range(_MOST):
        answer = _ask(handle, ioctl, _ENUM_SIZES, struct.pack("<I4s", index, fourcc))
        if answer is None:
            return
        kind, *numbers = struct.unpack_from("<7I", answer, 8)
        if kind != _DISCRETE:
            low_w, high_w, _, low_h, high_h, _ = numbers
            yield from ((w, h) for w, h in _COMMON_SIZES if low_w <= w <= high_w and low_h <= h <= high_h)
            return
        yield numbers[0], numbers[1]


def _rates(handle: int, ioctl: Ioctl, fourcc: bytes, width: int, height: int) -> Iterator[float]:
    for index in range(_MOST):
        answer = _ask(handle, ioctl, _ENUM_INTERVALS, struct.pack("<I4sII", index, fourcc, width, height))
        if answer is None:
            return
        kind, numerator, denominator = struct.unpack_from("<3I", answer, 16)
        if numerator:
            yield round(denominator / numerator, 3)
        if kind != _DISCRETE:  # a range, the shortest interval first
            return


def _ask(
    handle: int, ioctl: Ioctl, request: tuple[int, int], question: bytes = b"", *, write: bool = True
) -> bytearray | None:
    """One ioctl of V4L2; None where the driver has no (further) answer."""
    number, size = request
    answer = bytearray(question.ljust(size, b"\0"))
    try:
        ioctl(handle, _code(number, size, write=write), answer)
    except OSError:
        return None
    return answer


def _code(number: int, size: int, *, write: bool) -> int:
    """An ioctl of V4L2 as the kernel counts them: direction, size of its structure, letter, number."""
    return (3 if write else 2) << 30 | size << 16 | ord("V") << 8 | number
