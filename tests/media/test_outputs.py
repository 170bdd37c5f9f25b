"""Which file becomes which."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssdcam.errors import WrongUsageError
from ssdcam.media.images import Picture
from ssdcam.media.outputs import check_targets
from ssdcam.media.video_outputs import plan_videos


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "done.mp4"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_those_that_exist_are_told_in_order(files: Path) -> None:
    pairs = [(files / "a.mp4", files / "new.mp4"), (files / "b.mp4", files / "done.mp4")]
    assert check_targets(pairs) == [files / "done.mp4"]
    assert check_targets([]) == []


def test_two_for_one_are_refused(files: Path) -> None:
    with pytest.raises(WrongUsageError, match=r"a\.mp4 and .*b\.mp4 would both become .*x\.mp4"):
        check_targets([(files / "a.mp4", files / "x.mp4"), (files / "b.mp4", files / "x.mp4")])


@pytest.mark.parametrize(
    ("names", "advice"),
    [(("a/x.MTS", "b/x.mp4"), "give their common folder as a quoted glob"), (("a/x.MTS", "a/x.mp4"), "rename one")],
)
def test_two_for_one_are_told_what_helps(tmp_path: Path, names: tuple[str, str], advice: str) -> None:
    """A glob keeps folders apart, but not what lies in one."""
    videos = [Picture(tmp_path / name, Path(Path(name).name)) for name in names]
    jobs = plan_videos(videos, str(tmp_path / "out"), several=True)
    with pytest.raises(WrongUsageError, match=rf"would both become .*x\.mp4: {advice}"):
        check_targets((job.path, job.target) for job in jobs if job.target)


def test_the_same_pair_twice_is_one(files: Path) -> None:
    assert check_targets([(files / "a.mp4", files / "done.mp4")] * 2) == [files / "done.mp4"]


@pytest.mark.parametrize("way", ["same", "detour", "symlink", "hard link"])
def test_an_input_is_never_its_own_output(files: Path, way: str) -> None:
    target = files / "link.mp4"
    if way == "symlink":
        target.symlink_to(files / "a.mp4")
    elif way == "hard link":
        target.hardlink_to(files / "a.mp4")
    else:
        target = {"same": files, "detour": files / ".." / files.name}[way] / "a.mp4"
    with pytest.raises(WrongUsageError, match="is the input itself"):
        check_targets([(files / "a.mp4", target)])


def test_a_missing_input_is_not_its_business(files: Path) -> None:
    assert check_targets([(files / "gone.mp4", files / "done.mp4")]) == [files / "done.mp4"]


def test_a_video_that_is_named_twice_is_written_once(tmp_path: Path) -> None:
    video = Picture(tmp_path / "a.mp4", Path("a.mp4"))
    jobs = plan_videos([video, video], str(tmp_path / "out"), several=True)
    assert [job.target for job in jobs] == [tmp_path / "out" / "a.mp4"]
