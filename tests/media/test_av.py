"""The one place that imports PyAV."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ssdcam

PACKAGE = Path(ssdcam.__file__).parent


def python(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent
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
