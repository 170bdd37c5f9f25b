"""Sound that goes along: the same packets at the same times, or the same sound in another codec."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdcam.media import soundtrack
from ssdcam.media.av import av
from ssdcam.media.containers import CONTAINERS, container_of
from ssdcam.media.soundtrack import open_soundtrack
from ssdcam.media.sources import FileSource
from ssdcam.media.video_writer import VideoWriter

from .clips import burst_time, film, frame_times, image, packets, sound, steady

HOLDS_TIMES = [".mp4", ".mov", ".mkv", ".webm"]
COPIES_AAC = [".mp4", ".mov", ".mkv"]


def codec_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.codec.canonical_name


def pass_on(source: Path, target: Path, count: int = 50, *, begins: float = 0.0, **wishes: Any) -> list[str]:
    """Write ``count`` frames at 25 a second from ``begins`` on, with the sound of ``source``; returns what was said."""
    said: list[str] = []
    ended = wishes.pop("ended", True)
    codec = CONTAINERS[target.suffix].codecs[0]
    with VideoWriter(
        target, width=96, height=64, rate=Fraction(25), codec=codec, audio_from=source, warn=said.append, **wishes
    ) as writer:
        for index, time in enumerate(steady(count)):
            writer.write(image(index), begins + time)
        writer.close(ended=ended)
    return said


def edit(path: Path, begins: list[float | None]) -> None:
    """Have an edit list's parts of the sound begin elsewhere in it, in seconds; None: with silence."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"elst") + 12
    for place, seconds in enumerate(begins):
        samples = -1 if seconds is None else 1024 + round(seconds * 48000)
        data[at + place * 12 + 4 : at + place * 12 + 8] = samples.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def audible(source: Path) -> list[tuple[float, bytes]]:
    return [(float(p.time), p.data) for p in packets(source, "audio") if p.time >= 0]


@pytest.mark.parametrize("suffix", COPIES_AAC)
@pytest.mark.parametrize("name", ["car-detection.mp4", "nasa-two-streams-audio.mp4"])
def test_real_sound_is_copied(tmp_path: Path, shared: Path, suffix: str, name: str) -> None:
    source, target = shared / "videos" / name, tmp_path / f"out{suffix}"
    with av.open(str(source)) as container:
        count = round(container.duration / 1e6 * 25)
    assert pass_on(source, target, count) == []
    given, got = packets(source, "audio"), packets(target, "audio")
    if suffix == ".mkv":  # knows nothing of what comes before time 0
        given = [packet for packet in given if packet.time >= 0]
    assert [packet.data for packet in got] == [packet.data for packet in given]
    np.testing.assert_allclose(
        [float(p.time) for p in got], [float(p.time) for p in given], rtol=0, atol=0.0006 if suffix == ".mkv" else 1e-9
    )
    assert frame_times(target)[0] == 0.0
    with av.open(str(source)) as a, av.open(str(target)) as b:
        assert b.streams.audio[0].language in {a.streams.audio[0].language, None}


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
@pytest.mark.parametrize(("video_begins", "sound_begins"), [(0.0, 0.0), (0.0, 0.6), (0.4, 0.0), (0.4, 0.6)], ids=str)
@pytest.mark.parametrize("container", [".mp4", ".mkv"])
def test_in_step(tmp_path: Path, suffix: str, video_begins: float, sound_begins: float, container: str) -> None:
    source = film(tmp_path / f"in{container}", video_begins=video_begins, sound_begins=sound_begins)
    target = tmp_path / f"out{suffix}"
    assert pass_on(source, target, begins=video_begins) == []
    assert frame_times(target)[0] == pytest.approx(video_begins, abs=0.001)
    assert burst_time(target) == pytest.approx(1.0, abs=0.01)
    if suffix in COPIES_AAC:
        given, got = audible(source), audible(target)
        assert [data for _, data in got] == [data for _, data in given]
        assert [time for time, _ in got] == pytest.approx([time for time, _ in given], abs=0.0011)


