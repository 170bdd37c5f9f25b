"""Videos that are written: what comes back when they are decoded, and what is on the disk meanwhile."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssdcam.errors import VideoError, WrongUsageError
from ssdcam.media.av import av
from ssdcam.media.sources import FileSource
from ssdcam.media.video_writer import VideoWriter

from .clips import boxes, film, frame_times, frames, image, index_of, packets, steady, write
from .test_containers import ALLOWED

FRAGMENTED = [".mp4", ".m4v", ".mov"]
ONE_EACH = [(".mp4", "h264"), (".mov", "h265"), (".mkv", "av1"), (".webm", "vp9"), (".avi", "mpeg4")]
TICK = {".mkv": 0.001, ".webm": 0.001}  # at most 1/30000 s elsewhere


@pytest.fixture
def clip(tmp_path: Path) -> Iterator[VideoWriter]:
    """A writer in the middle of its work: ten frames are in."""
    with VideoWriter(tmp_path / "clip.mp4", width=96, height=64, rate=Fraction(25)) as writer:
        for index, time in enumerate(steady(10)):
            writer.write(image(index), time)
        yield writer


@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
def test_every_codec_in_every_container(
    tmp_path: Path, suffix: str, codec: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, steady(12), codec=codec)
    back = frames(path)
    assert [index_of(picture) for _, picture in back] == list(range(12))
    # AVI does not say when frames are shown, and what PyAV makes up for H.264 is a frame late throughout.
    begins = back[0][0] if (suffix, codec) == (".avi", "h264") else 0.0
    np.testing.assert_allclose([time - begins for time, _ in back], steady(12), rtol=0, atol=1e-6)
    assert packets(path, "video")[-1].duration == Fraction(1, 25)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (96, 64)
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert next(container.decode(stream)).rotation == 0
        assert container.duration == pytest.approx(12 / 25 * 1e6, abs=1e6 / 25)
        if codec == "h264":
            assert stream.codec_context.profile in {"Constrained Baseline", "Main", "High"}
        if codec == "h265" and suffix in FRAGMENTED:
            assert stream.codec_context.codec_tag == "hvc1"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(25)])
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_avi_is_read_at_the_times_that_were_written(tmp_path: Path, codec: str, rate: Fraction) -> None:
    path = tmp_path / "out.avi"
    write(path, steady(12, rate), codec=codec, rate=rate)
    with FileSource(path) as source:
        own = {frame.pts: index_of(frame.image) for frame in iter(source.read, None)}
    capture, theirs = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), {}
    while (shown := capture.read())[0]:
        theirs[capture.get(cv2.CAP_PROP_POS_MSEC) / 1000] = index_of(np.asarray(shown[1], np.uint8))
    assert list(own) == list(theirs) == pytest.approx(steady(12, rate))
    assert list(own.values()) == list(theirs.values()) == list(range(12))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
def test_few_frames(tmp_path: Path, suffix: str, codec: str, count: int) -> None:
    """Fewer than encoders reorder or look ahead."""
    write(tmp_path / f"out{suffix}", steady(count), codec=codec)
    times = frame_times(tmp_path / f"out{suffix}")
    assert [time - times[0] for time in times] == pytest.approx(steady(count), abs=1e-6)
    assert times[0] == 0 or (suffix, codec) == (".avi", "h264")


@pytest.mark.parametrize(
    "rate", [Fraction(30000, 1001), Fraction(60000, 1001), Fraction(24000, 1001), Fraction(179, 6)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_frame_rates(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, steady(30, rate), rate=rate, codec="mpeg4" if suffix == ".avi" else "h264")
    times = sorted(packet.time for packet in packets(path, "video"))
    if suffix == ".mkv":
        assert all(abs(time - i / rate) <= Fraction(1, 2000) for i, time in enumerate(times))
    else:
        assert times == [i / rate for i in range(30)]
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
@pytest.mark.parametrize("stride", [1, 601])
def test_a_mean_rate_of_long_numbers(tmp_path: Path, suffix: str, codec: str, stride: int) -> None:
    """As of a minute from a telephone; what a stride leaves of it is beyond 32 bits."""
    path, rate = tmp_path / f"out{suffix}", Fraction(162090000, 5412131)
    times = [float(index * stride / rate) for index in range(3)]
    write(path, times, rate=rate, stride=stride, codec=codec)
    written = [packet.decoded if suffix == ".avi" else packet.time for packet in packets(path, "video")]
    assert sorted(map(float, written)) == pytest.approx(times, abs=0.001)


@pytest.mark.parametrize(("suffix", "codec"), [*ONE_EACH[:4], (".mp4", "mpeg4")])
def test_every_time_is_kept(tmp_path: Path, suffix: str, codec: str) -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum([0.0, *rng.choice([0.002, 0.0167, 0.04, 0.3, 1.7], 39)]).tolist()
    path = tmp_path / f"out{suffix}"
    write(path, times, codec=codec, rate=Fraction(len(times)) / Fraction(times[-1]).limit_denominator(1000))
    back = frames(path)
    assert [index_of(picture) for _, picture in back] == [index_of(image(i)) for i in range(40)]
    np.testing.assert_allclose([time for time, _ in back], times, rtol=0, atol=TICK.get(suffix, 1 / 30000) / 2 + 1e-9)


@pytest.mark.parametrize(
    ("ended", "ends", "shown"), [(True, 6.0, 5.0), (False, 6.0, 0.4), (True, 1.1, 0.2), (True, None, 0.2)]
)
@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
def test_the_last_frame_is_shown_until_the_source_ends(
    tmp_path: Path, suffix: str, codec: str, ended: bool, ends: float | None, shown: float
) -> None:
    """As in a slide show: for longer than any other; but if the run was stopped, for one frame at most."""
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, width=96, height=64, rate=Fraction(5), stride=2, codec=codec) as writer:
        for index, time in enumerate((0.0, 0.4, 1.0)):
            writer.write(image(index), time)
        writer.close(ended=ended, ends=ends)
    with av.open(str(path)) as container:
        lasts = container.duration / 1e6
    assert lasts == pytest.approx(1.2 if suffix == ".avi" else 1.0 + shown, abs=2e-3)
    assert len(frame_times(path)) == 3


def test_a_video_that_begins_late(tmp_path: Path) -> None:
    times = [1 / 3 + time for time in steady(10)]
    write(tmp_path / "out.mp4", times)
    assert frame_times(tmp_path / "out.mp4") == pytest.approx(times, abs=1e-5)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(times=st.lists(st.floats(-1, 3), min_size=1, max_size=20), suffix=st.sampled_from([".mp4", ".mkv", ".avi"]))
def test_times_rise_whatever_comes(tmp_path: Path, times: list[float], suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, times, codec="mpeg4" if suffix == ".avi" else "h264", warn=lambda line: None)
    stored = packets(path, "video")
    assert len(stored) == len(times)
    assert all(a < b for a, b in pairwise(sorted(p.time for p in stored)))
    assert all(a < b for a, b in pairwise([p.decoded for p in stored if p.decoded is not None]))


def test_avi_moves_what_is_off_the_beat_and_says_so_once(tmp_path: Path) -> None:
    said: list[str] = []
    write(tmp_path / "out.avi", [0, 0.04, 0.081, 0.13, 0.17], codec="mpeg4", warn=said.append)
    assert frame_times(tmp_path / "out.avi") == pytest.approx(steady(5))
    assert len(said) == 1
    assert "use .mp4 or .mkv" in said[0]


@pytest.mark.parametrize(("width", "height"), [(97, 64), (96, 63), (97, 63), (1, 1)])
@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_odd_sizes_repeat_the_last_pixel(tmp_path: Path, width: int, height: int, codec: str) -> None:
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[-1:] = picture[:, -1:] = 200
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width=width, height=height, rate=Fraction(25), codec=codec, crf=4) as writer:
        writer.write(picture, 0.0)
    ((_, back),) = frames(path)
    assert back.shape == (height + height % 2, width + width % 2, 3)
    expected = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    assert np.abs(back.astype(int) - expected).max() < 20


COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128), (255, 255, 255), (30, 200, 220), (0, 0, 0)]


@pytest.mark.parametrize(("suffix", "codec"), [*ALLOWED[:5], (".mov", "h264"), (".webm", "vp9"), *ALLOWED[-2:]])
@pytest.mark.parametrize("height", [240, 720])
def test_colours(tmp_path: Path, suffix: str, codec: str, height: int) -> None:
    """What is said of the colours is what was done: decoding by it gives them back."""
    path, width = tmp_path / f"out{suffix}", 32 * len(COLOURS)
    bars = np.repeat(np.repeat(np.array([COLOURS], np.uint8), 32, axis=1), height, axis=0)
    with VideoWriter(path, width=width, height=height, rate=Fraction(25), codec=codec) as writer:
        for time in steady(2):
            writer.write(bars, time)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        said = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
    if (suffix, codec) != (".avi", "mpeg4"):  # which cannot say
        assert said == ((1, 1, 1, 1) if height >= 720 else (6, 6, 6, 1))
    middle = frames(path)[0][1][height // 2, 16::32].astype(int)
    assert np.abs(middle - COLOURS).max() <= 7
    grey = middle[3]
    assert grey.max() - grey.min() <= 4  # no tint


def test_opencv_sees_the_same_colours(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [0.0], width=256, height=144)
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    there, back = capture.read()
    assert there
    assert np.abs(back.astype(int) - image(0, 256, 144)).mean() < 3


@pytest.mark.parametrize("suffix", FRAGMENTED)
def test_in_fragments_while_written_and_plain_when_closed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, width=96, height=64, rate=Fraction(25)) as writer:
        assert path.exists()
        playable = None
        for index, time in enumerate(steady(50)):
            writer.write(image(index), time)
            if playable is None and path.stat().st_size:
                playable = time
        assert playable is not None
        assert playable < 0.5
        assert {"moov", "moof"} <= set(boxes(path))
        assert 38 <= len(frame_times(path)) < 50
    assert [kind for kind in boxes(path) if kind not in {"free", "wide"}] == ["ftyp", "moov", "mdat"]
    assert frame_times(path) == pytest.approx(steady(50))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "h264"), (".webm", "vp9"), (".webm", "av1"), (".avi", "mpeg4")])
def test_plays_while_written(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, width=96, height=64, rate=Fraction(25), codec=codec) as writer:
        for index, time in enumerate(steady(200)):
            writer.write(image(index), time)
            # SVT-AV1 encodes in threads of its own, and on a busy machine lags behind.
            if index >= 49 and (played := len(frame_times(path))) >= 30:
                break
        assert 30 <= played <= index + 1
        assert codec == "av1" or index == 49
    assert len(frame_times(path)) == index + 1


def test_matroska_gets_its_duration_and_index(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    write(path, steady(300))
    with av.open(str(path)) as container:
        assert container.duration == 12_000_000
        container.seek(10_100_000)
        assert 5.0 < next(container.decode(video=0)).time <= 10.1
    assert b"\x1c\x53\xbb\x6b" in path.read_bytes()  # cues


def test_a_key_frame_at_least_every_five_seconds(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, rate=Fraction(25)) as writer:
        for time in steady(130):
            writer.write(image(0), time)
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [i for i, packet in enumerate(container.demux(video=0)) if packet.is_keyframe and packet.size]
    assert keys == [0, 125]


def test_quality_and_preset_reach_the_encoder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(10)]
    sizes = []
    for number, wishes in enumerate(({"crf": 18}, {}, {"crf": 40}, {"preset": "medium"})):
        path = tmp_path / f"{number}.mp4"
        with VideoWriter(path, width=96, height=64, rate=Fraction(25), **wishes) as writer:
            for picture, time in zip(noise, steady(10), strict=True):
                writer.write(picture, time)
        sizes.append(path.stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[3] != sizes[1]


@pytest.mark.parametrize("aspect", [Fraction(4, 3), pytest.param(Fraction(1, 2), marks=pytest.mark.slow)])
@pytest.mark.parametrize(("suffix", "codec"), ALLOWED)
def test_pixel_aspect(tmp_path: Path, suffix: str, codec: str, aspect: Fraction) -> None:
    warned: list[str] = []
    sound = film(tmp_path / "sound.mp4", seconds=0.4, burst=0.1)
    wishes: dict[str, Any] = {"codec": codec, "audio_from": sound, "warn": warned.append}
    path, square = tmp_path / f"out{suffix}", tmp_path / f"square{suffix}"
    write(path, steady(10), pixel_aspect=aspect, **wishes)
    write(square, steady(10), **wishes)
    cannot_say = suffix in (".mkv", ".webm") and codec in ("vp9", "av1")
    assert [f"{codec} cannot say the shape of pixels: use .mp4" in line for line in warned] == [True] * cannot_say
    with av.open(str(path)) as container:
        assert (container.streams.video[0].sample_aspect_ratio or 1) == (1 if cannot_say else aspect)
    for kind in ("video", "audio"):
        assert [packet.time for packet in packets(path, kind)] == [packet.time for packet in packets(square, kind)]
    assert [index_of(picture) for _, picture in frames(path)] == list(range(10))


def test_images_are_not_kept_and_may_be_views(tmp_path: Path) -> None:
    picture = np.zeros((64, 192, 3), np.uint8)
    with VideoWriter(tmp_path / "out.mkv", width=96, height=64, rate=Fraction(25), codec="mpeg4") as writer:
        for index, time in enumerate(steady(5)):
            picture[:, ::2] = image(index)
            writer.write(picture[:, ::2], time)
            picture[:] = 255
    assert [index_of(back) for _, back in frames(tmp_path / "out.mkv")] == list(range(5))


@pytest.mark.parametrize(
    "wrong", [np.zeros((64, 95, 3), np.uint8), np.zeros((64, 96), np.uint8), np.zeros((64, 96, 3), np.float32)]
)
def test_another_size_or_kind_of_image(clip: VideoWriter, wrong: NDArray[Any]) -> None:
    with pytest.raises(VideoError, match=r"clip.mp4: holds frames of 96x64, not \w+ \(64, "):
        clip.write(wrong, 1.0)
    clip.write(image(10), 0.4)
    clip.close()
    assert len(frame_times(clip.path)) == 11


def test_closed_is_closed(clip: VideoWriter) -> None:
    clip.close()
    before = clip.path.read_bytes()
    clip.close()
    clip.abort()
    with pytest.raises(VideoError, match="is closed already"):
        clip.write(image(0), 1.0)
    assert clip.path.read_bytes() == before


def test_an_exception_passes_and_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, width=96, height=64, rate=Fraction(25))
    for index, time in enumerate(steady(20)):
        writer.write(image(index), time)
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert frame_times(path) == pytest.approx(steady(20))
    assert "moof" not in boxes(path)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("codec", ["h264", "av1"])
@pytest.mark.parametrize("moment", [0.0, 0.001, 0.01, 0.05])
def test_a_stop_while_it_is_closed_takes_effect_when_it_is_whole(tmp_path: Path, codec: str, moment: float) -> None:
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, width=96, height=64, rate=Fraction(25), codec=codec)
    for index, time in enumerate(steady(60)):
        writer.write(image(index), time)
    stop = threading.Timer(moment, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])

    def close_and_stop() -> None:
        stop.start()
        writer.close()
        stop.join()  # where it is closed already

    with pytest.raises(KeyboardInterrupt):
        close_and_stop()
    writer.abort()
    assert writer.whole
    assert frame_times(path) == pytest.approx(steady(60))
    assert "moof" not in boxes(path)


def test_no_frame_no_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", width=96, height=64, rate=Fraction(25))
    with pytest.raises(VideoError, match="not one frame was written"):
        writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codec", ["h265", "av1"])
def test_too_small_for_the_encoder(tmp_path: Path, codec: str) -> None:
    """These encoders corrupt memory or hang where they should refuse."""
    with pytest.raises(VideoError, match="does not encode 48x48 pixels: it takes 64 a side at least"):
        VideoWriter(tmp_path / "out.mkv", width=48, height=48, rate=Fraction(25), codec=codec)
    assert not list(tmp_path.iterdir())


def test_what_the_encoder_refuses(tmp_path: Path) -> None:
    with pytest.raises(
        VideoError, match="mpeg4 does not encode 9000x64 pixels at 25 frames a second: Invalid argument"
    ):
        VideoWriter(tmp_path / "out.avi", width=9000, height=64, rate=Fraction(25), codec="mpeg4")


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(WrongUsageError, match=r"\.webm cannot hold h264"):
        VideoWriter(tmp_path / "out.webm", width=96, height=64, rate=Fraction(25))
    given = tmp_path / "in.mp4"
    write(given, steady(3))
    (tmp_path / "out.mp4").symlink_to(given)
    before = given.read_bytes()
    with pytest.raises(WrongUsageError, match="is the input itself"):
        VideoWriter(tmp_path / "out.mp4", width=96, height=64, rate=Fraction(25), audio_from=given)
    assert given.read_bytes() == before


def test_names_that_look_like_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rtsp:out.mp4", "-y.mp4", "50%03d.mp4", "naïve #1?.mkv"):
        write(Path(name), steady(3))
        assert len(frame_times(tmp_path / name)) == 3
    assert len(list(tmp_path.iterdir())) == 4


def test_overwrites_behind_a_link_and_keeps_the_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target.mp4", tmp_path / "link.mp4"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write(link, steady(5))
    assert link.is_symlink()
    assert len(frame_times(target)) == 5
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", steady(3))
    (tmp_path / "usual").touch()
    assert (tmp_path / "out.mp4").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_real_scene(tmp_path: Path, shared: Path) -> None:
    capture = cv2.VideoCapture(str(shared / "videos/car-detection.mp4"))
    scene = [capture.read()[1] for _ in range(60)][30:]
    for suffix, codec in ONE_EACH:
        path = tmp_path / f"out{suffix}"
        with VideoWriter(path, width=768, height=432, rate=Fraction(25, 2), codec=codec) as writer:
            for picture, time in zip(scene, steady(30, Fraction(25, 2)), strict=True):
                writer.write(picture, time)
        back = [picture for _, picture in frames(path)]
        error = np.mean([(a.astype(np.float32) - b) ** 2 for a, b in zip(scene, back, strict=True)])
        assert 10 * np.log10(255**2 / error) > 35, codec
