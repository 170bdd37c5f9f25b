"""Runs that end in the middle, whatever ends them: what is on the disk plays, and says what the records say."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ssdcam.media.claims import marker_of

from ..media import clips
from ..media.sources.videos import make_video, number_of
from ..waiting import finish, wait_until
from .running import one_line, start

WAYS = ("SIGINT", "SIGTERM", "SIGKILL", "full disk", "failing detector")
SUFFIXES = (".mp4", ".mkv", ".webm")

# A killed process loses what the encoder holds and the last tenth of a second: 4 + 3 frames here, and what the threads
# hold between recording a frame and encoding it.
LOST = 16


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that takes some seconds to go through."""
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", range(1200))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that the output does not fit on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted: that takes root and Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def wait_for_records(path: Path, process: subprocess.Popen[str], count: int) -> None:
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, process)


def end_run(way: str, suffix: str, video: Path, folder: Path, disk: Path | None, dice: random.Random) -> None:
    """Have a run end that way at some moment, and check what it leaves."""
    out, lines = (disk or folder) / f"out{suffix}", folder / "records.jsonl"
    for path in (*folder.glob("out.*"), *folder.glob("disk/out.*"), lines):  # of rounds before
        path.unlink(missing_ok=True)
        marker_of(path).unlink(missing_ok=True)
    options = ("--score", "1", "--no-fps", "--crf", "10", "--preset", "ultrafast")
    # A run that is to be stopped takes many times as long as it is watched for.
    env = {"SSDCAM_STUB_SLEEP": "0.03" if way.startswith("SIG") else "0.004"}
    fail_at = dice.randrange(20, 400)
    if way == "failing detector":
        env["SSDCAM_STUB_FAIL"] = str(fail_at)
    process = start("video", video, "-o", out, "--records", lines, *options, env=env)
    children: list[psutil.Process] = []
    try:
        if way.startswith("SIG"):
            wait_for_records(lines, process, dice.randrange(15, 100))
            time.sleep(dice.uniform(0, 0.5))
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.Signals[way])
        printed, said = finish(process)
    finally:
        process.kill()
        process.wait()
    assert not children, "nothing can be left behind where nothing was started"
    # Whoever stops a run is told its figures; SIGKILL leaves no time for that.
    assert printed == "" if way == "SIGKILL" else re.match(r"\d+ frames in ", printed)
    assert (f"\nstopped in {video}\nwrote {out}, " in printed) == (way in ("SIGINT", "SIGTERM"))

    code = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}.get(way, 1)
    assert process.returncode == code, said
    if code == 1:
        assert ("out" + suffix if disk else "told to fail") in one_line(said)
    else:
        assert said == ""

    text = lines.read_text()
    assert text.endswith("\n")
    reported = [json.loads(line)["frame"] for line in text.splitlines()]
    assert reported == list(range(len(reported)))
    assert len(reported) < 1200, "it came to its end before it was stopped"
    shown = [number_of(picture) for _, picture in clips.frames(out)]
    if way in ("SIGKILL", "full disk"):
        # A frame that others lean on comes before them: the last on the disk may be one whose forerunner is lost.
        assert shown[:-1] == reported[: len(shown) - 1]
        assert shown[-1] in {len(shown) - 1, len(shown)}
        assert len(shown) <= len(reported)
        assert way == "full disk" or len(shown) >= len(reported) - LOST
        return
    assert shown == reported
    if way == "failing detector":
        assert len(reported) <= fail_at


@pytest.mark.parametrize(
    ("way", "suffix"),
    [(way, SUFFIXES[i % 3]) for i, way in enumerate(WAYS)] + [("SIGKILL", ".mp4")],
)
def test_whatever_ends_a_run(
    way: str, suffix: str, long_video: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk = request.getfixturevalue("small_disk") if way == "full disk" else None
    end_run(way, suffix, long_video, tmp_path, disk, random.Random(f"{way}{suffix}"))


@pytest.mark.slow
def test_fifty_rounds(long_video: Path, tmp_path: Path, small_disk: Path) -> None:
    dice = random.Random(50)
    for number in range(50):
        way, suffix = WAYS[number % len(WAYS)], dice.choice(SUFFIXES)
        try:
            end_run(way, suffix, long_video, tmp_path, small_disk if way == "full disk" else None, dice)
        except BaseException as error:
            error.add_note(f"round {number}: {way}, {suffix}")
            raise


def test_a_disk_that_is_too_full_for_records(long_video: Path, tmp_path: Path, small_disk: Path) -> None:
    process = start("video", long_video, "--records", small_disk / "r.jsonl")
    printed, said = finish(process)
    assert process.returncode == 1, printed
    assert "r.jsonl" in one_line(said)
    lines = (small_disk / "r.jsonl").read_text().split("\n")
    assert len(lines) > 50
    assert [json.loads(line)["frame"] for line in lines[:-1]] == list(range(len(lines) - 1))


def test_a_second_interrupt_changes_nothing(long_video: Path, tmp_path: Path) -> None:
    """People press Ctrl-C more than once."""
    out, lines = tmp_path / "out.mp4", tmp_path / "records.jsonl"
    process = start("video", long_video, "-o", out, "--records", lines, env={"SSDCAM_STUB_SLEEP": "0.03"})
    wait_for_records(lines, process, 20)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    _, said = finish(process)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(clips.frame_times(out)) >= 15