@pytest.mark.parametrize("sound_begins", [0.0, 0.6])
@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3", "pcm_s16le"])
def test_avi_keeps_in_step(tmp_path: Path, codec: str, sound_begins: float) -> None:
    source = film(tmp_path / "in.mkv", codec, sound_begins=sound_begins)
    assert pass_on(source, tmp_path / "out.avi") == []
    assert burst_time(tmp_path / "out.avi") == pytest.approx(1.0, abs=0.012)
    assert frame_times(tmp_path / "out.avi") == pytest.approx(steady(50))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_sound_that_is_encoded_for_avi_is_in_time(tmp_path: Path, rate: int) -> None:
    source = film(tmp_path / "in.mkv", "flac", rate=rate)
    assert pass_on(source, tmp_path / "out.avi") == []
    assert codec_of(tmp_path / "out.avi") == "mp3"
    assert burst_time(tmp_path / "out.avi") == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_last_packet_is_heard_where_no_duration_is_stated(tmp_path: Path, suffix: str) -> None:
    """As in Matroska, before FFmpeg 9."""
    source, target = film(tmp_path / "in.mkv", "alac"), tmp_path / f"out{suffix}"
    assert pass_on(source, target) == []
    assert codec_of(target) == "alac"
    assert len(sound(target)[0]) == len(sound(source)[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_hole_before_the_last_packet_makes_that_no_longer(tmp_path: Path, suffix: str) -> None:
    source, target = film(tmp_path / "in.mkv", "alac", seconds=4.0, hole=(1.0, 3.95)), tmp_path / f"out{suffix}"
    assert pass_on(source, target, 100) == []
    assert packets(target, "audio")[-1].time > 3.9
    with av.open(str(target)) as container:
        assert container.duration / 1e6 == pytest.approx(4.0, abs=0.1)


def test_a_clock_that_starts_anywhere(tmp_path: Path) -> None:
    """MPEG-TS begins at some time, and every packet of AAC has a header that MP4 does without."""
    source, target = film(tmp_path / "in.ts", video_begins=10.0, sound_begins=10.4, burst=11.0), tmp_path / "out.mp4"
    with av.open(str(source)) as container:
        origin = container.start_time / 1e6
    assert origin > 5
    assert pass_on(source, target, start=origin) == []
    given, got = packets(source, "audio"), packets(target, "audio")
    assert [p.data for p in got] == [p.data[7:] for p in given]
    assert [float(p.time) for p in got] == pytest.approx([float(p.time) - origin for p in given], abs=1e-4)
    assert burst_time(target) + origin == pytest.approx(burst_time(source), abs=0.001)


def joined(path: Path, count: int, *, seconds: float, burst: float, **wishes: Any) -> tuple[Path, float]:
    """Parts with the same clock, and how long after each part's first picture its burst is heard, in seconds."""
    part = film(path.with_name("part.ts"), seconds=seconds, burst=burst, **wishes)
    path.write_bytes(part.read_bytes() * count)
    return path, burst_time(part) - frame_times(part)[0]


def bursts(path: Path) -> list[float]:
    """When each burst of sound begins, in seconds, wherever there are holes in it."""
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.1)
            if loud.size and (not found or frame.time - found[-1] > 0.2):
                found.append(frame.time + float(loud[0]) / frame.sample_rate)
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
@pytest.mark.parametrize(("lasts", "late"), [(0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (0.0, 0.3)])
def test_sound_of_joined_parts_stays_beside_their_pictures(
    tmp_path: Path, suffix: str, seconds: float, lasts: float, late: float
) -> None:
    """Whether a part's sound ends with its pictures, later or earlier, and whether it begins with them."""
    source, after = joined(
        tmp_path / "in.ts", 3, seconds=seconds, sound_seconds=seconds + lasts - late, sound_begins=late, burst=0.5
    )
    with FileSource(source) as pictures:
        times = [frame.pts for frame in iter(pictures.read, None)]
        zero = pictures.origin
    count = round(seconds * 25)
    assert np.diff(times) == pytest.approx(0.04, abs=0.001)
    said = pass_on(source, tmp_path / f"out{suffix}", 3 * count, begins=times[0] - zero, start=zero)
    assert [line for line in said if "broken" in line] == []
    assert bool(said) == (lasts > 0)
    assert bursts(tmp_path / f"out{suffix}") == pytest.approx(
        [times[n * count] - zero + after for n in range(3)], abs=0.03
    )


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_joined_parts_lose_no_sound_that_ends_with_their_pictures(
    tmp_path: Path, seconds: float, b_frames: int
) -> None:
    """With B-frames a part's first picture is decoded before it is shown: the part before is heard until then."""
    source, _ = joined(tmp_path / "in.ts", 3, seconds=seconds, burst=0.5, b_frames=b_frames)
    with FileSource(source) as pictures:
        zero = pictures.origin
    assert pass_on(source, tmp_path / "out.mp4", round(3 * seconds * 25), start=zero) == []
    given, got = packets(source, "audio"), packets(tmp_path / "out.mp4", "audio")
    assert len(got) >= len(given) - 2  # sound comes in whole packets: at each joint, one reaches into the next part
    assert max(later.time - packet.time for packet, later in pairwise(got)) < 0.03


def test_the_next_part_is_heard_from_its_beginning(tmp_path: Path) -> None:
    """Where the sound of the one before has not ended by then."""
    source, after = joined(tmp_path / "in.ts", 3, seconds=1.0, sound_seconds=1.2, burst=0.08)
    begins = frame_times(source)[0]
    assert len(pass_on(source, tmp_path / "out.mp4", 75, start=begins)) == 1
    assert bursts(tmp_path / "out.mp4") == pytest.approx([n + after for n in range(3)], abs=0.03)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_start_and_end_in_joined_parts(tmp_path: Path, seconds: float) -> None:
    source, after = joined(tmp_path / "in.ts", 4, seconds=seconds, burst=0.5)
    with FileSource(source) as pictures:
        begins = pictures.begins
    start, end = begins + seconds + 0.2, begins + 3 * seconds + 0.2
    assert pass_on(source, tmp_path / "out.mp4", round(2 * seconds * 25), start=start, end=end) == []
    expected = [seconds * n + after - seconds - 0.2 for n in (1, 2)]
    assert bursts(tmp_path / "out.mp4") == pytest.approx(expected, abs=0.03)
    samples, first, rate = sound(tmp_path / "out.mp4")
    assert first + len(samples) / rate == pytest.approx(2 * seconds, abs=0.05)


def test_sound_and_pictures_leap_together(tmp_path: Path) -> None:
    """From one part to the next, by more than a pause may be, and one part has no sound of its own."""
    part, after = joined(tmp_path / "in.ts", 1, seconds=2.0, burst=0.5)
    later = film(tmp_path / "later.ts", seconds=2.0, burst=60.5, video_begins=60.0, sound_begins=60.0)
    silent = film(tmp_path / "silent.ts", seconds=2.0, sound_seconds=0.1)
    part.write_bytes(b"".join(path.read_bytes() for path in (part, later, silent, part)))
    with FileSource(part) as pictures:
        begins, zero = pictures.begins - pictures.origin, pictures.origin
    assert pass_on(part, tmp_path / "out.mp4", 200, start=zero) == []
    expected = [begins + after + time for time in (0, 2, 6)]
    assert bursts(tmp_path / "out.mp4") == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_joined_program_streams_in_which_few_packets_say_where_they_lie(tmp_path: Path, seconds: float) -> None:
    """As where several pictures are in one packet of the container, which is then that of all of them."""
    part = film(tmp_path / "part.mpg", "mp2", seconds=seconds, burst=0.5, pictures="mpeg2video")
    after = burst_time(part) - frame_times(part)[0]
    source = tmp_path / "in.mpg"
    source.write_bytes(part.read_bytes() * 3)
    with FileSource(source) as pictures:
        times = [frame.pts for frame in iter(pictures.read, None)]
        zero = pictures.origin
    assert [line for line in pass_on(source, tmp_path / "out.mp4", len(times), start=zero) if "broken" in line] == []
    count = round(seconds * 25)
    expected = [times[n * count] - zero + after for n in range(3)]
    assert bursts(tmp_path / "out.mp4") == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_joined_matroska_keeps_the_sound_of_both(tmp_path: Path, suffix: str, seconds: float) -> None:
    part = film(tmp_path / "part.mkv", seconds=seconds, burst=0.5, pictures="libx264", b_frames=2)
    source, target, count = tmp_path / "in.mkv", tmp_path / f"out{suffix}", round(2 * seconds * 25)
    source.write_bytes(part.read_bytes() * 2)
    with FileSource(source) as pictures:
        times = [frame.pts for frame in iter(pictures.read, None)]
    assert times == pytest.approx([i / 25 for i in range(count)], abs=0.001)
    assert [line for line in pass_on(source, target, count) if "broken" in line] == []
    assert bursts(target) == pytest.approx([0.5, seconds + 0.5], abs=0.03)
    start = seconds + 0.3
    assert pass_on(source, target, count - round(start * 25), start=start) == []
    assert bursts(target) == pytest.approx([0.2], abs=0.03)


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(("before", "last", "pause"), [(1.0, 500.0, 0.0), (3.0, 2.0, 3.0)])
def test_a_clock_that_runs_over_behind_a_joint(
    tmp_path: Path, b_frames: int, before: float, last: float, pause: float
) -> None:
    """MPEG's clock begins anew after 2^33 ticks, here in a part or in a pause; FFmpeg unwinds only the first part's."""
    over = 2**33 / 90_000
    parts = [
        film(path, seconds=2.0, video_begins=begins, sound_begins=begins, burst=begins + 0.5, b_frames=b_frames)
        for path, begins in (
            (tmp_path / "1.ts", 5.0),
            (tmp_path / "2.ts", over - before),
            (tmp_path / "3.ts", last),
        )
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    with FileSource(source) as pictures:
        times = [frame.pts for frame in iter(pictures.read, None)]
        zero = pictures.origin
    assert times[100] - times[99] == pytest.approx(0.04 + pause, abs=0.05)
    assert pass_on(source, tmp_path / "out.mkv", 150, start=zero) == []
    expected = [times[n] - zero + 0.5 for n in (0, 50, 100)]
    assert bursts(tmp_path / "out.mkv") == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_start_and_end(tmp_path: Path, suffix: str, codec: str) -> None:
    source, target = film(tmp_path / "in.mkv", codec, seconds=4.0, burst=2.5), tmp_path / f"out{suffix}"
    assert pass_on(source, target, start=2.0, end=3.0, count=25) == []
    assert burst_time(target) == pytest.approx(0.5, abs=0.01)
    samples, begins, rate = sound(target)
    assert begins == pytest.approx(0.0, abs=0.045)  # a packet, and what a decoder needs to begin with
    assert begins + len(samples) / rate == pytest.approx(1.0, abs=0.045)
    if codec_of(target) == codec:
        given = [p for p in packets(source, "audio") if 2.0 <= p.time < 3.0]
        assert [p.data for p in packets(target, "audio")] == [p.data for p in given]
        assert [float(p.time) for p in packets(target, "audio")] == pytest.approx([float(p.time) - 2 for p in given])


def test_start_is_found_by_seeking_or_reading(tmp_path: Path, shared: Path) -> None:
    source = shared / "videos/car-detection.mp4"
    pass_on(source, tmp_path / "out.mp4", start=20.0, end=21.0, count=25)
    given = [p.data for p in packets(source, "audio") if 20 <= p.time < 21]
    assert [p.data for p in packets(tmp_path / "out.mp4", "audio")] == given


def test_no_sound_between_start_and_end(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", sound_begins=1.5)
    assert pass_on(source, tmp_path / "out.mp4", end=1.0, count=25) == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_sound_outlasts_the_picture_unless_the_run_was_stopped(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / "in.mkv", seconds=2.0, sound_seconds=3.0)
    for ended, length in ((True, 3.0), (False, 2.0)):
        pass_on(source, tmp_path / f"out{suffix}", ended=ended)
        samples, begins, rate = sound(tmp_path / f"out{suffix}")
        assert begins + len(samples) / rate == pytest.approx(length, abs=0.045)


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_the_picture_outlasts_the_sound(tmp_path: Path, suffix: str) -> None:
    source, target = film(tmp_path / "in.mp4", seconds=4.0, sound_seconds=1.2), tmp_path / f"out{suffix}"
    assert pass_on(source, target, 100) == []
    assert len(frame_times(target)) == 100
    assert burst_time(target) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("codec", "suffix", "becomes"),
    [
        ("aac", ".mp4", "aac"),
        ("aac", ".webm", "opus"),
        ("libopus", ".webm", "opus"),
        ("libopus", ".mp4", "opus"),
        ("libopus", ".mov", "aac"),
        ("libmp3lame", ".mp4", "mp3"),
        ("libmp3lame", ".webm", "opus"),
        ("pcm_s16le", ".mp4", "aac"),
        ("pcm_s16le", ".mov", "pcm_s16le"),
        ("pcm_s16le", ".mkv", "pcm_s16le"),
        ("pcm_s16le", ".webm", "opus"),
        ("ac3", ".mp4", "ac3"),
        ("flac", ".mp4", "flac"),
        ("flac", ".mov", "aac"),
        ("alac", ".mov", "alac"),
        ("mp2", ".mkv", "mp2"),
    ],
)
def test_encoded_anew_only_where_it_must_be(tmp_path: Path, codec: str, suffix: str, becomes: str) -> None:
    source = film(tmp_path / "in.mkv", codec)
    target = tmp_path / f"out{suffix}"
    assert pass_on(source, target) == []
    assert codec_of(target) == becomes
    samples, begins, rate = sound(target)
    given, given_begins, given_rate = sound(source)
    assert begins + len(samples) / rate == pytest.approx(given_begins + len(given) / given_rate, abs=0.08)
    assert burst_time(target) == pytest.approx(burst_time(source), abs=0.012)
    assert len(frame_times(target)) == 50


@pytest.mark.parametrize(
    ("rate", "layout", "suffix"),
    [
        (44100, "stereo", ".webm"),  # Opus knows no 44100
        (96000, "stereo", ".mp4"),
        (22050, "mono", ".mp4"),
        (8000, "mono", ".webm"),
        (48000, "5.1", ".mp4"),
        (48000, "5.1", ".webm"),
        (48000, "5.1", ".avi"),  # MP3 has two channels
    ],
)
def test_rates_and_layouts_to_be_encoded(tmp_path: Path, rate: int, layout: str, suffix: str) -> None:
    source = film(tmp_path / "in.mkv", "pcm_s24le", rate=rate, layout=layout)
    target = tmp_path / f"out{suffix}"
    if suffix == ".avi":
        source = film(tmp_path / "in6.mkv", "flac", rate=rate, layout=layout)
    assert pass_on(source, target) == []
    assert burst_time(target) == pytest.approx(1.0, abs=0.05)
    with av.open(str(target)) as container:
        assert container.streams.audio[0].layout.nb_channels == {"mono": 1, "stereo": 2}.get(
            layout, 2 if suffix == ".avi" else 6
        )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("rate", "layout"), [(24000, "stereo"), (48000, "mono")])
def test_aac_whose_settings_change_is_left_out_while_they_do(
    tmp_path: Path, suffix: str, rate: int, layout: str
) -> None:
    first, second = film(tmp_path / "1.ts"), film(tmp_path / "2.ts", rate=rate, layout=layout)
    source = tmp_path / "in.ts"
    source.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    path = tmp_path / f"out{suffix}"
    with FileSource(source) as opened:
        begins = opened.begins
    (said,) = pass_on(source, path, 150, start=begins)
    assert said.startswith(f"{source}: from 2.0 s on its sound has other settings, and is left out while it has them")
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))  # all can be decoded
    times = [frame.time for frame in frames]
    assert times[-1] > 5.8
    assert not [time for time in times if 2.1 < time < 3.9]
    assert {frame.sample_rate for frame in frames} == {48000}


