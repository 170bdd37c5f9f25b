"""What is refused before any work, and the unit of time."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.errors import WrongUsageError
from ssdcam.media import containers
from ssdcam.media.av import av
from ssdcam.media.containers import CODECS, CONTAINERS, PRESETS, TICKS, check_output, container_of, default_codec

PAIRS = [(suffix, codec) for suffix in CONTAINERS for codec in ("h264", "h265", "av1", "vp9", "mpeg4")]
ALLOWED = [(suffix, codec) for suffix, codec in PAIRS if codec in CONTAINERS[suffix].codecs]
REFUSED = [pair for pair in PAIRS if pair not in ALLOWED]


@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
def test_what_fits_passes_and_creates_nothing(tmp_path: Path, suffix: str, codec: str) -> None:
    check_output(tmp_path / f"out{suffix}", codec)
    check_output(tmp_path / f"out{suffix.upper()}", codec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "codec"), REFUSED)
def test_what_does_not_fit_names_what_does(tmp_path: Path, suffix: str, codec: str) -> None:
    with pytest.raises(WrongUsageError, match=f"cannot hold {codec}") as caught:
        check_output(tmp_path / f"out{suffix}", codec)
    line = str(caught.value)
    assert line.startswith(str(tmp_path / f"out{suffix}"))
    assert "\n" not in line
    assert CONTAINERS[suffix].codecs[0] in line.split("use ")[1]
    assert all(codec in CONTAINERS[word].codecs for word in line.split("one of ")[1].split(" for ")[0].split())


def test_refused_pairs() -> None:
    """The table itself: browsers' WebM, and AVI, which keeps no times."""
    assert REFUSED == [
        (".mov", "av1"),
        (".mov", "vp9"),
        (".webm", "h264"),
        (".webm", "h265"),
        (".webm", "mpeg4"),
        (".avi", "h265"),
        (".avi", "av1"),
        (".avi", "vp9"),
    ]


@pytest.mark.parametrize(
    ("name", "wishes", "says"),
    [
        ("out", {}, "the name says no kind of video file: use one of .mp4"),
        ("out.gif", {}, ".gif is no video file that can be written: use one of .mp4"),
        ("out.mp4", {"codec": "divx"}, "divx: no such video codec: use one of h264"),
        ("out.mp4", {"crf": 0}, "crf 0: h264 takes 1 .* to 51"),
        ("out.mp4", {"crf": 52}, "crf 52: h264 takes 1 .* to 51"),
        ("out.mp4", {"codec": "mpeg4", "crf": 32}, "mpeg4 takes 1 .* to 31"),
        ("out.mp4", {"preset": "placebo"}, "placebo: no such preset: use one of ultrafast"),
        ("missing/out.mp4", {}, "there is no folder .*missing"),
        ("folder.mp4", {}, "is a folder: name a file in it"),
        ("pipe.mp4", {}, "is no regular file"),
    ],
)
def test_refused(tmp_path: Path, name: str, wishes: dict[str, str], says: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(WrongUsageError, match=says) as caught:
        check_output(tmp_path / name, **{"codec": "h264", **wishes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crf", [1, 51, None])
def test_crf_in_range(tmp_path: Path, crf: int | None) -> None:
    check_output(tmp_path / "out.mp4", "h264", crf=crf)


def test_a_missing_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CODECS", {**CODECS, "h265": replace(CODECS["h265"], encoder="libgone")})
    with pytest.raises(WrongUsageError, match="h265: this PyAV was built without libgone: use h264"):
        check_output(tmp_path / "out.mp4", "h265")


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_nvenc_is_tried(tmp_path: Path, codec: str) -> None:
    trial = av.CodecContext.create(codec, "w")
    trial.width, trial.height, trial.pix_fmt, trial.framerate = 256, 256, "yuv420p", Fraction(25)
    try:
        trial.open()
    except av.FFmpegError:
        with pytest.raises(WrongUsageError, match=f"{codec}: no NVIDIA card here .* use {CODECS[codec].kind}"):
            check_output(tmp_path / "out.mp4", codec)
    else:
        check_output(tmp_path / "out.mp4", codec)


def test_default_codec() -> None:
    assert [default_codec(Path(f"out{suffix}")) for suffix in CONTAINERS] == [*["h264"] * 4, "vp9", "h264"]
    with pytest.raises(WrongUsageError):
        default_codec(Path("out.txt"))


@pytest.mark.parametrize("codec", CODECS)
def test_every_preset_fills_in_every_wish(codec: str) -> None:
    filled = [CODECS[codec].filled(crf=17, preset=preset, threads=3) for preset in PRESETS]
    assert not any("{" in value for options in filled for value in options.values())
    assert all("17" in options.values() for options in filled)
    assert len({tuple(options.items()) for options in filled}) >= (1 if codec == "mpeg4" else 5)


@given(st.fractions(Fraction(1, 10), 1000, max_denominator=1001))
def test_frames_hit_the_tick(rate: Fraction) -> None:
    tick = container_of(Path("out.mp4")).tick(rate)
    assert tick.numerator == 1  # which is all that MP4 can say
    assert 30_000 < tick.denominator <= TICKS
    assert (1 / rate / tick).denominator == 1 or rate.numerator > TICKS
    assert container_of(Path("out.avi")).tick(rate) == 1 / rate
    assert container_of(Path("out.mkv")).tick(rate) == Fraction(1, 1000)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_the_table_promises_no_more_than_ffmpeg_does(tmp_path: Path, suffix: str) -> None:
    container = CONTAINERS[suffix]
    output = av.open(str(tmp_path / "out"), "w", format=container.format)
    able = {av.Codec(name, "r").canonical_name for name in output.supported_codecs & decoders()}
    assert container.sound <= able
    encodable = {av.Codec(CODECS[kind].encoder, "w").canonical_name for kind in container.codecs}
    assert encodable <= able
    assert av.Codec(container.sound_encoder, "w").canonical_name in container.sound | {"aac"}


def decoders() -> set[str]:
    """The names that a decoder goes by."""
    names = set()
    for name in av.codecs_available:
        try:
            av.Codec(name, "r")
        except ValueError:
            continue
        names.add(name)
    return names
