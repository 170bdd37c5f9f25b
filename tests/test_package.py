"""What a user installs: wheel, source distribution, editable; from a copy, so that the checkout stays clean."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import ssdcam

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="needs the source tree")

# Asks an installation about itself.
ASK = """
import json, sys
from importlib import metadata, resources
import ssdcam
weights = resources.files("ssdcam.weights")
distribution = metadata.distribution("ssdcam")
print(json.dumps({
    "file": ssdcam.__file__,
    "version": ssdcam.__version__,
    "installed version": distribution.version,
    "weights": {item.name: len(item.read_bytes()) for item in weights.iterdir() if item.is_file()},
    "typed": resources.files("ssdcam").joinpath("py.typed").is_file(),
    "licences": [path.locate().read_text("utf-8")[:200] for path in distribution.files if path.name == "LICENSE"],
    "scripts": [script.value for script in distribution.entry_points if script.name == "ssdcam"],
}))
"""


def call(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command that must succeed; what it prints."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree without what is not part of it."""
    copy = tmp_path_factory.mktemp("tree") / "ssdcam"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "out")
    )
    return copy


@pytest.fixture(scope="module")
def built(copy: Path) -> Path:
    """A folder with the source distribution and the wheel that was built from it."""
    pytest.importorskip("build", reason="needs the build package")
    out = copy.parent / "dist"
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=copy.parent)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (sdist,) = built.glob("*.tar.gz")
    return sdist


def ask(python: str | Path, cwd: Path, **env: str) -> Any:
    return json.loads(call(python, "-c", ASK, cwd=cwd, **env))


def check(told: Any, place: Path) -> None:
    """What every installation must have."""
    assert Path(told["file"]).is_relative_to(place)
    assert told["version"] == told["installed version"] == ssdcam.__version__
    expected = {path.name: path.stat().st_size for path in (ROOT / "weights").iterdir() if path.is_file()}
    assert {name: size for name, size in expected.items() if not name.endswith(".pyc")} == {
        name: size for name, size in told["weights"].items() if not name.endswith(".pyc")
    }
    assert told["weights"]["README.md"] > 0
    assert told["typed"]
    assert len(told["licences"]) == 1
    assert "Apache License" in told["licences"][0]
    assert told["scripts"] == ["ssdcam.cli:main"]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    archive = request.getfixturevalue(kind)
    target = tmp_path / "site"
    call(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
        "--disable-pip-version-check", "--root-user-action", "ignore", "--target", target, archive, cwd=tmp_path,
    )  # fmt: skip
    check(ask(sys.executable, tmp_path, PYTHONPATH=str(target)), target)
    # Imported from there alone, not from an installation that the tests run in.
    assert "Usage: ssdcam" in call(sys.executable, "-m", "ssdcam", "--help", cwd=tmp_path, PYTHONPATH=str(target))


def test_installs_editable(copy: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    # An editable wheel, as `pip install -e` makes one, from the setuptools that is here.
    script = "import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])"
    call(sys.executable, "-c", script, tmp_path, cwd=copy)
    (wheel,) = tmp_path.glob("*.whl")
    call(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
        "--disable-pip-version-check", "--root-user-action", "ignore", wheel, cwd=tmp_path,
    )  # fmt: skip
    check(ask(python, tmp_path), copy)
    # Weights that are put into the tree later are found too.
    (copy / "weights" / "later.safetensors").touch()
    try:
        assert "later.safetensors" in ask(python, tmp_path)["weights"]
    finally:
        (copy / "weights" / "later.safetensors").unlink()


def tree(*folders: str) -> set[str]:
    """Python modules of the source tree."""
    return {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")}


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = tree("ssdcam") | {"ssdcam/weights/__init__.py"}
    assert expected - names == set()
    # And nothing that users have no need of.
    assert {name.split("/")[0] for name in names} == {"ssdcam", f"ssdcam-{ssdcam.__version__}.dist-info"}


def test_the_source_distribution_holds_what_the_wheel_is_made_of(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "ssdcam/py.typed", "weights/README.md"}
    assert (tree("ssdcam", "weights") | files) - names == set()


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"ssdcam-{ssdcam.__version__}.dist-info/METADATA").decode()
    required = {line.split()[1].partition(">")[0] for line in text.splitlines() if line.startswith("Requires-Dist:")}
    assert {"click", "numpy", "opencv-python", "rich", "safetensors", "torch"} <= required
    assert "License-Expression: Apache-2.0" in text or "License: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
