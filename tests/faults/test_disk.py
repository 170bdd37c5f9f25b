"""Disks that are full or may not be written to: a line that names what could not be written, and nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Count
from .forked import Forks
from .writers import WRITERS, visible, words

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts file systems as Linux has them")

# Room that is left, in KiB: for nothing, for a part of most, and for some of the files.
ROOM = (0, 4, 16)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted: that takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many KiB."""
    free = shutil.disk_usage(disk).free // 1024
    with (disk / "filler").open("wb") as file:
        file.write(bytes((free - left) * 1024))


def contents(out: Path) -> dict[Path, bytes]:
    return {path.relative_to(out): path.read_bytes() for path in visible(out) if path.name != "filler"}


@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name: str, room: int, forks: Forks, furnished: Path, disk: Path, count: Count) -> None:
    fill(disk, room)
    ended = forks.run(*words(name, str(disk)), folder=furnished, check=False)
    count("full disks", 1)
    assert ended.code in {0, 1, 2}, ended
    assert "bug in ssdcam" not in ended.err
    if not room:
        assert ended.code
    if ended.code:
        lines = ended.err.splitlines()
        assert 1 <= len(lines) <= 4, ended.err
        assert all(str(disk) in line for line in lines), ended.err
        assert any("No space left" in line for line in lines), ended.err
    WRITERS[name].look(disk)
    assert not list(disk.rglob("*.part"))


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.keeps])
def test_a_full_disk_keeps_the_old_output(name: str, forks: Forks, furnished: Path, disk: Path, count: Count) -> None:
    forks.run(*words(name, str(disk)), folder=furnished)
    before = contents(disk)
    assert before
    fill(disk, 0)
    ended = forks.run(*words(name, str(disk)), folder=furnished, check=False)
    count("full disks", 1)
    assert ended.code in {0, 1, 2}, ended
    after = contents(disk)
    assert after.keys() >= before.keys()
    WRITERS[name].look(disk)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to: root's power ends at a file system that is mounted to be read."""
    place = tmp_path / "closed"
    place.mkdir()
    if os.geteuid():
        place.chmod(0o500)
        yield place
        place.chmod(0o700)
        return
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a read-only disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written_to(
    name: str, forks: Forks, furnished: Path, closed: Path, count: Count
) -> None:
    ended = forks.run(*words(name, str(closed)), folder=furnished, check=False)
    count("read-only folders", 1)
    assert ended.code in {1, 2}, ended
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 4, ended.err
    assert all(str(closed) in line for line in lines), ended.err
    assert not list(closed.iterdir())
