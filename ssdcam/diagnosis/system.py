"""The machine: processor, memory, disk; and what the environment says about the network."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from ssdcam.cache import WEIGHTS, cache_folder, is_offline
from ssdcam.cpu import CPUINFO, PRECISIONS, cpu_features, usable_cores
from ssdcam.detection.engines import ENGINES
from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.memory import MEMINFO, memory

_ENOUGH_MEMORY = 1.0  # GiB that are free: torch, the network and some frames of a large video
_ENOUGH_DISK = 0.5  # GiB


def check_cpu(cpuinfo: Path = CPUINFO, groups: Sequence[Path] | None = None) -> Iterator[Finding]:
    """Cores, and the precisions that the processor computes in by itself."""
    cores = usable_cores(groups)
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


def check_memory(meminfo: Path = MEMINFO, groups: Sequence[Path] | None = None) -> Iterator[Finding]:
    """How much memory there is, and how much of it is free."""
    there = memory(meminfo, groups)
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
    taken = _taken(folder)
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
    text = f"{folder} holds {taken:.1f} GiB, {free:.1f} GiB are free on its disk"
    if free >= _ENOUGH_DISK:
        yield ok("cache", text)
    else:
        yield warning("cache", text, f"empty it, as all in it is made or downloaded again; or {remedy}")


def _taken(folder: Path) -> float:
    """How large the files are that are kept in the cache, in GiB."""
    sizes = 0
    for kept in (*ENGINES, WEIGHTS):  # alone, as SSDCAM_HOME may be somebody's home
        for inner, _, files in os.walk(folder / kept):
            for file in files:
                with suppress(OSError):  # gone meanwhile
                    sizes += (Path(inner) / file).stat().st_size
    return sizes / 2**30


def check_network() -> Iterator[Finding]:
    """What the environment says; the network itself is not touched."""
    if is_offline():
        yield ok("network", "not tried: SSDCAM_OFFLINE is set, and nothing is downloaded")
    else:
        yield ok("network", "not tried: the embedded detector needs none (SSDCAM_OFFLINE=1 forbids downloads)")
