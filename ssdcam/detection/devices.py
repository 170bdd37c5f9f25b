"""What a device's name means, told without importing torch."""

from __future__ import annotations

import ctypes
import platform
import re
import sys

from ssdcam.errors import WrongUsageError

_CUDA_DRIVERS = {"linux": ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"), "win32": ("nvcuda.dll",)}


def device_kind(name: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``mps``: a device's name without its number.

    Raises:
        WrongUsageError: there is no such device.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,4})?", name):
        raise WrongUsageError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    return name.partition(":")[0]


def device_number(name: str) -> int:
    """N of ``cuda:N``; 0 where none is given."""
    return int(name.partition(":")[2] or 0)


def cuda_may_be_there() -> bool:
    """Whether NVIDIA's driver is installed. Only who runs on it finds out whether it works, and that takes seconds."""
    for name in _CUDA_DRIVERS.get(sys.platform, ()):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def mps_may_be_there() -> bool:
    """Whether this is a Mac with Apple's own processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"
