"""Files that are damaged, cut short, or no videos at all: all that can be decoded is given, then one line says what is
wrong."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.errors import SourceError
from ssdcam.media.av import av
from ssdcam.media.sources import FileSource
from ssdcam.media.sources.whole import is_cut_short, shows_cuts
from ssdcam.media.video_writer import VideoWriter

from .videos import decoded_times, make_video, number_of, numbered, packets_of, spoil

ALL_KEYS = {"x264-params": "keyint=1"}


def numbers(frames):
    return [number_of(frame.image) for frame in frames]


def test_a_real_damaged_video(videos_folder, read_all):
    path = videos_folder / "corrupted.mp4"
    frames, error = read_all(FileSource(path))
    # 50 packets, the one shown at 3.0 s broken
    assert [round(f.pts, 3) for f in frames] == [n / 10 for n in range(50) if n != 30]
    assert [f.index for f in frames] == list(range(49))
    assert str(error) == f"{path}: damaged: 1 of 50 frames could not be decoded"


@pytest.mark.parametrize("kind", ["avi", "mkv", "mp4"])
def test_a_title_in_other_letters_than_utf_8_is_no_damage(kind, tmp_path, read_all):
    """As old Windows programs wrote them: the video is read, from its middle too, and its sound is copied."""
    title = "Málaga é"
    path = make_video(tmp_path / f"x.{kind}", range(30), b_frames=0, sound_from=0, title="X" * len(title))
    content = path.read_bytes()
    assert b"X" * len(title) in content
    path.write_bytes(content.replace(b"X" * len(title), title.encode("latin-1")))
    assert numbers(read_all(FileSource(path))[0]) == list(range(30))
    frames, error = read_all(FileSource(path, start=0.5))
    assert error is None
    assert numbers(frames) == list(range(30))[-len(frames) :]
    assert frames[0].pts == pytest.approx(0.5, abs=0.02)
    with (
        FileSource(path) as source,
        VideoWriter(tmp_path / "out.mp4", width=96, height=72, rate=source.rate, audio_from=path) as writer,
    ):
        while frame := source.read():
            writer.write(frame.image, frame.pts)
    with av.open(tmp_path / "out.mp4") as out:
        assert len(out.streams.audio) == 1


@pytest.mark.parametrize("broken", [[0], [7], [10, 11, 12], [28], [29], [3, 28]], ids=str)
def test_exactly_the_broken_frames_are_missing(broken, tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(30), options=ALL_KEYS)
    places = packets_of(path)
    spoil(path, *(places[n][:2] for n in broken))
    frames, error = read_all(FileSource(path))
    assert numbers(frames) == [n for n in range(30) if n not in broken]
    what = "1 of 30 frames" if len(broken) == 1 else f"{len(broken)} of 30 frames"
    assert str(error) == f"{path}: damaged: {what} could not be decoded"


# Without the fourth from the end, the decoder itself shows the rest in disorder.
@pytest.mark.parametrize("from_the_end", [1, 2, 3, 5, 6, 7, 8])
def test_frames_behind_the_last_damage_are_not_lost_in_the_decoder(from_the_end, tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(60), options={"x264-params": "keyint=20:bframes=2:b-adapt=0"})
    spoil(path, packets_of(path)[-from_the_end][:2])
    frames, error = read_all(FileSource(path))
    assert [f.pts for f in frames] == decoded_times(path)
    assert str(error) == f"{path}: damaged: {60 - len(frames)} of 60 frames could not be decoded"


def test_damage_before_the_start_and_behind_the_end_is_not_complained_about(tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(150), options={"x264-params": "keyint=10:scenecut=0:bframes=0"})
    places = packets_of(path)
    spoil(path, places[20][:2], places[130][:2])
    for start, end in ((1.0, 3.0), (3.0, 4.0)):
        frames, error = read_all(FileSource(path, start=start, end=end))
        assert error is None
        assert len(frames) == round((end - start) * 30)
    frames, error = read_all(FileSource(path, start=4.0))
    assert "damaged" in str(error)


def test_packets_that_an_edit_list_hides_do_not_count(tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(-10, 30), options={"x264-params": "keyint=20:bframes=0"})
    whole, error = read_all(FileSource(path))
    assert error is None
    assert numbers(whole) == list(range(10, 40))
    spoil(path, packets_of(path)[-1][:2])
    frames, error = read_all(FileSource(path))
    assert numbers(frames) == list(range(10, 39))
    assert "1 of 30 frames" in str(error)


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


# kind, container options, whether anything in the file tells that its end is missing
CUT = [
    ("mp4", {"movflags": "faststart"}, True),
    ("mp4", {"movflags": "frag_keyframe+empty_moov"}, True),
    ("mkv", {}, True),
    ("webm", {}, True),
    ("avi", {}, True),
    ("ts", {}, False),
]


@pytest.mark.parametrize(("kind", "container_options", "tells"), CUT)
@pytest.mark.parametrize("share", [0.4, 0.75])
def test_a_file_that_was_cut_off(kind, container_options, tells, share, tmp_path, read_all):
    recipe = {"webm": {"codec": "libvpx"}, "avi": {"codec": "mjpeg", "pixels": "yuvj420p"}}.get(
        kind, {"options": ALL_KEYS}
    )
    # A sound track: FFmpeg notices only a cut through a packet of the stream that is read.
    sound_from = None if kind in ("webm", "avi") else 0.0
    path = make_video(
        tmp_path / f"x.{kind}", range(100), sound_from=sound_from, container_options=container_options, **recipe
    )
    assert read_all(FileSource(path))[1] is None
    frames, error = read_all(FileSource(cut(path, share)))
    assert 0 < len(frames) < 100
    assert numbers(frames)[:-1] == list(range(len(frames) - 1))  # the last packet may have been cut, too
    if tells:
        assert str(error).startswith(f"{path}: damaged: ")
        assert str(error).endswith("(the file is cut short)")
    else:
        assert error is None
    if (kind, container_options) == CUT[0][:2]:
        assert f"{100 - len(frames)} of 100 frames" in str(error)


def test_what_is_missing_at_the_end_may_be_no_picture(tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(30))
    with path.open("ab") as file:
        file.write((100).to_bytes(4) + b"free" + b"only this box is incomplete")
    frames, error = read_all(FileSource(path))
    assert (len(frames), error) == (30, None)


def test_a_recording_that_was_killed_before_its_index_was_written(tmp_path):
    path = cut(make_video(tmp_path / "killed.mp4", range(60), options=ALL_KEYS), 0.8)
    with pytest.raises(SourceError, match=r"killed\.mp4: its index \(moov\) is missing: the recording was cut off"):
        FileSource(path)


def test_a_stated_frame_count_and_duration_that_are_wrong_do_no_harm(tmp_path, read_all):
    path = make_video(tmp_path / "x.avi", range(60), codec="mpeg4")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):  # total frames, the stream's length
        place = data.index(mark) + offset
        assert int.from_bytes(data[place : place + 4], "little") == 60
        data[place : place + 4] = (7).to_bytes(4, "little")
    path.write_bytes(data)
    frames, error = read_all(FileSource(path))
    assert (len(frames), error) == (60, None)
    assert FileSource(path, max_frames=3).frame_count is not None


def test_no_frame_at_all(tmp_path):
    path = tmp_path / "none.mp4"
    with av.open(path, "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    with pytest.raises(SourceError, match=r"none\.mp4: (there is no frame in it|no video that can be read)"):
        FileSource(path)


def test_no_frame_that_can_be_decoded(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(10))
    spoil(path, *(place[:2] for place in packets_of(path)))
    with pytest.raises(SourceError, match=r"x\.mp4: no (frame|video)"):
        FileSource(path)


def no_video(folder):
    (folder / "empty.mp4").touch()
    (folder / "folder.mp4").mkdir()
    (folder / "text.mp4").write_text("This is no video. " * 500)
    (folder / "text.txt").write_text("FFmpeg takes this for terminal art. " * 500)
    (folder / "zeros.avi").write_bytes(bytes(100_000))
    (folder / "subtitles.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    os.mkfifo(folder / "pipe.mp4")
    with av.open(folder / "sound.mp4", "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux([*sound.encode(silence), *sound.encode(None)])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing.mp4", "no such file or directory"),
        ("empty.mp4", "an empty file"),
        ("folder.mp4", "a folder, not a video"),
        ("pipe.mp4", "not a file, nor a camera"),
        ("text.mp4", "no video that can be read"),
        ("text.txt", "text, not a video"),
        ("zeros.avi", "no video that can be read"),
        ("subtitles.srt", "there is no video in it"),
        ("sound.mp4", "there is no video in it"),
    ],
)
def test_what_is_no_video_is_named_in_one_line(name, why, tmp_path):
    no_video(tmp_path)
    with pytest.raises(SourceError) as caught:
        FileSource(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {why}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(3))
    path.chmod(0)
    with pytest.raises(SourceError, match=r"x\.mp4: permission denied"):
        FileSource(path)


def test_a_picture_under_a_videos_name_is_a_video_of_one_frame(tmp_path, read_all):
    cv2.imwrite(str(tmp_path / "x.png"), numbered(5))
    shutil.move(tmp_path / "x.png", tmp_path / "x.mp4")
    frames, error = read_all(FileSource(tmp_path / "x.mp4"))
    assert (numbers(frames), error) == ([5], None)


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "avi", "ts", "flv"])
def test_whole_files_are_whole_and_shorter_ones_are_not(kind, tmp_path):
    codec = {"webm": "libvpx", "avi": "mpeg4", "flv": "flv"}.get(kind, "libx264")
    path = make_video(tmp_path / f"x.{kind}", range(30), codec=codec)
    whole = path.read_bytes()
    assert not is_cut_short(path)
    shows = shows_cuts(path)
    assert shows == (kind not in ("ts", "flv"))
    for length in (len(whole) - 1, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert is_cut_short(path) == shows


IN_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof+dash+global_sidx"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.flv", {"codec": "flv", "size": (320, 240)}),
        ("x.mp4", {"options": ALL_KEYS, "container_options": IN_FRAGMENTS}),
    ],
)
def test_the_end_of_what_was_cut_off_unseen_is_that_of_its_last_frame(name, options, tmp_path, read_all):
    """Its head still says when the whole one ended; a writer would show the last frame until then."""
    path = make_video(tmp_path / name, range(100), Fraction(1, 25), rate=25, **options)
    offset, size, _ = packets_of(path)[40]
    path.write_bytes(path.read_bytes()[: offset + size])
    source = FileSource(path)
    assert source.ends == pytest.approx(4.0, abs=0.1)
    frames, error = read_all(source)
    assert error is None
    assert numbers(frames) == list(range(41))
    assert source.ends == pytest.approx(frames[-1].pts + 1 / 25, abs=0.001)


def test_an_mp4_in_fragments_says_itself_for_how_long_its_last_frame_is_shown(tmp_path):
    """As screen recordings of browsers are."""
    path = make_video(tmp_path / "x.mp4", [0, 1, 2, 50], Fraction(1, 25), rate=25, b_frames=0)
    given = tmp_path / "long.mp4"
    with av.open(path) as container, av.open(given, "w", options=IN_FRAGMENTS) as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.duration = round(5 / packet.time_base)  # of the others the next one's time says it
                copy.mux(packet)
    with FileSource(given) as source:
        for _ in iter(source.read, None):
            pass
        assert source.ends == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
@pytest.mark.parametrize("start", [None, 3.0])
def test_what_a_camera_appends_to_a_file_is_no_part_of_it(movflags, start, tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(150), container_options={"movflags": movflags})
    path.write_bytes(path.read_bytes() + b"8db42d694ccc418790edff439fe026bf")  # as Insta360's end
    frames, error = read_all(FileSource(path, start=start))
    assert error is None
    assert numbers(frames) == list(range(150))[-len(frames) :]
    assert len(frames) == 150 if start is None else 3.0 <= frames[0].pts < 3.03


def test_the_last_of_joined_matroska_files_may_be_cut(tmp_path, read_all):
    part = make_video(tmp_path / "part.mkv", range(30)).read_bytes()
    path = tmp_path / "x.mkv"
    path.write_bytes(part + part[:-1000])
    frames, error = read_all(FileSource(path))
    assert 30 < len(frames) <= 60
    assert str(error).startswith(f"{path}: damaged: ")
    assert str(error).endswith("(the file is cut short)")


def test_a_size_beyond_what_files_can_have(tmp_path, read_all):
    """It says where to go on, which the system refuses."""
    part = make_video(tmp_path / "part.mkv", range(10)).read_bytes()
    segment = part.index(b"\x18\x53\x80\x67") + 4
    path = tmp_path / "x.mkv"
    path.write_bytes(part + part[:segment] + (2**56 + 2**56 - 2).to_bytes(8) + part[segment + 8 :])
    frames, error = read_all(FileSource(path))
    assert len(frames) == 20
    assert str(error) == f"{path}: damaged: its end is missing (the file is cut short)"
    whole = make_video(tmp_path / "whole.mp4", range(10)).read_bytes()
    for size in (2**56, 2**64 - 1):
        path = tmp_path / f"{size}.mp4"
        path.write_bytes(whole + (1).to_bytes(4) + b"abcd" + size.to_bytes(8))
        frames, error = read_all(FileSource(path))
        assert (len(frames), error) == (10, None)


def test_a_file_that_never_said_how_long_it_would_be_is_whole(tmp_path, read_all):
    path = tmp_path / "live.mkv"
    make_video(path, range(30), container_options={"live": "1"}, options=ALL_KEYS)
    assert not is_cut_short(cut(path, 0.6))
    frames, error = read_all(FileSource(path))
    assert error is None or "of" in str(error)
    assert numbers(frames) == list(range(len(frames)))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x00\x18\x53", b"RIFF", bytes(64)]
)
def test_looking_at_rubbish_does_no_harm(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    assert not is_cut_short(tmp_path / "x")
    shows_cuts(tmp_path / "x")
