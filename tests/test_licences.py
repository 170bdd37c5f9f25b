"""The table of licences: no dependency is missing, and what is installed here states what the table says."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "licences.py").exists(), reason="needs the source tree")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("packaging")
    spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """Licences by package, as the page has them."""
    text = (ROOT / "docs" / "licences.md").read_text("utf-8")
    return dict(re.findall(r"^\| ([\w.-]+) \| (.+?) \| .+ \|$", text, re.MULTILINE))


def test_every_dependency_has_its_row(script: ModuleType, rows: dict[str, str]) -> None:
    direct = script.direct_dependencies()
    assert {"av", "torch", "opencv-python", "openvino", "matplotlib"} <= direct.keys()
    assert direct.keys() - rows.keys() == set()
    assert "not installed" not in " ".join(rows.values())


def test_rows_say_what_packages_state(script: ModuleType, rows: dict[str, str]) -> None:
    """The versions that are tested together; others may have changed their words."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    compared = 0
    for name, version in pins.items():
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
        if installed == version and name.lower() in rows:
            assert rows[name.lower()].startswith(script.licence(name)), name
            compared += 1
    if not compared:
        pytest.skip("nothing is installed here in the versions of constraints.txt")


def test_the_gpl_is_explained() -> None:
    text = (ROOT / "docs" / "licences.md").read_text("utf-8")
    for word in ("x264", "x265", "GPL-2.0-or-later", "--codec vp9", "--codec av1"):
        assert word in text
