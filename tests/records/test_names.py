"""File names after sources: safe, and never one for two."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.records.names import FileNames, files_in, plain_stem

from .samples import any_text, record


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("photos/dog.jpg", "dog"),
        ("a.tar.gz", "a.tar"),
        ("my photo (1).jpeg", "my photo (1)"),
        ("собака.png", "собака"),
        (r"C:\photos\dog.jpg", "dog"),
        ("photos/", "photos"),
        ("0", "0"),
        ("/dev/video0", "video0"),
        ("rtsp://cam.local:554/live/stream1", "stream1"),
        ("rtsp://user:pass@10.0.0.7:554", "10.0.0.7_554"),
        ("http://host/", "host"),
        ("https://host/v.mp4?token=s3cret#t=1", "v"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("...", "unnamed"),
        ("a/..\\..", "unnamed"),
        (".hidden", "hidden"),
        ("a:b*c?.jpg", "a_b_c_"),
        ("line\nbreak\0\x1b.jpg", "line_break__"),
        (b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "caf_"),
        ("con.jpg", "_con"),
        ("LPT1.jpg", "_LPT1"),
        ("console.jpg", "console"),
    ],
)
def test_plain_names(source: str, stem: str) -> None:
    assert plain_stem(source) == stem


@pytest.mark.parametrize("password", ["s3cret", "s3/cret", "s3?cret", "s3#cret", "s3@cret", "s3:cret"])
@pytest.mark.parametrize("path", ["", "/", "/live", "/live?x=s3cret"])
def test_no_part_of_a_password_gets_into_a_name(password: str, path: str) -> None:
    stem = plain_stem(f"rtsp://admin:{password}@cam{path}")
    assert stem == ("live" if "live" in path else "cam")


def test_frames_have_numbers_of_six_digits_or_more() -> None:
    names = FileNames()
    given_names = [names.name(record("v.mp4", frame=i)) for i in (0, 17, 1_234_567)]
    assert given_names == ["v_000000", "v_000017", "v_1234567"]


def test_the_first_of_a_name_keeps_it_and_later_ones_get_a_digest_that_never_changes() -> None:
    sources = ["a/dog.jpg", "b/dog.jpg", "b/DOG.png", "a/dog.jpg"]
    names = FileNames()
    assert [names.name(record(source)) for source in sources] == ["dog", "dog-71fe291e", "DOG-98c03a92", "dog"]


def test_names_alike_in_unicode_are_alike() -> None:
    names = FileNames()
    assert names.name(record("caf\u00e9.jpg")) == "caf\u00e9"
    assert names.name(record("cafe\u0301.jpg")) != "cafe\u0301"


def test_reserved_names_are_left_alone() -> None:
    assert FileNames(["classes"]).name(record("Classes.jpg")).startswith("Classes-")


@pytest.mark.parametrize("picture_first", [True, False])
def test_a_picture_that_looks_like_a_frame_and_the_frame_stay_apart(picture_first: bool) -> None:
    names = FileNames()
    both = [record("v_000007.jpg"), record("v.mp4", frame=7)]
    assert len({names.name(one) for one in (both if picture_first else both[::-1])}) == 2


def test_numbered_pictures_keep_their_names() -> None:
    names = FileNames()
    assert [names.name(record(f"f/v_{i:06d}.jpg")) for i in range(3)] == ["v_000000", "v_000001", "v_000002"]


paths = st.lists(st.sampled_from(["a", "A", "b", "a_000001", "/", ".jpg", ".", "*"]), max_size=4).map("".join)


@given(st.lists(st.tuples(st.one_of(paths, any_text), st.sampled_from([None, 1, 2])), max_size=8))
def test_different_moments_never_share_a_name_and_every_name_is_safe(moments: list[tuple[str, int | None]]) -> None:
    kinds: dict[str, bool] = {}
    moments = [(s, f) for s, f in moments if kinds.setdefault(s, f is None) == (f is None)]
    names = FileNames()
    given_names = {moment: names.name(record(moment[0], frame=moment[1])) for moment in moments}
    assert len({name.casefold() for name in given_names.values()}) == len(given_names)
    for name in given_names.values():
        assert 0 < len(name.encode()) <= 255 - len("_1234567.xml")
        assert not name.startswith(".")
        assert not set(name) & set('/\\:*?"<>|\0\n\r')


@pytest.mark.parametrize("letter", ["x", "ф", "魚", "🐟"])
def test_long_names_are_cut_between_letters_and_fit_every_disk(letter: str, tmp_path: Path) -> None:
    names = FileNames()
    both = {names.name(record(f"{letter * 1000}{i}.jpg", frame=1_234_567)) for i in range(2)}
    assert len(both) == 2
    for name in both:
        assert name.startswith(letter * (180 // len(letter.encode())))
        (tmp_path / f"{name}.xml").touch()


def test_files_are_ordered_as_people_count_and_hidden_ones_left_out(tmp_path: Path) -> None:
    for name in ("a_10.txt", "a_9.txt", "a_009.txt", ".b.txt", "c.xml", "a.txt", "².txt"):
        (tmp_path / name).touch()
    found = [path.name for path in files_in(tmp_path, ".txt")]
    assert [name for name in found if "9" not in name] == ["a.txt", "a_10.txt", "².txt"]
    assert found.index("a_9.txt") < found.index("a_10.txt")
    assert found.index("a_009.txt") < found.index("a_10.txt")