@pytest.mark.parametrize("suffix", [".webm", ".avi"])
@pytest.mark.parametrize(("rate", "layout"), [(48000, "mono"), (48000, "5.1"), (44100, "5.1")])
def test_a_layout_and_a_rate_that_change_on_the_way(tmp_path: Path, suffix: str, rate: int, layout: str) -> None:
    """As television's do from one programme to the next."""
    first = film(tmp_path / "1.ts", "eac3", burst=0.5)
    second = film(tmp_path / "2.ts", "eac3", rate=rate, layout=layout, burst=0.5)
    source, target = tmp_path / "in.ts", tmp_path / f"out{suffix}"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    with FileSource(source) as opened:
        begins = opened.begins
    assert pass_on(source, target, 100, start=begins) == []
    samples, start, out_rate = sound(target)
    assert len(samples) / out_rate == pytest.approx(4.0, abs=0.1)
    heard = start + np.flatnonzero(np.abs(samples) > 0.1) / out_rate
    assert heard[0] == pytest.approx(0.5, abs=0.02)
    assert heard[heard > 1][0] == pytest.approx(2.5, abs=0.04)


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_sound_that_an_edit_list_hides(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / "in.mp4", sound_begins=0.5, burst=0.75)
    edit(source, [None, 0.5])
    assert np.abs(sound(source)[0]).max() < 0.1, "the burst is in what is hidden"
    assert pass_on(source, tmp_path / f"out{suffix}") == []
    samples, begins, _ = sound(tmp_path / f"out{suffix}")
    assert begins == pytest.approx(0.5, abs=0.04)  # whole packets are copied
    assert np.abs(samples).max() < 0.1


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_sound_in_two_parts_of_an_edit_list(tmp_path: Path, suffix: str) -> None:
    """A decoder's run-up to the second part, which nobody hears, is not told of as broken."""
    source = film(tmp_path / "in.mp4", sound_begins=0.5, burst=1.25)
    edit(source, [1.0, 0.5])
    assert burst_time(source) == pytest.approx(0.75, abs=0.03)
    assert pass_on(source, tmp_path / f"out{suffix}") == []
    assert burst_time(tmp_path / f"out{suffix}") == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_a_clock_that_starts_hours_late(tmp_path: Path, suffix: str) -> None:
    """As of a recorder that came to a stream on its way: sound that is encoded anew has no hole before it."""
    source = film(tmp_path / "in.mkv", video_begins=5000.0, sound_begins=5000.0)
    assert pass_on(source, tmp_path / f"out{suffix}", begins=5000.0) == []
    samples, begins, rate = sound(tmp_path / f"out{suffix}")
    assert begins == pytest.approx(5000.0, abs=0.05)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_hole_becomes_silence(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / "in.mkv", "pcm_s16le", hole=(0.3, 0.8))
    target = tmp_path / f"out{suffix}"
    assert pass_on(source, target) == []
    assert burst_time(target) == pytest.approx(1.0, abs=0.02)


