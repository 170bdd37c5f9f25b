"""``ssdcam video`` from outside: what comes in against what goes out, and how runs end."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssdcam.media.av import av
from ssdcam.media.claims import Claim
from ssdcam.media.video_writer import read_comment
from ssdcam.records import read_records
from ssdcam.records.record import to_json

from ..media import clips
from ..media.sources.videos import MILLISECOND, ORIENTATIONS, decoded_times, make_video, number_of, set_matrix, turn
from ..pictures import photo
from ..waiting import GUARD, finish, wait_until
from .commands import ssdcam
from .running import INSTALLED, STUBBED, one_line, records, run, start

QUICK = ("--preset", "ultrafast")

# A third of the smallest step between two frames here; Matroska counts in whole milliseconds.
CLOSE = 1.01e-3

SHARED = (
    "bottle-detection.mp4",
    "car-detection.mp4",
    "h265-small.mp4",
    "nasa-two-streams-audio.mp4",
    "one-by-one-person-detection.mp4",
    "rotated-90.mov",
)


def uneven(count: int) -> list[int]:
    """Times in milliseconds as a phone makes them: never the same step twice."""
    return np.cumsum([0, *np.random.default_rng(4).integers(5, 200, count - 1)]).tolist()


MADE: Mapping[str, Callable[[Path], Any]] = {
    "variable.mp4": lambda path: make_video(path, uneven(40), MILLISECOND),
    "variable.mkv": lambda path: make_video(path, uneven(40), MILLISECOND),
    "ntsc.mp4": lambda path: make_video(path, range(60), Fraction(1001, 30000), rate=Fraction(30000, 1001)),
    "ntsc-double.mkv": lambda path: make_video(path, range(90), Fraction(1001, 60000), rate=Fraction(60000, 1001)),
    "odd.mp4": lambda path: make_video(path, range(20), size=(97, 73), pixels="yuv444p"),
    "ten-bit.mp4": lambda path: make_video(path, range(20), pixels="yuv420p10le"),
    "shuffled.mkv": lambda path: make_video(path, range(50), b_frames=3),
    "transport.ts": lambda path: make_video(path, range(40), codec="mpeg2video", options={"b": "800000"}),
    "late.mp4": lambda path: make_video(path, range(15, 45)),
    "no-duration.mp4": lambda path: make_video(
        path, range(40), container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "sound-late.mp4": lambda path: clips.film(path, sound_begins=0.7, sound_seconds=1.2),
    "sound-late.mkv": lambda path: clips.film(path, sound_begins=0.7, sound_seconds=1.2),
    "sound-first.mp4": lambda path: clips.film(path, video_begins=0.7),
    "sound-first.mkv": lambda path: clips.film(path, video_begins=0.7),
}


@pytest.fixture(params=[*SHARED, *MADE])
def any_video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Every video that there is and that is whole."""
    if request.param in MADE:
        path = tmp_path / request.param
        MADE[request.param](path)
        return path
    shared: Path = request.getfixturevalue("shared")
    return shared / "videos" / request.param


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Forty numbered frames, 30 a second."""
    return make_video(tmp_path / "clip.mp4", range(40))


def sounds(path: Path) -> list[tuple[float, bytes]]:
    """Packets of the first sound: times in seconds, and what is in them."""
    try:
        return [(float(packet.time), packet.data) for packet in clips.packets(path, "audio")]
    except IndexError:
        return []


def duration(path: Path) -> float:
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / 1e6


# What goes in comes out.


def test_frames_times_and_sound_are_kept(any_video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / f"result{'.mkv' if any_video.suffix == '.mkv' else '.mp4'}"
    out.parent.mkdir()
    done = run("video", any_video, "-o", out, "--json", "--no-fps", *QUICK)
    assert done.returncode == 0
    assert "tracks left out: " in one_line(done.stderr) if "two-streams" in any_video.name else done.stderr == ""
    expected = decoded_times(any_video)

    found = records(done.stdout)
    assert [record["frame"] for record in found] == list(range(len(expected)))
    np.testing.assert_allclose([record["time"] for record in found], expected, rtol=0, atol=1e-6)
    assert {record["source"] for record in found} == {str(any_video)}
    assert len({json.dumps(record["detections"]) for record in found}) > len(found) / 50, "it looks at one frame only"

    times = clips.frame_times(out)
    assert len(times) == len(expected)
    heard, kept = sounds(any_video), sounds(out)
    assert [data for _, data in kept] == [data for _, data in heard]
    # Times are the input's own, however late pictures or sound begin; only a transport stream's clock is reset.
    shift = min([expected[0], *(at for at, _ in heard[:1])]) if any_video.suffix == ".ts" else 0.0
    np.testing.assert_allclose(times, np.subtract(expected, shift), rtol=0, atol=CLOSE)
    np.testing.assert_allclose([at for at, _ in kept], [at - shift for at, _ in heard], rtol=0, atol=CLOSE)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        record = found[0]
        size = record["width"] + record["width"] % 2, record["height"] + record["height"] % 2
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.width, stream.codec_context.height) == size
        assert len(container.streams.audio) == (1 if heard else 0)


@pytest.mark.parametrize("name", ["car-detection.mp4", "h265-small.mp4", "rotated-90.mov", "bottle-detection.mp4"])
def test_duration_is_kept(shared: Path, tmp_path: Path, name: str) -> None:
    """Of files whose first video is the longest thing in them."""
    source, out = shared / "videos" / name, tmp_path / "out.mp4"
    assert run("video", source, "-o", out, "--json", "--no-fps", *QUICK).returncode == 0
    with av.open(str(source)) as container:
        frame = float(1 / container.streams.video[0].average_rate)
    assert duration(out) == pytest.approx(duration(source), abs=frame)


def test_a_raw_stream_has_times_all_the_same(tmp_path: Path) -> None:
    source = make_video(tmp_path / "raw.h264", range(30), Fraction(1, 25), rate=25)
    done = run("video", source, "-o", tmp_path / "out.mp4", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    steps = np.diff([record["time"] for record in records(done.stdout)])
    assert len(steps) == 29
    assert (steps > 0).all()
    assert len(clips.frame_times(tmp_path / "out.mp4")) == 30


def test_pictures_stay_in_order_and_upright(tmp_path: Path, clip: Path) -> None:
    turn(clip, 1)
    out = tmp_path / "out.mp4"
    done = run("video", clip, "-o", out, "--no-fps", "--no-labels", "--line-width", "1", "--score", "1", "--crf", "10")
    assert done.returncode == 0
    pictures = [picture for _, picture in clips.frames(out)]
    assert {picture.shape for picture in pictures} == {(96, 72, 3)}
    assert [number_of(np.rot90(picture)) for picture in pictures] == list(range(40))


@pytest.mark.parametrize("quarter_turns", [0, 1])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.avi", "vp9.mp4"])
def test_it_is_shown_in_the_same_shape(tmp_path: Path, name: str, quarter_turns: int) -> None:
    source = make_video(tmp_path / "wide.mp4", range(10), size=(96, 72), pixel_aspect=Fraction(4, 3))
    turn(source, quarter_turns)
    out = tmp_path / name
    codec = ("--codec", out.stem) if out.stem != "out" else ()
    done = run("video", source, "-o", out, "--json", *codec, *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    size = (72, 96) if quarter_turns else (96, 72)
    assert {(record["width"], record["height"]) for record in records(done.stdout)} == {size}, "as stored"
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == size
        assert stream.sample_aspect_ratio == (Fraction(3, 4) if quarter_turns else Fraction(4, 3))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mirrored_videos_come_out_upright(tmp_path: Path, clip: Path, orientation: str) -> None:
    matrix, upright = ORIENTATIONS[orientation]
    _, stored = clips.frames(clip)[5]
    set_matrix(clip, *matrix)
    out = tmp_path / "out.mp4"
    assert run("video", clip, "-o", out, "--no-fps", "--score", "1", "--crf", "5").returncode == 0
    _, written = clips.frames(out)[5]
    assert np.abs(written.astype(int) - upright(stored)).max() < 40


def test_what_is_found_is_drawn(tmp_path: Path, clip: Path) -> None:
    """Where nothing is found the picture stays as it is; else it does not."""
    source = [picture.astype(int) for _, picture in clips.frames(clip)]
    changed = {}
    for score in ("0.5", "1"):
        out = tmp_path / f"{score}.mp4"
        assert run("video", clip, "-o", out, "--score", score, "--no-fps", "--crf", "5").returncode == 0
        pairs = zip(source, clips.frames(out), strict=True)
        changed[score] = sum(np.abs(before - after).max() > 100 for before, (_, after) in pairs)
    assert changed["1"] == 0
    assert changed["0.5"] > 10


def test_figures_are_drawn_unless_told_not_to(tmp_path: Path, clip: Path) -> None:
    for name, options in (("with", ()), ("without", ("--no-fps",))):
        assert run("video", clip, "-o", tmp_path / f"{name}.mp4", "--score", "1", *options).returncode == 0
    shown, plain = (clips.frames(tmp_path / f"{name}.mp4")[-1][1].astype(int) for name in ("with", "without"))
    assert np.abs(shown - plain).max() > 50


# What is no video, or not a whole one.


def damaged(path: Path) -> Path:
    make_video(path, range(200), options={"g": "10"}, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_truncated_file_gives_what_is_there(tmp_path: Path, name: str) -> None:
    source, out = damaged(tmp_path / name), tmp_path / f"out{Path(name).suffix}"
    done = run("video", source, "-o", out, "--json", "--no-fps", "--score", "1", "--crf", "10")
    assert done.returncode == 1
    assert name in one_line(done.stderr)
    found = records(done.stdout)
    assert 50 < len(found) < 200
    assert [record["frame"] for record in found] == list(range(len(found)))
    numbers = [number_of(picture) for _, picture in clips.frames(out)]
    assert len(numbers) == len(found)
    assert numbers[:-10] == list(range(len(numbers) - 10)), "only what lies at the cut may be spoilt"


def test_a_corrupted_file_gives_what_can_be_decoded(shared: Path, tmp_path: Path) -> None:
    source, out = shared / "videos/corrupted.mp4", tmp_path / "out.mp4"
    done = run("video", source, "-o", out, "--json", "--stats", tmp_path / "stats.json")
    assert done.returncode == 1
    assert "corrupted.mp4" in one_line(done.stderr)
    found = records(done.stdout)
    assert len(found) == len(decoded_times(source)) == len(clips.frame_times(out)) > 0
    assert json.loads((tmp_path / "stats.json").read_text())["frames"] == len(found)


def no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        container.start_encoding()


NO_VIDEOS: Mapping[str, Callable[[Path], Any]] = {
    "empty.mp4": lambda path: path.touch(),
    "text.mp4": lambda path: path.write_text("This is no video.\n" * 100),
    "no-frames.mkv": no_frames,
    "noise.mp4": lambda path: path.write_bytes(np.random.default_rng(0).bytes(50_000)),
    "missing.mp4": lambda path: None,
}


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    NO_VIDEOS[name](tmp_path / name)
    done = run("video", tmp_path / name, "-o", tmp_path / "out.mp4", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert name in one_line(done.stderr)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("url", ["https://example.org/clip.mp4", "rtsp://me:s3cret@10.0.0.7/live"])
def test_a_stream_is_sent_to_webcam(tmp_path: Path, clip: Path, url: str) -> None:
    done = run("video", clip, url, "-o", tmp_path / "out/")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a stream, not a file: use ssdcam webcam " + url.split("//")[0] in one_line(done.stderr)
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("several", [False, True])
def test_a_picture_is_sent_to_image(tmp_path: Path, clip: Path, several: bool) -> None:
    """FFmpeg would make a video of one frame of it."""
    picture = photo(tmp_path / "a b.jpg")
    inputs, out = ((picture, clip), "out/") if several else ((picture,), "out.mp4")
    done = run("video", *inputs, "-o", out, cwd=tmp_path)
    assert done.returncode == 1
    assert one_line(done.stderr) == (
        f"error: {picture}: is no video, but by its name a picture: use ssdcam image '{picture}'"
    )
    assert (tmp_path / out).exists() == several


def test_a_picture_that_moves_is_a_video(tmp_path: Path) -> None:
    film = make_video(tmp_path / "moves.apng", range(3), codec="apng", pixels="rgb24")
    done = run("video", film.rename(tmp_path / "moves.png"), "--json")
    assert (done.returncode, len(records(done.stdout))) == (0, 3)


def test_an_animated_webp_is_sent_to_image(tmp_path: Path) -> None:
    path = tmp_path / "moves.webp"
    pictures = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 100, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    done = run("video", path, "--json")
    assert done.returncode == 1
    told = "a WebP that cannot be decoded as a video: ssdcam image looks at its first picture"
    assert one_line(done.stderr) == f"error: {path}: {told}"
    assert run("image", path, "--json").returncode == 0


def test_interlaced_video_is_told_of(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", range(10), options={"x264-params": "tff=1"})
    done = run("video", path, "-o", tmp_path / "out.mp4", "--json")
    assert done.returncode == 0
    assert "in.mp4: is interlaced" in one_line(done.stderr)
    assert run("video", path, "--json").stderr == ""


def test_no_figures_of_nothing(tmp_path: Path) -> None:
    done = run("video", tmp_path / "missing.mp4", "-o", tmp_path / "out.mp4")
    assert (done.returncode, done.stdout) == (1, "")
    assert "missing.mp4" in one_line(done.stderr)


def test_quiet_says_nothing_but_prints_records(tmp_path: Path, clip: Path) -> None:
    done = run("video", clip, "-o", tmp_path / "out.mp4", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(records(run("video", clip, "--json", "-q").stdout)) == 40


def test_one_input_goes_to_a_file_unless_a_folder_is_named(tmp_path: Path, clip: Path) -> None:
    done = run("video", clip, "-o", tmp_path / "noext")
    assert (done.returncode, done.stdout) == (2, "")
    assert "noext: " in one_line(done.stderr)
    assert ".mp4 .m4v .mov .mkv .webm .avi" in done.stderr
    assert not (tmp_path / "noext").exists()
    for folder in ("noext/", "noext", "deep/with.mp4/"):
        assert run("video", clip, "-o", f"{tmp_path}/{folder}", "-y", "--max-frames", "2").returncode == 0
        assert len(clips.frame_times(tmp_path / folder / clip.name)) == 2


def test_a_bad_one_among_good_ones(tmp_path: Path, clip: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    shutil.copy(clip, tmp_path / "c.mkv")  # whatever the name says
    NO_VIDEOS["text.mp4"](tmp_path / "b.mp4")
    inputs = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mkv")]
    done = run("video", *inputs, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    assert "b.mp4" in one_line(done.stderr)
    assert [record["source"] for record in records(done.stdout)] == [str(inputs[0])] * 40 + [str(inputs[2])] * 40
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == ["a.mp4", "c.mkv"]
    assert all(len(clips.frame_times(tmp_path / "out" / name)) == 40 for name in ("a.mp4", "c.mkv"))


def test_a_quoted_glob_and_a_folder(tmp_path: Path, clip: Path) -> None:
    shutil.copy(clip, tmp_path / "other.F4V")
    (tmp_path / "notes.txt").write_text("not looked at")
    for inputs in ("*.[mF]*", "."):
        done = run("video", inputs, "--json", "--max-frames", "3", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        names = [Path(record["source"]).name for record in records(done.stdout)]
        assert names == ["clip.mp4"] * 3 + ["other.F4V"] * 3


# Which frames.


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (("--start", "0.5"), range(15, 40)),
        (("--end", "0.5"), range(15)),
        (("--start", "0.2", "--end", "0.8"), range(6, 24)),
        (("--start", "00:00.2", "--end", "0:0:0.8"), range(6, 24)),
        (("--stride", "3"), range(0, 40, 3)),
        (("--max-frames", "7"), range(7)),
        (("--start", "0.5", "--stride", "4", "--max-frames", "5"), range(15, 35, 4)),
        (("--batch", "4"), range(40)),
        (("--batch", "64", "--max-frames", "3"), range(3)),
    ],
    ids=str,
)
def test_parts_of_a_video(tmp_path: Path, clip: Path, options: tuple[str, ...], frames: range) -> None:
    out = tmp_path / "out.mp4"
    done = run("video", clip, "--json", "-o", out, "--no-fps", "--score", "1", "--crf", "10", *options)
    assert (done.returncode, done.stderr) == (0, "")
    found = records(done.stdout)
    assert [record["frame"] for record in found] == list(frames)
    assert [record["time"] for record in found] == pytest.approx([index / 30 for index in frames], abs=1e-3)
    pictures = clips.frames(out)
    assert [number_of(picture) for _, picture in pictures] == list(frames)
    # The output begins at its first frame, or at --start.
    assert [at for at, _ in pictures] == pytest.approx([(i - frames[0]) / 30 for i in frames], abs=CLOSE)


@pytest.mark.parametrize(
    "name", ["out.mp4", "out.mkv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("out.mov", "out.webm"))]
)
@pytest.mark.parametrize("options", [("--stride", "1000"), ("--stride", "7"), ("--stride", "30", "--end", "1.1")])
def test_the_last_frame_lasts_no_longer_than_in_the_source(
    tmp_path: Path, clip: Path, name: str, options: tuple[str, ...]
) -> None:
    assert run("video", clip, "-o", tmp_path / name, *options).returncode == 0
    assert duration(tmp_path / name) == pytest.approx(1.1 if "--end" in options else 40 / 30, abs=2e-3)


def test_a_stride_through_a_video_of_unknown_length(tmp_path: Path) -> None:
    source = make_video(tmp_path / "raw.h264", range(30), Fraction(1, 25), rate=25)
    assert run("video", source, "-o", tmp_path / "out.mp4", "--stride", "1000").returncode == 0
    assert duration(tmp_path / "out.mp4") == pytest.approx(30 / 25, abs=2e-3)  # known when it was read


def test_sound_is_cut_with_the_pictures(tmp_path: Path) -> None:
    source, out = clips.film(tmp_path / "film.mp4", burst=1.0), tmp_path / "out.mp4"
    assert run("video", source, "-o", out, "--start", "0.6", "--end", "1.6").returncode == 0
    assert clips.burst_time(out) == pytest.approx(0.4, abs=0.005)
    samples, begins, rate = clips.sound(out)
    assert begins + len(samples) / rate == pytest.approx(1.0, abs=0.05)
    assert len(clips.frame_times(out)) == 25


def test_joined_recordings_are_cut_where_they_are_asked_to(tmp_path: Path) -> None:
    """Three, whose clocks begin anew, at a time that is not 0; each has a sound half a second behind its beginning."""
    part = clips.film(tmp_path / "part.ts", seconds=3.0, burst=0.5)
    source, out = tmp_path / "joined.ts", tmp_path / "out.mp4"
    source.write_bytes(part.read_bytes() * 3)
    after = clips.burst_time(part) - clips.frame_times(part)[0]
    everything = records(run("video", source, "--json").stdout)
    assert [record["frame"] for record in everything] == list(range(225))
    with av.open(str(source)) as container:
        origin = container.start_time / 1e6
    for first in (4, 75, 150):
        start, end = (str(round(everything[index]["time"] - origin, 6)) for index in (first, first + 20))
        done = run("video", source, "--json", "-o", out, "-y", "--start", start, "--end", end)
        assert (done.returncode, done.stderr) == (0, "")
        assert records(done.stdout) == everything[first : first + 20]
        heard = clips.burst_time(out)
        assert heard == pytest.approx(after - first % 75 / 25, abs=0.03)


@pytest.mark.parametrize(
    ("source_name", "begins", "name"),
    [("in.flv", 1234, "out.mp4"), ("in.mkv", 1.7e9, "out.mkv"), ("in.mp4", 1.7e9, "out.avi")],
)
def test_a_recording_whose_clock_had_run_before(tmp_path: Path, source_name: str, begins: float, name: str) -> None:
    """As recorders of streams write it: the output begins with it, and --start and --end count from there."""
    times = {"video_begins": begins, "sound_begins": begins, "burst": begins + 3.0}
    source = clips.film(tmp_path / source_name, seconds=4.0, pictures="libx264", b_frames=2, **times)
    out = tmp_path / name
    done = run("video", source, "--json", "-o", out)
    everything = records(done.stdout)
    assert done.returncode == 0
    assert [record["time"] for record in everything] == pytest.approx([begins + i / 25 for i in range(100)], abs=0.001)
    shown = clips.frame_times(out)
    assert (len(shown), shown[0]) == (100, pytest.approx(0.0, abs=0.1))
    assert clips.burst_time(out) == pytest.approx(3.0, abs=0.05)
    # Sound may begin a packet before the pictures, as an encoder's run-up does: it is counted from there.
    done = run("video", source, "--json", "-o", out, "-y", "--start", "2.51", "--end", "3.51")
    assert (done.returncode, records(done.stdout)) == (0, everything[63:88])
    assert len(clips.frame_times(out)) == 25
    assert clips.burst_time(out) == pytest.approx(0.49, abs=0.05)


def test_batches_change_nothing(tmp_path: Path, shared: Path, tiny_model: Path) -> None:
    """With a real network, in the command as it is installed."""
    video = shared / "videos/h265-small.mp4"
    lines = [
        run("video", video, "--json", "-m", tiny_model, "--score", "0.3", "--batch", batch, command=INSTALLED)
        for batch in (1, 4)
    ]
    assert [(done.returncode, done.stderr) for done in lines] == [(0, "")] * 2
    one, four = (records(done.stdout) for done in lines)
    assert len(one) == len(four) == 10
    assert sum(len(record["detections"]) for record in one) > 10
    for a, b in zip(one, four, strict=True):
        for found, other in zip(a.pop("detections"), b.pop("detections"), strict=True):
            assert found.pop("score") == pytest.approx(other.pop("score"), abs=2e-4)
            assert found.pop("box") == pytest.approx(other.pop("box"), abs=0.05)
            assert found == other
        assert a == b


def test_real_objects_in_a_real_video(shared: Path, coco_tflite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    options = ("-m", coco_tflite, "--classes", "bottle", "--start", "1", "--max-frames", "12", "--json")
    options += ("--engine", "torch")
    done = run("video", shared / "videos/bottle-detection.mp4", "-o", out, *options, command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    found = records(done.stdout)
    assert [record["frame"] for record in found] == list(range(30, 42))
    assert {each["label"] for record in found for each in record["detections"]} == {"bottle"}
    assert all(record["detections"] for record in found)
    assert len(clips.frame_times(out)) == 12


# Where results go.


@pytest.mark.parametrize("target", ["r.jsonl", "r.csv", "r.json", "voc:boxes", "yolo:boxes"])
def test_records_read_back_as_they_were_printed(tmp_path: Path, clip: Path, target: str) -> None:
    done = run("video", clip.name, "--json", "--records", target, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    printed = records(done.stdout)
    assert any(record["detections"] for record in printed)
    assert not all(record["detections"] for record in printed)
    prefix, _, name = target.partition(":")
    place = f"{prefix}:{tmp_path / name}" if name else str(tmp_path / target)
    back = [to_json(record) for record in read_records(place)]
    if target == "r.csv":  # a row a detection: frames without any have none
        printed = [record for record in printed if record["detections"]]
    assert len(back) == len(printed)
    for one, other in zip(back, printed, strict=True):
        assert (one["frame"], one["width"], one["height"]) == (other["frame"], other["width"], other["height"])
        if "time" in one:
            assert one["time"] == pytest.approx(other["time"], abs=1e-6)
        for found, expected in zip(one["detections"], other["detections"], strict=True):
            assert (found["label"], found["class_id"]) == (expected["label"], expected["class_id"]) or prefix == "voc"
            assert found["label"] == expected["label"]
            assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
            assert found["box"] == pytest.approx(expected["box"], abs=0.02)


def test_jsonl_is_what_json_prints(tmp_path: Path, clip: Path) -> None:
    done = run("video", clip, "--json", "--records", tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == done.stdout


@pytest.mark.parametrize("command", ["image", "video"])
def test_older_records_stay_where_nothing_could_be_read(tmp_path: Path, command: str) -> None:
    older = tmp_path / "r.jsonl"
    older.write_text("dear to me")
    (tmp_path / "text.mp4").write_text("no video")
    done = run(command, tmp_path / "missing.mp4", tmp_path / "text.mp4", "--records", older, "-y")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert older.read_text() == "dear to me"


def test_crops(tmp_path: Path, clip: Path) -> None:
    done = run("video", clip, "--json", "--crops", tmp_path / "crops")
    count = sum(len(record["detections"]) for record in records(done.stdout))
    names = [path.name for path in (tmp_path / "crops").iterdir()]
    assert len(names) == count > 40
    assert all(name.startswith("clip_0000") and name.endswith(".jpg") for name in names)


def test_stats_are_as_promised(tmp_path: Path, clip: Path) -> None:
    stats, lines = tmp_path / "stats.json", tmp_path / "lines.jsonl"
    done = run("video", clip, "-o", tmp_path / "out.mp4", "--stats", stats, "--records", lines)
    assert done.returncode == 0
    boxes = sum(len(record["detections"]) for record in records(lines.read_text()))
    assert re.match(rf"40 frames in .*; {boxes} boxes\n", done.stdout)
    figures = json.loads(stats.read_text())
    assert list(figures) == [
        "frames", "dropped", "wall_s", "fps", "latency_ms", "stages_ms", "model", "engine", "precision", "device"
    ]  # fmt: skip
    assert (figures["frames"], figures["dropped"]) == (40, 0)
    assert figures["fps"] == pytest.approx(40 / figures["wall_s"], rel=0.05)
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"]
    assert list(figures["latency_ms"]) == ["p50", "p95"]
    assert list(figures["stages_ms"]) == ["decode", "preprocess", "inference", "postprocess", "draw", "encode"]
    assert all(isinstance(value, float) and value > 0 for value in figures["stages_ms"].values())
    assert (figures["engine"], figures["precision"], figures["device"]) == ("stub", "fp32", "cpu")
    assert isinstance(figures["model"], str)


@pytest.mark.parametrize(
    ("codec", "name", "holds"),
    [
        ("h264", "out.mp4", "h264"),
        (None, "out.webm", "vp9"),
        (None, "out.avi", "h264"),
        ("h265", "out.mov", "hevc"),
        ("mpeg4", "out.mkv", "mpeg4"),
        ("av1", "out.mp4", "libdav1d"),
        ("h264", "out.webm", None),
        ("vp9", "out.avi", None),
        ("theora", "out.mkv", None),
        (None, "out.gif", None),
    ],
)
def test_codecs_and_containers(tmp_path: Path, clip: Path, codec: str | None, name: str, holds: str | None) -> None:
    out = tmp_path / name
    done = run("video", clip, "-o", out, *(("--codec", codec) if codec else ()), "--max-frames", "8")
    if holds is None:
        assert (done.returncode, done.stdout) == (2, "")
        one_line(done.stderr)
        assert not out.exists()
        return
    assert (done.returncode, done.stderr) == (0, "")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == holds
        assert sum(1 for _ in container.decode(stream)) == 8


def with_second_sound(source: Path, path: Path) -> Path:
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        video, sound = (made.add_stream_from_template(stream) for stream in given.streams)
        second = made.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux():
            if packet.size:
                data, times = bytes(packet), (packet.pts, packet.dts, packet.time_base)
                for stream in [video] if packet.stream.type == "video" else [sound, second]:
                    copy = av.Packet(data)
                    copy.pts, copy.dts, copy.time_base = times
                    copy.stream = stream
                    made.mux(copy)
    return path


def test_tracks_that_are_left_out_are_told(tmp_path: Path) -> None:
    source = with_second_sound(clips.film(tmp_path / "film.mp4"), tmp_path / "two.mkv")
    said = {}
    for options in ((), ("-q",), ("--no-audio",)):
        done = run("video", source, "-o", tmp_path / "out.mp4", "-y", *options)
        assert done.returncode == 0
        said[options] = done.stderr
    line = f"warning: {source}: the output holds the first video and sound; tracks left out: 1 audio\n"
    assert said == {(): line, ("-q",): "", ("--no-audio",): ""}
    assert run("video", source, "--json").stderr == "", "nothing is left out of records"


def test_every_kind_of_track_that_is_left_out(shared: Path, tmp_path: Path) -> None:
    source = shared / "videos/nasa-two-streams-audio.mp4"
    done = run("video", source, "-o", tmp_path / "out.mp4", "--max-frames", "3")
    assert one_line(done.stderr).endswith("tracks left out: 1 video, 1 audio, 2 subtitle")


@pytest.mark.parametrize(("name", "kind"), [("a.mov", "timecode"), ("a.mkv", "attachment"), ("chapters.mp4", None)])
def test_what_cameras_and_studios_add_is_told(tmp_path: Path, name: str, kind: str | None) -> None:
    """But not the track that MP4 has for chapters, which are kept."""
    with av.open(str(tmp_path / name), "w") as container:
        container.metadata.update({"timecode": "01:02:03:04"} if kind == "timecode" else {})
        if kind is None:
            chapter = {"id": 1, "start": 0, "end": 1, "time_base": Fraction(1), "metadata": {"title": "a"}}
            container.set_chapters([chapter])
        stream = container.add_stream("mpeg4", 25, width=64, height=48)
        if kind == "attachment":
            container.add_attachment("font.ttf", "font/ttf", b"letters")
        for index in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(clips.image(index, 64, 48), "bgr24")))
        container.mux(stream.encode(None))
    done = run("video", tmp_path / name, "-o", tmp_path / "out.mp4")
    line = f"warning: {tmp_path / name}: the output holds the first video and sound; tracks left out: 1 {kind}\n"
    assert (done.returncode, done.stderr) == (0, line if kind else "")


def described(source: Path, path: Path, comment: str = "") -> Path:
    """The same video, recorded some time and somewhere, with chapters of half a second."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        made.metadata.update(title="A walk", creation_time="2021-03-04T05:06:07.000000Z", location="+48.1250-011.5000/")
        made.metadata["comment"] = comment
        made.set_chapters(
            [
                {"id": n, "start": n, "end": n + 1, "time_base": Fraction(1, 2), "metadata": {"title": f"part {n}"}}
                for n in range(3)
            ]
        )
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    return path


