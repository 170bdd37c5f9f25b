"""The one place that imports PyAV."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssdcam

PACKAGE = Path(ssdcam.__file__).parent


def python(code: str, *arguments: str | Path) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, cwd=PACKAGE.parent
    ).stdout.strip()


def imported(path: Path) -> set[str]:
    """The outermost names of what a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_nothing_else_imports_pyav() -> None:
    assert [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "av" in imported(path)] == [
        Path("media/av.py")
    ]


def test_opencv_comes_first() -> None:
    code = "import sys, ssdcam.media.av; names = list(sys.modules); print(names.index('cv2') < names.index('av'))"
    assert python(code) == "True"


@pytest.mark.parametrize("module", ["images", "containers"])
def test_pictures_need_no_pyav(module: str) -> None:
    assert python(f"import sys, ssdcam.media.{module}; print('av' in sys.modules)") == "False"


@pytest.mark.parametrize("missing", ["cv2", "av"])
def test_what_is_missing_is_named(missing: str) -> None:
    code = f"""
import sys
sys.modules["{missing}"] = None
from ssdcam.errors import UnavailableError
try:
    import ssdcam.media.av
except UnavailableError as error:
    print(error)
"""
    line = python(code)
    assert line.startswith("video files need opencv-python and av (PyAV): ")
    assert missing in line.split(": ")[1]


# What writes a video, and how many of its threads run in real time before, while it is open, and when it is closed.
REAL_TIME = """
import os, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ssdcam.media.video_writer import VideoWriter
def count():
    threads = map(int, os.listdir("/proc/self/task"))
    return sum(os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR) for thread in threads)
if sys.argv[3:]:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
counts = [count()]
with VideoWriter(Path(sys.argv[1]), width=64, height=64, rate=Fraction(25), codec=sys.argv[2]) as writer:
    counts.append(count())
    for n in range(5):
        writer.write(np.full((64, 64, 3), n * 40, np.uint8), n / 25)
        counts.append(count())
counts.append(count())
print(*counts)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="encoders may do so for root on Linux only")
@pytest.mark.parametrize("codec", ["av1", "h264", "h265", "vp9"])
def test_encoders_take_no_real_time_priority(codec: str, tmp_path: Path) -> None:
    assert set(python(REAL_TIME, tmp_path / "a.mp4", codec).split()) == {"0"}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may give it")
def test_real_time_priority_that_somebody_gave_is_kept(tmp_path: Path) -> None:
    counts = [*map(int, python(REAL_TIME, tmp_path / "a.mp4", "h264", "given").split())]
    assert counts[0] == 1
    assert all(counts)
