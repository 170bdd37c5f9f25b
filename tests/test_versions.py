"""Part of the suite with the oldest versions that setup.cfg allows, and with the newest that there are.

Each in an environment of its own, where these versions come before those that the tests run with; torch, which is not
among them, and whatever else is needed come from there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="needs the source tree")

# The oldest release within each lower bound of setup.cfg. torch is left out: it is too large to be had twice.
OLDEST = {
    "av": "18.0.0",
    "click": "8.1.7",
    "filelock": "3.12.0",
    "numpy": "1.26.0",
    "opencv-python": "4.10.0.82",
    "platformdirs": "4.0.0",
    "pyyaml": "6.0.1",
    "rich": "13.7.0",
    "safetensors": "0.4.5",
}

# What these packages are used for: pictures, drawing, windows, videos, records, checkpoints, the command line.
PART = (
    "tests/test_detections.py",
    "tests/test_embedded.py",
    "tests/checkpoints/test_checkpoint.py",
    "tests/cli/test_main.py",
    "tests/detection/test_detector.py",
    "tests/diagnosis",
    "tests/media/test_containers.py",
    "tests/media/test_drawing.py",
    "tests/media/test_images.py",
    "tests/media/test_video_writer.py",
    "tests/records",
    "tests/ssd/test_postprocess.py",
)


def bounds() -> dict[str, str]:
    """Lower bounds of what ssdcam cannot do without, torch left out."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", "utf-8")
    return dict(re.findall(r"([\w-]+)>=([\d.]+)", config["options"]["install_requires"].replace("torch>", "")))


def test_the_oldest_are_those_of_setup_cfg() -> None:
    assert {name: version for name, version in OLDEST.items() if version.startswith(bounds()[name])} == OLDEST
    assert bounds().keys() == OLDEST.keys()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source tree without what is not part of it, with the real media beside it if they are here."""
    kept_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "out", "runs", "site")
    if (ROOT.parent / "shared").is_dir():
        (tmp_path / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return Path(shutil.copytree(ROOT, tmp_path / "ssdcam", ignore=kept_out))


@pytest.fixture(params=["oldest", "newest"])
def python(request: pytest.FixtureRequest, copy: Path, tmp_path: Path) -> Path:
    """The interpreter of an environment with the oldest or newest versions, and the copy's ssdcam."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = environment / "lib" / version / "site-packages"
    (own / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wanted = [f"{name}=={version}" for name, version in OLDEST.items()] if request.param == "oldest" else [*OLDEST]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--ignore-installed"]
    try:
        subprocess.run([*pip, "--only-binary", ":all:", *wanted], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        if re.search("connection|temporary failure|no matching distribution", error.stderr, re.IGNORECASE):
            pytest.skip(f"the registry does not have them: {error.stderr.strip().splitlines()[-1]}")
        raise
    subprocess.run([*pip, "--no-build-isolation", "-e", copy], check=True)
    return python


@pytest.mark.slow
def test_part_of_the_suite(python: Path, copy: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DISPLAY")}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # newer packages' plugins are listed, but older packages are found
    script = "import sys; from importlib.metadata import version; print({n: version(n) for n in sys.argv[1:]})"
    told = subprocess.run([python, "-c", script, *OLDEST], env=env, capture_output=True, text=True, check=True).stdout
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PART]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, told + done.stdout[-6000:] + done.stderr