def chapters(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (
                float(each["start"] * each["time_base"]),
                float(each["end"] * each["time_base"]),
                each["metadata"]["title"],
            )
            for each in container.chapters()
        ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_title_date_place_and_chapters_are_kept(tmp_path: Path, clip: Path, suffix: str) -> None:
    source, out = described(clip, tmp_path / "walk.mp4"), tmp_path / f"out{suffix}"
    done = run("video", source, "-o", out)
    assert (done.returncode, done.stderr) == (0, "")
    with av.open(str(out)) as container:
        said = {name.lower(): text for name, text in container.metadata.items()}
    assert said["title"] == "A walk"
    assert said["creation_time"] == "2021-03-04T05:06:07.000000Z"
    assert said["location"] == "+48.1250-011.5000/"
    end = pytest.approx(40 / 30, abs=1e-3)
    assert chapters(out) == [(0, 0.5, "part 0"), (0.5, 1, "part 1"), (1, end, "part 2")]
    assert run("video", source, "-o", out, "-y", "--start", "0.7", "--end", "1.1").returncode == 0
    times = [time for begins, ends, _ in chapters(out) for time in (begins, ends)]
    assert times == pytest.approx([0, 0.3, 0.3, 0.4], abs=2e-3)
    assert [name for _, _, name in chapters(out)] == ["part 1", "part 2"]


def test_a_comment_is_kept_and_resume_still_knows_its_own(tmp_path: Path, clip: Path) -> None:
    source, out, again = (
        described(clip, tmp_path / "walk.mp4", "With Ada\nand Max"),
        tmp_path / "out",
        tmp_path / "again",
    )
    for given, folder in ((source, out), (out / source.name, again)):
        for said in ("40 frames in ", "1 of 1 already done\n"):
            assert run("video", given, "-o", f"{folder}/", "--resume").stdout.startswith(said)
        assert re.fullmatch(r"With Ada\nand Max\nssdcam options \w+ input \w+", read_comment(folder / source.name))
    done = run("video", source, "-o", f"{out}/", "--resume", "--score", "0.4")
    assert f"{out / source.name}: was not made of this video with these options" in one_line(done.stderr)


def test_no_audio(tmp_path: Path) -> None:
    source, out = clips.film(tmp_path / "film.mp4"), tmp_path / "out.mp4"
    assert run("video", source, "-o", out, "--no-audio").returncode == 0
    assert sounds(source)
    assert not sounds(out)


# Wrong usage.


def test_nothing_to_do_with_results(clip: Path) -> None:
    done = run("video", clip)
    assert (done.returncode, done.stdout) == (2, "")
    assert "display" in one_line(done.stderr)


def test_a_window_without_a_display_is_left_out_if_there_is_something_else(clip: Path) -> None:
    done = run("video", clip, "--show", "--json")
    assert done.returncode == 0
    assert len(records(done.stdout)) == 40
    assert "warning: there is no display" in one_line(done.stderr)


@pytest.mark.parametrize("target", ["out.mp4", "r.jsonl"])
def test_what_exists_is_not_overwritten_unasked(tmp_path: Path, clip: Path, target: str) -> None:
    path = tmp_path / target
    path.write_text("dear to me")
    option = "-o" if target == "out.mp4" else "--records"
    done = run("video", clip, option, path)
    assert done.returncode == 2
    assert target in one_line(done.stderr)
    assert path.read_text() == "dear to me"
    assert run("video", clip, option, path, "-y").returncode == 0
    assert path.read_bytes()[:10] != b"dear to me"


@pytest.mark.parametrize("way", ["same", "link", "folder"])
def test_the_input_is_never_overwritten(tmp_path: Path, clip: Path, way: str) -> None:
    before = clip.read_bytes()
    out = {"same": clip, "link": tmp_path / "link.mp4", "folder": tmp_path}[way]
    if way == "link":
        out.symlink_to(clip)
    done = run("video", clip, *((tmp_path / "clip.mp4",) if way == "folder" else ()), "-o", out, "-y")
    assert done.returncode == 2
    assert "input itself" in one_line(done.stderr)
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("--start", "abc"),
        ("--start", "5", "--end", "2"),
        ("--stride", "0"),
        ("--crf", "99", "-o", "out.mp4"),
        ("--preset", "sloth", "-o", "out.mp4"),
        ("--stats", "no/such/stats.json"),
        ("-o", "no/such/out.mp4"),
        ("-o", ""),
        ("--records", "r.xml"),
        ("--records", "r.json", "--stats", "./r.json"),
        ("-o", "out.mp4", "--stats", "out.mp4"),
        ("--resume",),
    ],
    ids=str,
)
def test_wrong_usage(tmp_path: Path, clip: Path, options: tuple[str, ...]) -> None:
    done = run("video", clip, "--json", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    one_line(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == [clip.name]


# Resuming, and readers that leave early.


def test_resume_after_a_kill(tmp_path: Path) -> None:
    names = ["a.mp4", "b.mp4", "c.mp4"]
    for name in names:
        make_video(tmp_path / name, range(100))
    command = ("video", *(tmp_path / name for name in names), "-o", tmp_path / "out", "--resume")
    outputs = [tmp_path / "out" / name for name in names]
    process = start(*command, env={"SSDCAM_STUB_SLEEP": "0.1"})
    wait_until(outputs[1].exists, process)
    process.kill()
    finish(process)
    assert outputs[0].exists()
    assert not outputs[2].exists()
    finished = outputs[0].stat().st_mtime_ns

    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"1 of 3 already done\n200 frames in ", done.stdout)
    assert outputs[0].stat().st_mtime_ns == finished
    assert [len(clips.frame_times(out)) for out in outputs] == [100] * 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names, "markers stay behind"
    assert run(*command).stdout == "3 of 3 already done\n", "a third run has nothing left to do"


@pytest.mark.parametrize("suffix", [".mp4", *(pytest.param(one, marks=pytest.mark.slow) for one in (".mkv", ".avi"))])
def test_resume_notices_other_options(tmp_path: Path, clip: Path, suffix: str) -> None:
    source = shutil.copy(clip, tmp_path / f"in{suffix}")
    out = tmp_path / "out" / source.name
    command = ("video", source, "-o", f"{out.parent}/", "--resume")
    half = ("--end", "0.5")
    assert run(*command, *half).returncode == 0
    before = out.read_bytes()
    others = (("--score", "0.4"), ("--crf", "30"), ("--precision", "fp32"))
    for changed in (("--end", "0.6"), (), *((*half, *other) for other in others)):
        done = run(*command, *changed)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{out}: was not made of this video with these options" in one_line(done.stderr)
    assert run(*command, *half, "--batch", "2").stdout == "1 of 1 already done\n"
    assert out.read_bytes() == before

    done = run(*command, "--end", "0.6", "-y")
    assert done.returncode == 0
    assert f"{out}: was not made of this video with these options" in one_line(done.stderr)
    assert len(clips.frame_times(out)) == 18
    assert run(*command, "--end", "0.6").stdout == "1 of 1 already done\n"


def test_resume_notices_another_video_of_that_name(tmp_path: Path, clip: Path) -> None:
    """One that was copied, or touched, is the same."""
    source, out = tmp_path / "in.mp4", tmp_path / "out" / "in.mp4"
    shutil.copy(clip, source)
    command = ("video", source, "-o", f"{out.parent}/", "--resume")
    assert run(*command).returncode == 0
    shutil.copy(clip, source)
    assert run(*command).stdout == "1 of 1 already done\n"
    make_video(source, range(7))
    done = run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{out}: was not made of this video with these options" in one_line(done.stderr)
    assert run(*command, "-y").returncode == 0
    assert len(clips.frame_times(out)) == 7


def test_resume_notices_another_model(tmp_path: Path, clip: Path) -> None:
    """By what is in the file, not by its name."""
    model, out = tmp_path / "model", tmp_path / "out"
    out.mkdir()
    results = []
    for content in ("one", "one", "other"):
        model.write_text(content)
        results.append(run("video", clip, "-m", model, "-o", out, "--resume"))
    assert [done.returncode for done in results] == [0, 0, 2]
    assert results[1].stdout == "1 of 1 already done\n"


def test_resume_takes_no_file_of_another_program_for_its_own(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "out").mkdir()
    other = shutil.copy(clip, tmp_path / "out" / clip.name)
    done = run("video", clip, "-o", other.parent, "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert other.read_bytes() == clip.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="outputs are locked on POSIX only")
def test_two_runs_never_write_the_same_output(tmp_path: Path, clip: Path) -> None:
    out, other = tmp_path / "out.mp4", tmp_path / "folder" / clip.name
    with Claim(out, resumable=False), Claim(other, resumable=True):
        for command in (("-o", out), ("-o", other.parent, "-y"), ("-o", other.parent, "--resume")):
            done = run("video", clip, *command)
            assert (done.returncode, done.stdout) == (2, "")
            assert "is being written by another run" in one_line(done.stderr)
        assert not out.exists()
        shutil.copy(clip, tmp_path / "second.mp4")
        for option in ("-y", "--resume"):
            done = run("video", clip, tmp_path / "second.mp4", "-o", other.parent, option)
            assert done.returncode == 1
            assert f"{other}: is being written by another run" in one_line(done.stderr)
        assert not other.exists()
        assert len(clips.frame_times(other.with_name("second.mp4"))) == 40
    assert run("video", clip, "-o", out).returncode == 0


def test_resume_asks_about_what_another_program_left(tmp_path: Path, clip: Path) -> None:
    """Without --resume, the unfinished is as precious as anything else."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / clip.name).write_text("something else")
    done = run("video", clip, clip.parent, "-o", tmp_path / "out")
    assert done.returncode == 2
    one_line(done.stderr)


@pytest.mark.parametrize("with_output", [False, True])
def test_a_reader_that_has_enough(tmp_path: Path, with_output: bool) -> None:
    """`ssdcam video --json | head -1` ends quietly; a file that is written besides is written to its end."""
    source, out = make_video(tmp_path / "long.mp4", range(600)), tmp_path / "out.mp4"
    output = ("-o", out, "--score", "1", "--no-fps", "--crf", "10") if with_output else ()
    process = start("video", source, "--json", *output, env={"SSDCAM_STUB_SLEEP": "0.003"})
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    try:
        assert process.wait(GUARD) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stderr.close()
    if with_output:
        assert [number_of(picture) for _, picture in clips.frames(out)] == list(range(600))


def test_the_installed_command_is_the_same(tmp_path: Path, clip: Path, tiny_model: Path) -> None:
    """The stub stands for the detector alone: the same command line goes through with a real one."""
    out, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    options = ("-o", out, "--json", "--stats", stats, "-m", tiny_model, "--score", "0.3", "--max-det", "5")
    options += ("--engine", "torch", "--precision", "fp32")
    done = run("video", clip, *options, command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(record["detections"]) for record in records(done.stdout)] == [5] * 40
    assert clips.frame_times(out) == pytest.approx([index / 30 for index in range(40)], abs=CLOSE)
    figures = json.loads(stats.read_text())
    assert (figures["frames"], figures["engine"], figures["precision"]) == (40, "torch", "fp32")
    assert figures["model"] == str(tiny_model)
    assert STUBBED != INSTALLED


def test_times_that_leave_no_frame_leave_an_older_output_alone(shared: Path, coco_tflite: Path, tmp_path: Path) -> None:
    video = shared / "videos/h265-small.mp4"
    older = tmp_path / "out.mp4"
    older.write_bytes(b"older")
    run = ssdcam("video", video, "-m", coco_tflite, "-o", older, "-y", "--start", "3000")
    assert run.code == 1
    assert "no frame between the times" in run.err
    assert older.read_bytes() == b"older"
