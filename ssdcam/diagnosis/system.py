"""The machine: processor, memory, disk; and what the environment says about the network."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from ssdcam.cache import cache_folder, is_offline
from ssdcam.cpu import CPUINFO, PRECISIONS, cpu_features
from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.memory import memory

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")

_ENOUGH_MEMORY = 1.0  # GiB that are free: torch, the network and some frames of a large video
_ENOUGH_DISK = 0.5  # GiB


def check_cpu(cpuinfo: Path = CPUINFO, cgroup: Path = _CGROUP) -> Iterator[Finding]:
    """Cores, and the precisions that the processor computes in by itself."""
    cores = usable_cores(cgroup)
    text = f"{cores:g} {'core' if cores == 1 else 'cores'}, {platform.machine()}"
    features = cpu_features(cpuinfo)
    if not features:
        yield ok("CPU", text)
        return
    fast = [
        f"{precision} ({how})"
        for precision, names in PRECISIONS.items()
        if (how := next((how for name, how in names.items() if name in features), ""))
    ]
    text += f"; beside fp32 it computes in {', '.join(fast)}" if fast else "; it computes in fp32 alone"
    if platform.machine() == "x86_64" and "avx2" not in features:
        yield warning("CPU", f"{text}, and without AVX2", "expect a few frames a second; --stride 5 looks at fewer")
    else:
        yield ok("CPU", text)


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Cores that this process may use; a container may have a part of one."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return min(cores, float(quota) / float(period))
    except (OSError, ValueError):  # no such file, or no limit
        return cores


def check_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> Iterator[Finding]:
    """How much memory there is, and how much of it is free."""
    there = memory(meminfo, cgroup)
    if there is None:
        yield ok("memory", "this system does not tell in a way that is known here")
        return
    total, free = there.total / 2**30, there.free / 2**30
    text = f"{free:.1f} of {total:.1f} GiB are free"
    if free < _ENOUGH_MEMORY:
        yield warning("memory", text, f"close other programs: about {_ENOUGH_MEMORY:g} GiB are needed")
    else:
        yield ok("memory", text)


def check_cache() -> Iterator[Finding]:
    """Whether what can be made again can be kept; it works without, but starts more slowly."""
    folder = cache_folder()
    remedy = "set SSDCAM_HOME to a folder that can be written to and has room"
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        with TemporaryFile(dir=there) as file:  # a folder may look writable and be on a full or read-only disk
            file.write(b"\0" * 4096)
        free = shutil.disk_usage(there).free / 2**30
    except OSError as error:
        yield problem("cache", f"{folder} cannot be written to: {error.strerror}", remedy)
        return
    text = f"{folder}, {free:.1f} GiB are free on its disk"
    yield warning("cache", text, remedy) if free < _ENOUGH_DISK else ok("cache", text)


def check_network() -> Iterator[Finding]:
    """What the environment says; the network itself is not touched."""
    if is_offline():
        yield ok("network", "not tried: SSDCAM_OFFLINE is set, and nothing is downloaded")
    else:
        yield ok("network", "not tried: the embedded detector needs none (SSDCAM_OFFLINE=1 forbids downloads)")
