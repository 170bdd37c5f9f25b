"""Which machine a figure is of: without it, no figure means anything."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ssdcam import __version__
from ssdcam.cpu import CPUINFO, cpu_features, usable_cores

_PACKAGES = ("torch", "openvino", "onnxruntime", "onnxruntime-gpu", "nncf", "opencv-python", "av", "numpy")
# What makes one CPU several times as fast as another at this work.
_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """The machine in figures and names, as JSON's own types; what it does not tell is None, or ``unknown``."""
    cpu, features = _cpu()
    return {
        "cpu": cpu,
        "cpu_features": features,
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_gb": _memory_gb(),
        "gpu": _gpus(),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or "unknown",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "ssdcam": __version__,
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _cpu() -> tuple[str, list[str]]:
    """The CPU's name and those of its features that matter."""
    facts = _text(CPUINFO)
    if not facts and sys.platform == "darwin":
        facts = f"model name: {_output('sysctl', '-n', 'machdep.cpu.brand_string')}"
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", facts, re.MULTILINE)
    known = cpu_features()
    fallback = platform.processor() or platform.machine() or "unknown"
    return name[1].strip() if name else fallback, [feature for feature in _FEATURES if feature in known]


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _gpus() -> list[str]:
    """NVIDIA's cards with memory and driver, as its own tool names them."""
    query = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return [line.strip() for line in _output("nvidia-smi", *query).splitlines() if line.strip()]


def _output(*command: str) -> str:
    """What a command prints; nothing if it is not there or fails."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603  # fixed names
        return done.stdout.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
