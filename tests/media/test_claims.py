"""Outputs that one run at a time may write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssdcam.errors import VideoError
from ssdcam.media.claims import Claim, is_claimed, marker_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="marks bear a lock on POSIX only")

# Claims an output, says so, and is then killed or told to go on.
HOLDER = """
import sys
from pathlib import Path
from ssdcam.media.claims import Claim
with Claim(Path(sys.argv[1]), resumable=True) as claim:
    print("held", flush=True)
    sys.stdin.read()
    claim.finished = True
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "out.mp4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_has_finished(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert is_claimed(out)
    with pytest.raises(VideoError, match=r"out\.mp4: is being written by another run"):
        Claim(out, resumable=True)
    assert not is_claimed(tmp_path / "other.mp4")
    holder.communicate()
    assert not is_claimed(out)
    with Claim(out, resumable=True) as claim:
        claim.finished = True
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_held_is_free_and_known_to_be_unfinished(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.communicate()
    assert marker_of(tmp_path / "out.mp4").exists()
    assert not is_claimed(tmp_path / "out.mp4")
    with Claim(tmp_path / "out.mp4", resumable=True):
        assert is_claimed(tmp_path / "out.mp4")


@pytest.mark.parametrize(("resumable", "finished", "stays"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_the_mark_stays_where_a_later_run_needs_it(tmp_path: Path, resumable: bool, finished: bool, stays: int) -> None:
    with Claim(tmp_path / "new" / "out.mp4", resumable) as claim:
        claim.finished = finished
    assert len(list((tmp_path / "new").iterdir())) == stays
    Claim(tmp_path / "new" / "out.mp4", resumable).__exit__(None, None, None)  # it is free either way


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VideoError, match=r"out\.mp4: cannot be written"):
        Claim(tmp_path / "file" / "out.mp4", resumable=True)
