"""Any command line ends with 0, 1 or 2 and a few lines that name what is wrong, never with a traceback.

Lines are made from the commands' own parameters and run in this process, with a real, tiny detector on tiny files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from ..datasets import made
from ..media.sources.videos import make_video
from ..pictures import photo
from .command_lines import WHOLE, commands, furnish, lines
from .conftest import Count
from .running import check, files_below, run_here

# How many lines of each command every run tries; a slow run tries as many times more.
LINES = {
    "image": 90,
    "video": 60,
    "webcam": 40,
    "eval": 60,
    "boxes": 40,
    "train": 10,
    "weights info": 40,
    "weights convert": 40,
}
MORE = 20


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with what command lines name."""
    place = tmp_path_factory.mktemp("made")
    folder = tmp_path_factory.mktemp("furnished")
    film = make_video(place / "v.mp4", range(6))
    data = {"voc": made.voc(place / "voc"), "yolo": made.yolo(place / "yolo"), "coco": made.coco(place / "coco")}
    furnish(folder, photo(place / "p.jpg").read_bytes(), film.read_bytes(), tiny_model, data)
    return folder


@pytest.fixture
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a line runs: some folders down, so that what climbs out of its folder is seen."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path_factory.mktemp("home")))
    return tmp_path / "a/b/here"


def state(folder: Path) -> list[tuple[str, int, int]]:
    """What shows that something in a folder was changed."""
    found = []
    for place, _, files in os.walk(folder):
        for name in files:
            status = Path(place, name).lstat()
            found.append((f"{place}/{name}", status.st_ino, status.st_mtime_ns))
        found.append((place, 0, 0))
    return sorted(found)


def try_lines(name: str, count: int, furnished: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run so many lines of a command, each in a copy of the furnished folder that no other has changed."""
    tried, files = 0, len(files_below(furnished))
    untouched: object = None

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(lines(name))
    def attempt(arguments: list[str]) -> None:
        nonlocal tried
        assume(not any("\0" in word for word in arguments))
        nonlocal untouched
        if untouched is None or state(here.parents[2]) != untouched:
            monkeypatch.chdir(furnished)
            shutil.rmtree(here.parents[1], ignore_errors=True)
            shutil.copytree(furnished, here)
            untouched = state(here.parents[2])
        monkeypatch.chdir(here)
        tried += 1
        check(arguments, run_here(arguments), most_lines=files + 3)  # a glob may name all of them

    try:
        attempt()
    finally:
        monkeypatch.undo()
    return tried


@pytest.mark.parametrize("name", WHOLE)
def test_any_line(name: str, furnished: Path, here: Path, monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    count("command lines", try_lines(name, LINES[name], furnished, here, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_many_more_lines(name: str, furnished: Path, here: Path, monkeypatch: pytest.MonkeyPatch, count: Count) -> None:
    count("command lines", try_lines(name, MORE * LINES[name], furnished, here, monkeypatch))


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_lines_are_whole(name: str, furnished: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise all that is tried above would end in the same complaint."""
    shutil.copytree(furnished, here)
    monkeypatch.chdir(here)
    before = files_below(here.parents[2])
    said = run_here([*name.split(), *WHOLE[name]])
    check([name], said)
    assert said.code == 0, said.err
    made = {path.parts[3] for path in files_below(here.parents[2]) - before}
    assert made <= {"out.safetensors", "run"}


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_refuses_what_it_does_not_know(name: str) -> None:
    """Of commands that have no lines above, too."""
    said = run_here([*name.split(), "--no-such-option"])
    check([name], said, most_lines=1)
    assert said.code == 2
    assert "--no-such-option" in said.err
