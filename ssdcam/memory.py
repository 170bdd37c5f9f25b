"""Memory that runs out: how one knows it, and how much there is. On the ground floor."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssdcam import control_groups

# What libraries say in errors of their own: torch on CPUs, CUDA and MPS and its threads; OpenCV; C++, of which OpenVINO
# and ONNX Runtime hand on what it throws; ONNX Runtime's arena; oneDNN.
_SAID = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|not enough memory|out of memory|insufficient memory"
    r"|bad[_ ]alloc|(cannot|failed to) allocate|_ALLOC_FAILED|can't start new thread|could not create a memory",
    re.IGNORECASE,
)

MEMINFO = Path("/proc/meminfo")

_DEEPEST = 10

_LARGEST_PICTURE = 3 * 2**28  # bytes, as OpenCV reads pictures of 2^28 pixels at most


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what it comes from, is that there was too little memory."""
    for _ in range(_DEEPEST):
        if error is None:
            break
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if not isinstance(error, OSError | ValueError | TypeError) and _SAID.search(str(error)):
            return True
        error = error.__cause__
    return False


def why_unreadable() -> str:
    """What to say of a picture that OpenCV does not read: it tells neither damage nor a lack of memory."""
    import numpy as np

    try:
        np.empty(_LARGEST_PICTURE, np.uint8)
    except MemoryError:
        return "is damaged, no picture that OpenCV can read, or too large for the memory that is left"
    return "is damaged, or no picture that OpenCV can read"


@dataclass(frozen=True)
class Memory:
    """A machine's or container's memory, in bytes."""

    total: int
    free: int
    swap: int


def memory(meminfo: Path = MEMINFO, groups: Iterable[Path] | None = None) -> Memory | None:
    """How much there is; None where the system does not tell as Linux does.

    Args:
        meminfo: where the kernel says so.
        groups: folders of control groups that limit it; None is those of this process.
    """
    try:
        rows = {"SwapTotal": "0"}
        for line in meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            rows[name] = value
        total, free, swap = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable", "SwapTotal"))
    except (OSError, KeyError, IndexError, ValueError):
        return None
    groups = list(control_groups.folders("memory") if groups is None else groups)
    for limit, used in control_groups.memory(groups):
        total, free = min(total, limit), min(free, max(0, limit - used))
    allowed = control_groups.swap(groups, total)
    return Memory(total, free, swap if allowed is None else min(swap, allowed))
