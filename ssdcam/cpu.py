"""What the processor has instructions for, and how much of it this process may use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ssdcam import control_groups

CPUINFO = Path("/proc/cpuinfo")

_X86_INT8 = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI"}

PRECISIONS = {
    "bf16": {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "Arm"},
    "fp16": {"amx_fp16": "AMX", "avx512_fp16": "AVX-512", "asimdhp": "Arm"},
    "int8": {**_X86_INT8, "i8mm": "Arm", "asimddp": "Arm"},
}
"""Features by Linux's names, the best first, that make a precision faster than fp32, and whose they are."""

_AVX512_VNNI = 23  # OpenCV's number of it, for which it has no name in Python


def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the processor can do, by Linux's names; empty elsewhere."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def usable_cores(groups: Iterable[Path] | None = None) -> float:
    """Cores that this process may use: those it may run on, and no more than its container's or service's share.

    Args:
        groups: folders of control groups that limit it; None is those of this process.
    """
    cores = float(_allowed_cores())
    share = control_groups.cores(control_groups.folders("cpu") if groups is None else groups)
    return cores if share is None else min(cores, share)


def usable_threads(groups: Iterable[Path] | None = None) -> int:
    """As many threads as :func:`usable_cores` keep busy, at least 1."""
    return math.ceil(usable_cores(groups))


def threads_of_a_share(groups: Iterable[Path] | None = None) -> int | None:
    """As many threads as a container's or service's share of the cores keeps busy; None where it has them all.

    Libraries see all cores there are, and know best how to use them. Of threads that share the time of fewer, those
    that wait for each other in a loop take it from those that work: 16 threads of torch's on one core took more
    than twice as long as one.
    """
    threads = usable_threads(groups)
    return threads if threads < _allowed_cores() else None


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def computes_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Whether an x86 processor sums products of bytes in one instruction.

    That makes int8 1.4 times as fast as bf16 with AVX-512 VNNI; the others have not been measured, nor has Arm, where
    nothing is taken for granted. Where there is no ``/proc/cpuinfo``, AVX-512's is the only one that is recognised.
    """
    if features := cpu_features(cpuinfo):
        return not features.isdisjoint(_X86_INT8)
    import cv2

    return bool(cv2.checkHardwareSupport(_AVX512_VNNI))
