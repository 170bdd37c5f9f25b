"""The one place that imports PyAV."""

from __future__ import annotations

import ast
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


# Writes a video, scheduled as it is told, and says how its threads are scheduled while it is open.
SCHEDULED = """
import os, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ssdcam.media.video_writer import VideoWriter
policy, priority = map(int, sys.argv[3:])
os.sched_setscheduler(0, policy, os.sched_param(priority))
seen = set()
def look():
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == (policy, priority)
    for name in os.listdir("/proc/self/task"):
        try:
            seen.add((os.sched_getscheduler(int(name)), os.sched_getparam(int(name)).sched_priority))
        except ProcessLookupError:  # it has ended since
            pass
with VideoWriter(Path(sys.argv[1]), width=64, height=64, rate=Fraction(25), codec=sys.argv[2]) as writer:
    for n in range(5):
        look()
        writer.write(np.full((64, 64, 3), n * 40, np.uint8), n / 25)
look()
print(*sorted(seen - {(policy, priority)}))
"""


SCHEDULES = {"other": (0, 0), "fifo": (1, 1), "rr": (2, 1), "batch": (3, 0), "idle": (5, 0)}


def may_run_in_real_time() -> bool:
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    return not subprocess.run([sys.executable, "-c", code], capture_output=True).returncode


@pytest.mark.skipif(not may_run_in_real_time(), reason="neither may an encoder run in real time here")
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_encoders_are_scheduled_as_who_opens_them(codec: str, schedule: tuple[int, int], tmp_path: Path) -> None:
    others = python(SCHEDULED, tmp_path / "a.mp4", codec, *map(str, schedule))
    assert others in ("", "(0, 0)")  # threads that libraries had before