def test_read_no_further_than_the_picture(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", seconds=6.0)
    with av.open(str(tmp_path / "out.mkv"), "w") as output:
        track = open_soundtrack(source, output, container_of(Path("x.mkv")), start=0.0, end=None, warn=print)
        assert track is not None
        got: list[Any] = []
        for second in range(1, 6):
            got += track.until(float(second))
            assert track.next_time is not None
            assert second <= track.next_time < second + 0.05
        assert len(got) == sum(1 for p in packets(source, "audio") if 0 <= p.time < 5)
        track.close()
        assert list(track.until(99.0)) == []


def noise(index: int, data: bytes) -> bytes:
    return np.random.default_rng(index).integers(0, 256, len(data), np.uint8).tobytes()


def garbled(index: int, data: bytes) -> bytes:
    return noise(index, data) if 20 <= index < 40 else data


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_broken_sound_does_not_stop_the_picture(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / "in.mkv", "aac", damage=garbled, burst=1.2)
    target = tmp_path / f"out{suffix}"
    said = pass_on(source, target)
    assert len(frame_times(target)) == 50
    if suffix == ".webm":  # the others need not look into it
        assert len(said) == 1
        assert "broken packets of sound were left out" in said[0]
        assert burst_time(target) == pytest.approx(1.2, abs=0.03)
    else:
        assert said == []
        assert [data for _, data in audible(target)] == [data for _, data in audible(source)]


def test_all_of_it_broken(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", "aac", damage=noise)
    said = pass_on(source, tmp_path / "out.webm")
    assert [line for line in said if "its sound is left out, for all of it is broken" in line]
    assert len(frame_times(tmp_path / "out.webm")) == 50


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_a_source_that_is_cut_short(tmp_path: Path, suffix: str) -> None:
    whole = film(tmp_path / "in.mkv", seconds=4.0)
    source = tmp_path / "cut.mkv"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    target = tmp_path / f"out{suffix}"
    pass_on(source, target, 100)
    assert len(frame_times(target)) == 100
    assert burst_time(target) == pytest.approx(1.0, abs=0.01)


def test_sound_that_jumps_back_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    demux = av.container.InputContainer.demux

    class Stuck:
        """A container whose clock hangs for ten packets."""

        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def demux(self, stream: Any) -> Any:
            for number, packet in enumerate(demux(self._container, stream)):
                if packet.size and 30 <= number < 40:
                    packet.pts = packet.dts = 1000
                yield packet

    opened = av.open
    monkeypatch.setattr(
        av, "open", lambda file, *a, **k: (Stuck if file == f"file:{source}" else lambda c: c)(opened(file, *a, **k))
    )
    said = pass_on(source, target)
    monkeypatch.undo()
    assert len(said) == 1
    assert "10 broken packets of sound were left out" in said[0]
    assert len(packets(target, "audio")) == len(packets(source, "audio")) - 10


def test_no_sound_and_no_source(tmp_path: Path, shared: Path) -> None:
    assert pass_on(shared / "videos/bottle-detection.mp4", tmp_path / "silent.mp4", 5) == []
    (said,) = pass_on(tmp_path / "missing.mp4", tmp_path / "out.mp4", 5)
    assert said.endswith("missing.mp4: its sound is left out, for it cannot be read: No such file or directory")
    (tmp_path / "text.mp4").write_text("no video")
    (said,) = pass_on(tmp_path / "text.mp4", tmp_path / "out.mp4", 5)
    assert "text.mp4: its sound is left out, for it cannot be read: Invalid data" in said
    assert len(frame_times(tmp_path / "out.mp4")) == 5


@pytest.mark.parametrize("suffix", HOLDS_TIMES)
def test_sound_that_begins_behind_what_ffmpeg_looks_at(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / "in.ts", seconds=20.0, sound_seconds=4.0, sound_begins=15.0, burst=17.0)
    with av.open(str(source)) as container:
        assert container.streams.audio[0].codec_context.sample_rate == 0  # as an output could not take it
        zero = container.streams.video[0].start_time / 90_000
    target = tmp_path / f"out{suffix}"
    assert pass_on(source, target, 500, start=zero) == []
    assert burst_time(target) == pytest.approx(17.0, abs=0.05)


def test_sound_of_which_nothing_comes_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program's table names, and no packet says how it is coded."""
    source = film(tmp_path / "in.ts", seconds=20.0, sound_seconds=4.0, sound_begins=15.0)
    monkeypatch.setattr(soundtrack, "_LOOK_FAR", {})
    assert pass_on(source, tmp_path / "out.mp4") == [f"{source}: its sound is left out, for its kind is unknown"]
    assert len(frame_times(tmp_path / "out.mp4")) == 50


def test_packets_that_say_nothing_of_their_length(tmp_path: Path) -> None:
    """As Matroska's do where sound begins behind what FFmpeg looks at: each lasts until the next one."""
    source = film(tmp_path / "in.mkv", seconds=20.0, sound_seconds=4.0, sound_begins=15.0)
    with av.open(str(tmp_path / "out.mp4"), "w") as output:
        track = open_soundtrack(source, output, container_of(Path("x.mp4")), start=0.0, end=None, warn=print)
        assert track is not None
        got: list[Any] = list(track.until(100.0))
        track.close()
    for packet, following in pairwise(got):
        assert packet.dts + packet.duration == following.dts
    assert len(got) > 100
