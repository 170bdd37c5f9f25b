"""What the processor has instructions for."""

from __future__ import annotations

import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

# By Linux's names: sums of products of bytes in one instruction. Arm's are left out, as nobody has measured them here.
_INT8 = {"amx_int8", "avx512_vnni", "avx_vnni"}

_AVX512_VNNI = 23  # OpenCV's number of it, for which it has no name in Python


def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the processor can do, by Linux's names; empty elsewhere."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def computes_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Whether int8 is known to be much faster than anything else there; where in doubt, it is not."""
    if features := cpu_features(cpuinfo):
        return not _INT8.isdisjoint(features)
    import cv2

    return bool(cv2.checkHardwareSupport(_AVX512_VNNI))
