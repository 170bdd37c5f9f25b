"""What a user installs: wheel, source distribution, editable; from a copy, so that the checkout stays clean."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import pytest

import ssdcam
from ssdcam.diagnosis.compute import drawing

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
    check(ask(python, tmp_path, PYTHONPATH=""), copy)
    # Weights that are put into the tree later are found too.
    (copy / "weights" / "later.safetensors").touch()
    try:
        assert "later.safetensors" in ask(python, tmp_path, PYTHONPATH="")["weights"]
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


def names_in(archive: Path) -> set[str]:
    """Files of a wheel or a source distribution, without the folder that the latter begins with."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_both_hold_more_than_code(kind: str, request: pytest.FixtureRequest) -> None:
    names = names_in(request.getfixturevalue(kind))
    weights = [path.name for path in (ROOT / "weights").glob("*.safetensors")]
    quantised = [f"int8/{path.name}" for path in (ROOT / "weights/int8").iterdir()]
    assert len(quantised) == 2 * len(weights) > 0
    folder = "ssdcam/weights" if kind == "wheel" else "weights"
    assert {f"{folder}/{name}" for name in [*weights, *quantised, "README.md"]} <= names
    assert "ssdcam/py.typed" in names
    assert any(name.rpartition("/")[2] == "LICENSE" for name in names)


def test_the_wheel_works_offline_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """As after pip install on a machine without a network: dependencies are those that are here."""
    environment = tmp_path / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    [own] = environment.glob("lib/python*/site-packages")
    call(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
        "--disable-pip-version-check", "--root-user-action", "ignore", wheel, cwd=tmp_path,
    )  # fmt: skip
    # What the tests run with comes after what the environment has itself.
    (own / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    offline = [shutil.which("unshare") or "", "--map-root-user", "--net"]
    if not offline[0] or subprocess.run([*offline, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a network namespace: unshare --map-root-user --net true")
    check(ask(python, tmp_path, PYTHONPATH=""), environment)
    cv2.imwrite(str(tmp_path / "a.png"), drawing())
    script = environment / "bin" / "ssdcam"
    told = call(*offline, script, "image", "a.png", "--json", cwd=tmp_path, PYTHONPATH="", SSDCAM_OFFLINE="1")
    assert json.loads(told)["detections"]


def test_the_version_is_written_once() -> None:
    files = ["setup.cfg", "pyproject.toml", "mkdocs.yml", "README.md", *map(str, (ROOT / "ssdcam").rglob("*.py"))]
    stated = [file for file in files if f'"{ssdcam.__version__}"' in (ROOT / file).read_text("utf-8")]
    assert stated == [str(ROOT / "ssdcam" / "__init__.py")]
    assert "version = attr: ssdcam.__version__" in (ROOT / "setup.cfg").read_text("utf-8")


def test_all_is_every_extra_that_users_have(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"ssdcam-{ssdcam.__version__}.dist-info/METADATA").decode()
    extras: dict[str, set[str]] = {}
    for name, extra in re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*; .*extra == ['\"](\w+)['\"]", text, re.MULTILINE):
        extras.setdefault(extra, set()).add(name)
    everything = extras.pop("all")
    assert set.union(*(names for extra, names in extras.items() if extra not in ("docs", "test"))) == everything
    assert extras["docs"] < extras["test"]


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"ssdcam-{ssdcam.__version__}.dist-info/METADATA").decode()
    required = {line.split()[1].partition(">")[0] for line in text.splitlines() if line.startswith("Requires-Dist:")}
    assert {"click", "numpy", "opencv-python", "rich", "safetensors", "torch"} <= required
    assert "License-Expression: Apache-2.0" in text or "License: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
