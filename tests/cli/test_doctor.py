"""``ssdcam doctor`` from outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import get_args

import pytest

from ssdcam.detection.detector import EngineName
from ssdcam.diagnosis.checks import checks

from ..pictures import photo
from ..waiting import finish, wait_until
from .running import INSTALLED, one_line, run, start


@pytest.fixture(scope="module")
def healthy() -> dict[str, object]:
    """What it finds here, where the other tests pass, too."""
    done = run("doctor", "--json", command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def test_json(healthy: dict[str, object]) -> None:
    assert list(healthy) == ["ok", "findings"]
    assert healthy["ok"] is True
    for finding in healthy["findings"]:
        assert list(finding) == ["name", "status", "text", "remedy", "necessary"]
        assert finding["status"] in ("ok", "warning", "problem")
        assert finding["text"]
        assert bool(finding["remedy"]) == (finding["status"] != "ok")
        assert "\n" not in finding["text"] + finding["remedy"]


def test_everything_is_looked_at(healthy: dict[str, object]) -> None:
    named = {finding["name"].partition(" ")[0] for finding in healthy["findings"]}
    assert {
        "Python", "ssdcam", "packages", "CPU", "memory", "torch", "GPU", "OpenCV", "detector", "engine", "video",
        "codecs", "display", "cache", "network",
    } <= named  # fmt: skip
    assert named & {"cameras", "camera"}
    engines = {finding["name"] for finding in healthy["findings"]} & {f"engine {name}" for name in get_args(EngineName)}
    assert engines == {f"engine {name}" for name in get_args(EngineName) if name not in ("auto", "torch")}
    assert len(healthy["findings"]) >= len(checks([]))


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment in which OpenCV misses a library of the system's, as on a fresh server."""
    complaint = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({complaint!r})")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def test_for_people_with_something_broken(broken: dict[str, str]) -> None:
    done = run("doctor", command=INSTALLED, env={**broken, "SSDCAM_HOME": "/proc/nosuch"})
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    [place] = [i for i, line in enumerate(lines) if line.startswith("problem  OpenCV ")]
    assert "does not load: libGL.so.1" in lines[place]
    assert lines[place + 1].startswith("         -> Debian, Ubuntu: sudo apt install libgl1 libglib2.0-0")
    assert any(line.startswith("problem  cache ") for line in lines)
    assert any(line.startswith("ok       torch ") for line in lines)
    assert lines[-1].endswith("something necessary does not work")
    assert "\x1b" not in done.stdout


def test_other_commands_send_there(broken: dict[str, str], tmp_path: Path) -> None:
    done = run("image", "a.jpg", command=INSTALLED, env=broken, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    line = one_line(done.stderr)
    assert line.startswith("error: libGL.so.1: cannot open")
    assert line.endswith("ssdcam doctor says what to do about it")


@pytest.mark.parametrize("kind", ["ImportError", "OSError"])  # the latter is ctypes'
@pytest.mark.parametrize("complaint", ["libcudart.so.13: cannot open shared object file\nmore", ""])
def test_a_torch_that_does_not_load_sends_there(kind: str, complaint: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "torch.py").write_text(f"raise {kind}({complaint!r})")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("image", "a.jpg", "--engine", "torch", command=INSTALLED, env={"PYTHONPATH": path}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    told = complaint.partition("\n")[0] or kind
    assert one_line(done.stderr) == f"error: {told}: ssdcam doctor says what to do about it"


def test_ctrl_c(tmp_path: Path) -> None:
    """Whoever has seen enough leaves; nothing goes on behind their back."""
    (tmp_path / "torch.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(1000)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start("doctor", command=INSTALLED, env={"PYTHONPATH": path})
    for line in process.stdout:
        if line.startswith("ok       memory"):  # torch comes next
            break
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), process)
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
