"""What a video file says about itself, and what is left of that in another one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from ssdcam.media.av import av, open_to_read
from ssdcam.media.containers import CONTAINERS
from ssdcam.media.description import TEXTS, Chapter, Description, between, description_of
from ssdcam.media.video_writer import VideoWriter, read_comment

from .clips import frame_times, image, steady, write

ALL = {
    **{name: f"the {name}" for name in TEXTS},
    "creation_time": "2021-03-04T05:06:07.000000Z",
    "location": "+48.1250-011.5000/",
}
CHAPTERS = (
    Chapter(Fraction(0), Fraction(1), "beginning"),
    Chapter(Fraction(1), Fraction(3, 2), "Málaga"),
    Chapter(Fraction(3, 2), Fraction(9), ""),
)
NAMED = [(0, 1, "beginning"), (1, 1.5, "Málaga"), (1.5, 2, "3")]


def read(path: Path) -> Description:
    with open_to_read(f"file:{path}") as container:
        return description_of(container)


def in_seconds(path: Path) -> list[tuple[float, float, str]]:
    return [(float(each.begins), float(each.ends), each.title) for each in read(path).chapters]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_container_keeps_what_it_holds_and_tells_of_the_rest(tmp_path: Path, suffix: str) -> None:
    path, warned = tmp_path / f"out{suffix}", list[str]()
    write(
        path,
        steady(50),
        codec=CONTAINERS[suffix].codecs[0],
        ends=2.0,
        description=Description(ALL, CHAPTERS),
        warn=warned.append,
    )
    holds = CONTAINERS[suffix].texts
    kept = {name: text for name, text in ALL.items() if holds is None or name in holds}
    assert read(path).texts == kept
    assert in_seconds(path) == (NAMED if CONTAINERS[suffix].chapters else [])
    left_out = [*sorted(ALL.keys() - kept.keys()), *([] if CONTAINERS[suffix].chapters else ["chapters"])]
    assert warned == [f"{path}: {suffix} cannot hold the source's {', '.join(left_out)}"] * bool(left_out)
    assert frame_times(path) == pytest.approx(steady(50))
    with open_to_read(f"file:{path}") as container:
        assert container.duration == 2_000_000


def test_avi_has_the_time_of_recording_as_its_date(tmp_path: Path) -> None:
    path, warned = tmp_path / "out.avi", list[str]()
    description = Description({"creation_time": ALL["creation_time"]})
    write(path, steady(5), codec="mpeg4", description=description, warn=warned.append)
    assert read(path).texts == {"date": ALL["creation_time"]}
    assert not warned


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_two_comments_are_both_kept_however_long_one_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with open_to_read(f"file:{commented(tmp_path / 'in.mkv', 'é' * 100_000)}") as container:
        theirs = description_of(container)
    write(path, steady(3), codec=CONTAINERS[suffix].codecs[0], description=theirs, comment="ours")
    first, last = read_comment(path).split("\n")
    assert len(first) >= 10_000
    assert set(first) == {"é"}
    assert last == "ours"


def commented(path: Path, text: str) -> Path:
    write(path, steady(3), comment=text)
    return path


def test_a_video_that_was_stopped_has_no_chapters_behind_its_end(tmp_path: Path) -> None:
    """In MP4 they would make it longer than its pictures."""
    path = tmp_path / "out.mp4"
    with VideoWriter(
        path, width=96, height=64, rate=Fraction(25), ends=9.0, description=Description({}, CHAPTERS)
    ) as writer:
        for index, time in enumerate(steady(30)):
            writer.write(image(index), time)
        with open_to_read(f"file:{path}") as container:
            assert [stream.type for stream in container.streams] == ["video"], "fragments are for the pictures"
        writer.close(ended=False)
    assert in_seconds(path) == [(0, 1, "beginning"), (1, 1.2, "Málaga")]


def test_fragments_say_whose_they_are_before_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(
        path, width=96, height=64, rate=Fraction(25), description=Description(ALL), comment="ours"
    ) as writer:
        for index, time in enumerate(steady(50)):
            writer.write(image(index), time)
        assert read(path).texts["creation_time"] == ALL["creation_time"]
        assert read_comment(path) == "the comment\nours"


def test_what_cameras_call_them(tmp_path: Path) -> None:
    path = tmp_path / "phone.mov"
    apple = {"make": "Apple", "model": "iPhone", "location.ISO6709": "+48.1250-011.5000+500.000/"}
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({f"com.apple.quicktime.{name}": text for name, text in apple.items()})
        container.metadata["com.apple.quicktime.creationdate"] = "2021-03-04T06:06:07+0100"
        container.metadata["com.apple.quicktime.software"] = "17.1"
        container.add_stream("mpeg4", 25, width=64, height=48)
        container.start_encoding()
    assert read(path).texts == {
        "make": "Apple",
        "model": "iPhone",
        "location": "+48.1250-011.5000+500.000/",
        "date": "2021-03-04T06:06:07+0100",
    }


def test_rubbish_does_no_harm(tmp_path: Path) -> None:
    texts = {"creation_time": "yesterday", "location": "nowhere", "date": "??", "title": "\n"}
    for suffix in CONTAINERS:
        path = tmp_path / f"out{suffix}"
        write(
            path, steady(5), codec=CONTAINERS[suffix].codecs[0], description=Description(texts), warn=lambda line: None
        )
        assert len(frame_times(path)) == 5


@pytest.mark.parametrize(
    ("start", "end", "left"),
    [
        ("0", None, [("0", "1"), ("1", "3/2"), ("3/2", "9")]),
        ("1/2", "5/4", [("0", "1/2"), ("1/2", "3/4")]),
        ("1", "3/2", [("0", "1/2")]),
        ("-1", "2", [("1", "2"), ("2", "5/2"), ("5/2", "3")]),
        ("10", None, []),
    ],
)
def test_chapters_are_cut_with_the_pictures(start: str, end: str | None, left: list[tuple[str, str]]) -> None:
    found = between(CHAPTERS, Fraction(start), None if end is None else Fraction(end))
    assert [(each.begins, each.ends) for each in found] == [tuple(map(Fraction, each)) for each in left]


def test_chapters_in_a_damaged_file_may_be_at_any_time(tmp_path: Path) -> None:
    far = Fraction(2**63)
    chapters = (Chapter(-far, Fraction(1), "a"), Chapter(Fraction(1), far, "b"), Chapter(far, 2 * far, "c"))
    for suffix in (".mkv", ".mp4"):
        path = tmp_path / f"out{suffix}"
        write(path, steady(50), description=Description({}, chapters))
        assert [each.title for each in read(path).chapters] == ["a", "b"]


def test_chapters_within_others_follow_one_another() -> None:
    chapters = [Chapter(Fraction(a), Fraction(b), name) for a, b, name in ((0, 9, "all"), (0, 4, "a"), (3, 9, "b"))]
    found = [(each.begins, each.ends, each.title) for each in between(chapters, Fraction(0), None)]
    assert found == [(0, 3, "a"), (3, 9, "b")]
