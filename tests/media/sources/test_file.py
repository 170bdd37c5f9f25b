"""Video files: every frame, upright, in order, at its true time."""

import gc
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from ssdcam.errors import SourceError, WrongUsageError
from ssdcam.media.av import av
from ssdcam.media.sources import FileSource

from ... import pictures
from ..clips import film
from .videos import (
    MILLISECOND,
    ORIENTATIONS,
    decoded_times,
    make_video,
    number_of,
    numbered,
    pack_b_frames,
    set_matrix,
    turn,
)

HEALTHY = {
    "bottle-detection.mp4": (1189, 640, 360),
    "car-detection.mp4": (377, 768, 432),
    "h265-small.mp4": (10, 128, 128),
    "nasa-two-streams-audio.mp4": (325, 320, 180),  # its second video stream is 480 x 270
    "one-by-one-person-detection.mp4": (1394, 768, 432),
    "rotated-90.mov": (3, 320, 568),
}
UNEVEN = [0, 33, 50, 51, 400, 410, 1400, 1416, 1433, 1450, 2200, 3000, 3001, 3002, 3500]


def numbers(frames):
    return [number_of(frame.image) for frame in frames]


@pytest.mark.parametrize("name", HEALTHY)
def test_every_frame_and_time_of_real_videos(name, videos_folder, read_all):
    source = FileSource(videos_folder / name)
    count, width, height = HEALTHY[name]
    assert (source.width, source.height, source.live) == (width, height, False)
    frames, error = read_all(source)
    assert error is None
    assert len(frames) == count
    assert [frame.index for frame in frames] == list(range(count))
    np.testing.assert_allclose([f.pts for f in frames], decoded_times(videos_folder / name), atol=0.0005)
    assert all(f.image.shape == (height, width, 3) and f.image.dtype == np.uint8 for f in frames)
    assert source.frame_count == pytest.approx(count, abs=1)


@pytest.mark.parametrize("name", HEALTHY)
def test_pictures_are_those_of_opencv(name, videos_folder):
    capture = cv2.VideoCapture(str(videos_folder / name), cv2.CAP_FFMPEG)
    with FileSource(videos_folder / name, max_frames=20) as source:
        while (frame := source.read()) is not None:
            there, expected = capture.read()
            assert there
            np.testing.assert_array_equal(frame.image, expected)
            assert frame.image.flags.c_contiguous
            assert frame.image.flags.writeable


# name, how it is made, seconds a frame is off at most: the container's own grain
MADE = [
    ("constant.mp4", {"times": range(40)}, 0),
    ("29.97.mp4", {"times": range(0, 40 * 1001, 1001), "time_base": Fraction(1, 30000)}, 0),
    ("59.94.mp4", {"times": range(0, 40 * 1001, 1001), "time_base": Fraction(1, 60000)}, 0),
    ("59.94.mkv", {"times": range(0, 40 * 1001, 1001), "time_base": Fraction(1, 60000)}, 0.0005),
    ("variable.mp4", {"times": UNEVEN, "time_base": MILLISECOND}, 0),
    ("variable.mkv", {"times": UNEVEN, "time_base": MILLISECOND}, 0),
    ("late.mp4", {"times": [5000 + t for t in UNEVEN], "time_base": MILLISECOND}, 0),
    ("late.mkv", {"times": [5000 + t for t in UNEVEN], "time_base": MILLISECOND}, 0),
    ("late.ts", {"times": range(36000 * 30, 36000 * 30 + 40)}, 0),
    ("late-behind-sound.mp4", {"times": range(15, 40), "sound_from": 0.0}, 0),
    ("fragments.mp4", {"times": range(40), "container_options": {"movflags": "frag_keyframe+empty_moov"}}, 2.1 / 30),
    ("b-frames.mp4", {"times": range(40), "options": {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal"}}, 0),
    ("open-gop.mkv", {"times": range(40), "options": {"x264-params": "open-gop=1:keyint=12:bframes=3"}}, 0.0005),
    ("odd.mp4", {"times": range(30), "codec": "mpeg4", "size": (161, 121)}, 0),
    ("odd.webm", {"times": range(30), "codec": "libvpx-vp9", "size": (161, 121)}, 0.0005),
    ("hidden-frames.webm", {"times": range(40), "codec": "libvpx", "options": {"auto-alt-ref": "1"}}, 0.0005),
    ("av1.mp4", {"times": range(30), "codec": "libsvtav1", "options": {"preset": "12"}}, 0),
    ("10-bit.mp4", {"times": range(30), "codec": "libx265", "pixels": "yuv420p10le"}, 0),
    ("grey.mkv", {"times": range(30), "codec": "ffv1", "pixels": "gray"}, 0.0005),
    ("grey-16.mkv", {"times": range(30), "codec": "ffv1", "pixels": "gray16le"}, 0.0005),
    ("alpha.mov", {"times": range(30), "codec": "png", "pixels": "rgba"}, 0),
    ("motion-jpeg.avi", {"times": range(30), "codec": "mjpeg", "pixels": "yuvj420p"}, 0),
    ("palette.gif", {"times": range(0, 120, 4), "time_base": Fraction(1, 100), "codec": "gif", "pixels": "gray"}, 0),
    ("flash.flv", {"times": range(0, 1600, 40), "time_base": MILLISECOND, "codec": "flv"}, 0),
    ("program.mpg", {"times": range(30), "codec": "mpeg2video", "b_frames": 2, "rate": 25}, 0.6),
]


@pytest.mark.parametrize(("name", "recipe", "off"), MADE, ids=[name for name, *_ in MADE])
def test_every_frame_and_time_of_made_videos(name, recipe, off, tmp_path, read_all):
    path = make_video(tmp_path / name, **recipe)
    frames, error = read_all(FileSource(path))
    base = recipe.get("time_base", Fraction(1, 30))
    assert error is None
    assert numbers(frames) == list(range(len(recipe["times"])))
    np.testing.assert_allclose([f.pts for f in frames], [float(t * base) for t in recipe["times"]], atol=off + 1e-9)
    np.testing.assert_allclose([f.pts for f in frames], decoded_times(path), atol=0.0005)


def test_10_bits_become_8(tmp_path, read_all):
    path = make_video(tmp_path / "10.mkv", range(3), codec="ffv1", pixels="gray10le")
    frames, _ = read_all(FileSource(path))
    np.testing.assert_allclose(frames[0].image.astype(int), numbered(0).astype(int), atol=3)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_pictures_are_upright_once(quarter_turns, tmp_path, read_all):
    path = make_video(tmp_path / "phone.mp4", range(2, 5))
    turn(path, quarter_turns)
    source = FileSource(path)
    frames, _ = read_all(source)
    shown = np.rot90(frames[1].image, quarter_turns)  # np.rot90 turns the other way
    assert number_of(shown) == 1
    assert (
        (source.height, source.width) == frames[0].image.shape[:2] == ((72, 96) if quarter_turns % 2 == 0 else (96, 72))
    )
    there, expected = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()
    assert there
    np.testing.assert_array_equal(frames[0].image, expected)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mirrored_pictures_are_upright_wherever_they_are_looked_at(orientation, pixels, tmp_path, read_all):
    matrix, upright = ORIENTATIONS[orientation]
    path = make_video(tmp_path / "stored.mp4", range(2, 5), pixels=pixels)
    stored, _ = read_all(FileSource(path))
    set_matrix(path, *matrix)
    source = FileSource(path)
    frames, _ = read_all(source)
    expected = upright(stored[1].image)
    assert (source.height, source.width) == frames[1].size == expected.shape[:2]
    np.testing.assert_array_equal(frames[1].image, expected)
    assert frames[1].image.flags.c_contiguous

    slot, whole = np.zeros((36, 48, 3), np.uint8), np.zeros((36, 48, 3), np.uint8)
    frames[1].resize_into(slot)
    cv2.resize(expected, (48, 36), dst=whole, interpolation=cv2.INTER_LINEAR)
    assert np.abs(slot.astype(int) - whole).mean() < 3, "boxes would be elsewhere"
    drawn_on = frames[1].to_draw_on().image
    assert np.abs(drawn_on.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_in_a_picture_is_obeyed(orientation, tmp_path, read_all):
    """PyAV has no name for it, and raised where a frame held it, as those of cameras' motion JPEG may."""
    pictures.turned(tmp_path / "x.jpg", orientation)
    frames, error = read_all(FileSource(tmp_path / "x.jpg"))
    assert error is None
    assert frames[0].image.shape[:2] == (pictures.HEIGHT, pictures.WIDTH)
    np.testing.assert_allclose(pictures.quadrants(frames[0].image), pictures.COLOURS, atol=12)


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 1)])
def test_a_matrix_that_flattens_the_picture_is_ignored(matrix, tmp_path, read_all):
    path = make_video(tmp_path / "damaged.mp4", range(2, 4))
    stored, _ = read_all(FileSource(path))
    set_matrix(path, *matrix)
    frames, error = read_all(FileSource(path))
    assert error is None
    np.testing.assert_array_equal(frames[1].image, stored[1].image)


@pytest.mark.parametrize(
    ("degrees", "mirrored", "turns"),
    [(30, False, 0), (60, False, 1), (200, False, 2), (-80, False, 3), (100, True, 1)],
)
def test_other_angles_become_the_nearest_quarter_turn(degrees, mirrored, turns, tmp_path, read_all):
    path = make_video(tmp_path / "tilted.mp4", range(2, 4))
    stored, _ = read_all(FileSource(path))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    down = -1 if mirrored else 1
    set_matrix(path, cosine, sine, -sine * down, cosine * down)
    frames, _ = read_all(FileSource(path))
    picture = np.flipud(stored[1].image) if mirrored else stored[1].image
    np.testing.assert_array_equal(frames[1].image, np.rot90(picture, -turns))


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_the_shape_of_pixels_is_that_of_upright_pictures(quarter_turns, tmp_path):
    path = make_video(tmp_path / "wide.mp4", range(3), pixel_aspect=Fraction(4, 3))
    turn(path, quarter_turns)
    with FileSource(path) as source:
        assert source.pixel_aspect == (Fraction(3, 4) if quarter_turns % 2 else Fraction(4, 3))


@pytest.mark.parametrize("name", ["raw.h264", "x.ts", "x.mkv", "x.avi"])
def test_the_shape_of_pixels_is_known_from_every_container(name, tmp_path):
    with FileSource(make_video(tmp_path / name, range(5), pixel_aspect=Fraction(16, 11))) as source:
        assert source.pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("said", [None, Fraction(0), Fraction(1), Fraction(120), Fraction(1, 120)])
def test_pixels_are_square_where_nothing_sensible_is_said(said, tmp_path):
    path = make_video(tmp_path / "x.mkv", range(3), size=(160, 160), pixel_aspect=said)
    with FileSource(path) as source:
        assert source.pixel_aspect == 1


def test_the_nominal_rate_and_duration(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(0, 60 * 1001, 1001), Fraction(1, 30000), rate=Fraction(30000, 1001))
    with FileSource(path) as source:
        assert source.rate == Fraction(30000, 1001)
        assert source.duration == pytest.approx(2.002, abs=0.001)
        assert source.frame_count == 60
        assert source.name == str(path)


@pytest.mark.parametrize(("pictures", "sound"), [(150, 3.0), (90, 5.0)])
def test_the_origin_is_where_the_first_stream_begins(pictures, sound, tmp_path):
    path = make_video(tmp_path / "x.ts", range(pictures, pictures + 30), sound_from=sound)
    with FileSource(path) as source:
        assert source.origin == pytest.approx(3.0, abs=0.15)  # of sound, a packet more, for decoders to begin with
        assert source.begins == pytest.approx(pictures / 30, abs=0.001)


@pytest.mark.parametrize(
    ("name", "codec"), [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.webm", "libvpx"), ("x.ts", "libx264")]
)
def test_the_end_of_a_video_that_begins_late(name, codec, tmp_path):
    path = make_video(tmp_path / name, range(150, 250), codec=codec)
    for asked, ends, count in (({}, 250, 100), ({"start": 6.0}, 250, 70), ({"end": 8.0}, 240, 90)):
        if name == "x.ts":  # where times count from the beginning
            asked = {which: time - 5 for which, time in asked.items()}
        with FileSource(path, **asked) as source:
            assert source.ends == pytest.approx(ends / 30, abs=0.001)
            assert source.frame_count == count
            assert len(list(iter(source.read, None))) == count
            assert source.ends == pytest.approx(ends / 30, abs=0.001)


@pytest.mark.parametrize("later", [0, 1000])
def test_the_end_of_joined_recordings_is_known_behind_the_last_frame(later, tmp_path):
    """Their clocks tell of the last part's end, on its own clock."""
    parts = [make_video(tmp_path / f"{begins}.ts", range(begins, begins + 100)) for begins in (0, later)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with FileSource(joined, stride=60) as source:
        assert len(list(iter(source.read, None))) == 4
        assert source.ends - source.begins == pytest.approx(200 / 30, abs=0.001)


def test_raw_video_without_any_time_goes_at_its_nominal_rate(tmp_path, read_all):
    path = make_video(tmp_path / "raw.h264", range(30))
    source = FileSource(path)
    assert source.duration is None
    assert source.frame_count is None
    assert source.ends is None
    frames, error = read_all(source)
    assert source.ends == pytest.approx(30 / float(source.rate))
    assert error is None
    assert numbers(frames) == list(range(30))
    np.testing.assert_allclose([f.pts for f in frames], np.arange(30) / float(source.rate))


# AVI states no times of showing, and its sound begins with the first picture.
IN_AVI = {
    "h264": {},
    "h264 without": {"options": {"x264-params": "bframes=0"}},
    "h264, 1": {"options": {"x264-params": "bframes=1:b-adapt=0:keyint=20"}},
    "h264, 2": {"options": {"x264-params": "bframes=2:b-adapt=0:b-pyramid=none:keyint=20"}},
    "h264, 3 in a pyramid": {"options": {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:keyint=20"}},
    "h264, open groups": {"options": {"x264-params": "bframes=2:open-gop=1:keyint=10"}},
    "mpeg4 without": {"codec": "mpeg4"},
    "mpeg4, 1": {"codec": "mpeg4", "b_frames": 1},
    "mpeg4, 2": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2 without": {"codec": "mpeg2video"},
    "mpeg2, 2": {"codec": "mpeg2video", "b_frames": 2},
}
STEADY, WITH_HOLES = list(range(100)), [n for n in range(150) if n < 20 or n % 3 or n > 130]


@pytest.mark.parametrize("times", [STEADY, WITH_HOLES], ids=["steady", "with holes"])
@pytest.mark.parametrize("recipe", IN_AVI.values(), ids=IN_AVI)
def test_frames_in_avi_are_shown_in_order_from_the_beginning(recipe, times, tmp_path, read_all):
    path = make_video(tmp_path / "x.avi", times, Fraction(1, 25), rate=25, **recipe)
    frames, error = read_all(FileSource(path))
    assert error is None
    assert numbers(frames) == list(range(len(times)))
    np.testing.assert_allclose([f.pts for f in frames], np.array(times) / 25)
    for start in (0.5, 2.52, frames[-1].pts):
        begun, error = read_all(FileSource(path, start=start, end=start + 0.5))
        assert error is None
        assert [(f.index, f.pts, number_of(f.image)) for f in begun] == [
            (f.index, f.pts, f.index) for f in frames if start - 1e-6 <= f.pts < start + 0.5 - 1e-6
        ]


@pytest.mark.parametrize("b_frames", [1, 2])
def test_packed_b_frames_in_avi(b_frames, tmp_path, read_all):
    path = make_video(tmp_path / "x.avi", STEADY, Fraction(1, 25), codec="mpeg4", rate=25, b_frames=b_frames)
    packed = pack_b_frames(path, tmp_path / "packed.avi")
    for start in (0, 2.52):
        frames, error = read_all(FileSource(packed, start=start))
        assert error is None
        assert numbers(frames) == STEADY[round(start * 25) :]
        np.testing.assert_allclose([f.pts for f in frames], np.arange(start * 25, 100) / 25)


def test_avi_with_b_frames_is_sought_in(tmp_path):
    path = make_video(tmp_path / "x.avi", range(3000), options={"g": "30", "preset": "superfast", "bf": "3"})
    with FileSource(path, start=99.0) as source:
        assert source.read().index == 2970
        assert source._decoder.packets < 200


def test_joined_recordings_whose_clock_jumps_back(tmp_path, read_all):
    first = make_video(tmp_path / "1.ts", range(3000, 3030))
    second = make_video(tmp_path / "2.ts", range(300, 330))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames, _ = read_all(FileSource(joined))
    times = np.diff([f.pts for f in frames])
    assert len(frames) == 60
    np.testing.assert_allclose(times, 1 / 30, atol=0.001)


@pytest.mark.parametrize("seconds", [0.5, 1, 3])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_joined_parts_with_the_same_clock(seconds, b_frames, tmp_path, read_all):
    count = round(seconds * 25)
    part = make_video(tmp_path / "1.ts", range(count), Fraction(1, 25), rate=25, b_frames=b_frames)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 4)
    frames, error = read_all(FileSource(joined))
    assert error is None
    assert numbers(frames) == [*range(count)] * 4
    zero = FileSource(joined).origin
    np.testing.assert_allclose([f.pts - zero for f in frames], np.arange(4 * count) / 25, atol=0.001)
    for start in (frames[count // 2].pts, frames[2 * count].pts, frames[3 * count + 7].pts):
        start -= zero
        begun, _ = read_all(FileSource(joined, start=start, max_frames=3))
        first = round(start * 25)
        assert [(f.index, f.pts, number_of(f.image)) for f in begun] == [
            (f.index, f.pts, number_of(f.image)) for f in frames[first : first + 3]
        ]


def test_a_start_in_the_first_of_several_parts_with_the_same_clock(tmp_path, read_all):
    parts = [
        make_video(
            tmp_path / f"{n}.ts", range(200), Fraction(1, 25), rate=25, size=(96 * n, 72 * n), options={"g": "10"}
        )
        for n in (1, 2, 3)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = FileSource(joined, start=6.0, max_frames=1)
    assert (source.width, source.height) == (96, 72)
    assert [(f.index, f.pts - source.origin, number_of(f.image)) for f in read_all(source)[0]] == [
        (150, pytest.approx(6.0), 150)
    ]
    assert source._decoder.landed is None or source._decoder.landed < parts[0].stat().st_size


@pytest.mark.parametrize(("gap", "shown"), [(8, 8.04), (15, 0.04), (60, 0.04)])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_leap_of_more_than_ten_seconds_is_a_joint(gap, shown, b_frames, tmp_path, read_all):
    times = [40 * i + (gap * 1000 if i > 20 else 0) for i in range(60)]
    frames, _ = read_all(FileSource(make_video(tmp_path / "x.ts", times, MILLISECOND, rate=25, b_frames=b_frames)))
    steps = np.diff([f.pts for f in frames])
    assert numbers(frames) == list(range(60))
    np.testing.assert_allclose(steps, [0.04] * 20 + [shown] + [0.04] * 38, atol=0.001)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.ts"])
def test_a_records_time_is_where_its_frame_is_cut(name, tmp_path, read_all):
    path = make_video(tmp_path / name, range(3000, 3040))
    frames, _ = read_all(FileSource(path))
    for index in range(1, 40, 4):
        time = round(frames[index].pts - FileSource(path).origin, 6)
        assert read_all(FileSource(path, start=time, max_frames=1))[0][0].index == index
        assert read_all(FileSource(path, end=time))[0][-1].index == index - 1


def test_a_clock_that_runs_over(tmp_path, read_all):
    times = range(2**33 - 30 * 3000, 2**33 + 30 * 3000, 3000)
    keep = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    path = make_video(tmp_path / "x.ts", times, Fraction(1, 90000), container_options=keep)
    frames, _ = read_all(FileSource(path))
    np.testing.assert_allclose(np.diff([f.pts for f in frames]), 1 / 30, atol=0.0001)
    assert [f.index for f in read_all(FileSource(path, start=1.5))[0]] == list(range(45, 60))


def test_a_size_that_changes_on_the_way_does_not_change_the_frames(tmp_path, read_all):
    parts = [
        make_video(tmp_path / "1.ts", range(30), size=(96, 72)),
        make_video(tmp_path / "2.ts", range(30, 60), size=(192, 144)),
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, _ = read_all(FileSource(joined))
    assert {frame.image.shape for frame in frames} == {(72, 96, 3)}
    assert numbers(frames) == [*range(30), *range(30)]


def test_a_songs_cover_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    cover = cv2.imencode(".png", numbered(1))[1].tobytes()
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 96, 72, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.start_encoding()
        packet = av.Packet(cover)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = picture, 0, 0, True
        container.mux(packet)
        container.mux([*sound.encode(silence), *sound.encode(None)])
    with pytest.raises(SourceError, match=r"song\.mp4: there is no video in it"):
        FileSource(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_avif_is_all_its_frames(mode, tmp_path, read_all):
    path = tmp_path / "moves.avif"
    first, *others = (Image.fromarray(np.ascontiguousarray(numbered(n)[..., ::-1])).convert(mode) for n in range(5))
    first.save(path, save_all=True, append_images=others, duration=[40, 80, 40, 200, 40], quality=90)
    source = FileSource(path)
    frames, error = read_all(source)
    assert error is None
    assert numbers(frames) == [*range(5)]
    assert [frame.pts for frame in frames] == pytest.approx([0, 0.04, 0.12, 0.16, 0.36])
    assert source.frame_count == 5
    still = tmp_path / "still.avif"
    first.save(still)
    assert numbers(read_all(FileSource(still))[0]) == [0]


# --start, --end, --stride, --max-frames


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts", "webm", "mpg", "flv", "avi"])
def long_video(request, tmp_path_factory):
    """400 frames in 40 groups, times uneven where the format can; so long that starts are reached by seeking."""
    kind = request.param
    path = tmp_path_factory.mktemp("long") / f"long.{kind}"
    even = kind in ("mpg", "avi", "ts")
    times = [n * 40 + (0 if even else n * 7 % 20) for n in range(400)]
    base, codec, rate = MILLISECOND, "libx264", 25
    if even:
        times, base = list(range(400)), Fraction(1, 25)
    if kind in ("webm", "mpg", "flv"):
        codec = {"webm": "libvpx", "mpg": "mpeg2video", "flv": "flv"}[kind]
    options = {"g": "10"} if codec != "libx264" else {"x264-params": "open-gop=1:keyint=10:bframes=2"}
    return make_video(path, times, base, codec=codec, rate=rate, options=options)


@pytest.mark.parametrize("part", [0.02, 0.35, 0.777, 0.99])
def test_the_first_frame_is_the_first_at_or_after_the_start(part, long_video, read_all):
    everything, _ = read_all(FileSource(long_video))
    source = FileSource(long_video)
    last = everything[-1].pts - source.origin
    for start in (last * part, everything[int(399 * part)].pts - source.origin):
        expected = [f for f in everything if f.pts >= start + source.origin - 1e-6][:3]
        frames, error = read_all(FileSource(long_video, start=start, max_frames=3))
        assert error is None
        assert [(f.index, f.pts) for f in frames] == [(f.index, f.pts) for f in expected]
        assert numbers(frames) == [f.index for f in expected]
    source.close()


def test_the_last_frame_is_the_last_before_the_end(long_video, read_all):
    everything, _ = read_all(FileSource(long_video))
    source = FileSource(long_video, start=5.0, end=6.0)
    lies_within = [f for f in everything if 5.0 <= f.pts - source.origin < 6.0]
    frames, error = read_all(source)
    assert error is None
    assert [f.index for f in frames] == [f.index for f in lies_within]
    assert source.frame_count == pytest.approx(len(frames), abs=3)


def test_an_end_that_a_frame_has_is_exclusive(tmp_path, read_all):
    path = make_video(tmp_path / "x.mkv", range(0, 1200, 40), MILLISECOND)
    frames, _ = read_all(FileSource(path, start=0.2, end=0.4))
    assert [f.pts for f in frames] == [0.2, 0.24, 0.28, 0.32, 0.36]


def test_a_start_behind_the_end_gives_nothing(long_video, read_all):
    assert read_all(FileSource(long_video, start=100.0)) == ([], None)


def test_a_far_start_is_not_decoded_towards(tmp_path, monkeypatch):
    path = make_video(tmp_path / "x.mp4", range(3000), options={"g": "30", "preset": "ultrafast"})
    whole = FileSource(path, start=99.0)
    assert whole.read().index == 2970
    assert whole._decoder.packets < 200
    whole.close()


def test_frames_count_from_the_first_that_can_be_decoded(tmp_path, read_all):
    """A recording that begins between two key frames, as of a television or a surveillance camera."""
    path = make_video(tmp_path / "x.ts", range(240), options={"x264-params": "keyint=40:scenecut=0"})
    path.write_bytes(path.read_bytes()[188 * 20 :])
    everything, error = read_all(FileSource(path))
    assert error is None
    assert 0 < numbers(everything)[0] == 240 - len(everything)
    begins = FileSource(path).origin
    for start in (3.0, 5.5):
        frames, error = read_all(FileSource(path, start=start))
        assert error is None
        expected = [(f.index, f.pts) for f in everything if f.pts >= begins + start]
        assert [(f.index, f.pts) for f in frames] == expected


def test_every_nth_frame_keeps_its_own_index(tmp_path, read_all):
    path = make_video(tmp_path / "x.mp4", range(100))
    frames, error = read_all(FileSource(path, start=1.0, stride=7))
    assert error is None
    assert [f.index for f in frames] == numbers(frames) == list(range(30, 100, 7))
    np.testing.assert_allclose([f.pts for f in frames], np.arange(30, 100, 7) / 30, atol=0.0005)


def test_skipped_frames_are_not_turned_into_pictures(tmp_path, read_all, monkeypatch):
    path = make_video(tmp_path / "x.mp4", range(30))
    source = FileSource(path, stride=10)
    made = []
    monkeypatch.setattr(source._decoder, "picture", lambda frame: made.append(frame) or numbered(0))
    assert len(read_all(source)[0]) == len(made) == 3


@pytest.mark.parametrize(("most", "given"), [(0, 0), (1, 1), (5, 5), (1000, 30)])
def test_max_frames(most, given, tmp_path, read_all):
    source = FileSource(make_video(tmp_path / "x.mp4", range(30)), max_frames=most)
    assert source.frame_count == given
    assert len(read_all(source)[0]) == given


def test_times_for_whoever_cuts_the_sound(tmp_path):
    path = make_video(tmp_path / "x.ts", range(36000 * 30, 36000 * 30 + 90))
    with FileSource(path, start=1.0, end=2.0) as source:
        assert source.origin == source.begins == pytest.approx(36000, abs=0.001)
        assert (source.start_time, source.end_time) == pytest.approx((36001, 36002), abs=0.001)
    late = make_video(tmp_path / "late.mp4", range(15, 40), sound_from=0.0)
    with FileSource(late) as source:
        assert (source.origin, source.begins, source.start_time) == (0, 0.5, 0.5)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
@pytest.mark.parametrize(
    ("pictures", "sound", "origin"),
    [(9, 9, 0), (30, 0, 0), (0, 30, 0), (1234, 1234, 1234), (1234, 1236, 1234), (1236, 1234, 1234), (1234, None, 1234)],
)
def test_a_clock_that_had_run_before(tmp_path, suffix, pictures, sound, origin):
    """As a stream's, when its recording began; what begins less late, or one of both, does so on purpose."""
    lasts = {"sound_seconds": 0.0} if sound is None else {"sound_begins": sound}
    path = film(tmp_path / f"x{suffix}", pictures="libx264", video_begins=pictures, **lasts)
    with FileSource(path, start=0.5, end=1.5) as source:
        assert source.origin == pytest.approx(origin, abs=0.03)  # sound begins with an encoder's run-up
        assert source.begins == pytest.approx(pictures, abs=0.03)
        assert source.end_time == pytest.approx(origin + 1.5, abs=0.03)


def test_an_mp4_in_fragments_that_lacks_the_first_counts_what_is_there(tmp_path):
    """As where somebody began to record a stream: it says how long the stream has been."""
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    keys = {"x264-params": "keyint=30:scenecut=0"}
    path = make_video(tmp_path / "x.mp4", range(600), options=keys, container_options=movflags)
    data, fragments = path.read_bytes(), []
    while (at := data.find(b"moof", fragments[-1] + 8 if fragments else 0) - 4) >= 0:
        fragments.append(at)
    path.write_bytes(data[: fragments[0]] + data[fragments[15] :])
    with FileSource(path) as source:
        assert source.origin == pytest.approx(15.0, abs=0.1)
        assert source.frame_count == pytest.approx(150, abs=2)


def test_an_flv_that_does_not_say_how_long_it_is_counts_what_is_there(tmp_path):
    """FFmpeg takes it from the last packet's time."""
    path = film(tmp_path / "x.flv", pictures="libx264", video_begins=1234, sound_begins=1234)
    data = path.read_bytes()
    at = data.index(b"duration") + 9
    path.write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    assert FileSource(path).frame_count == pytest.approx(50, abs=5)


def test_joined_matroska_of_which_not_all_can_be_read(tmp_path, read_all):
    part = make_video(tmp_path / "part.mkv", range(10)).read_bytes()
    path = tmp_path / "x.mkv"
    for parts in (1, 2, 3):
        path.write_bytes(part * parts)
        frames, error = read_all(FileSource(path))
        assert len(frames) == 10 * min(parts, 2)
        assert ("x.mkv: is 3 Matroska files" in str(error)) if parts > 2 else (error is None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1.0},
        {"start": float("nan")},
        {"start": 2.0, "end": 2.0},
        {"end": 0.0},
        {"stride": 0},
        {"max_frames": -1},
    ],
    ids=str,
)
def test_ranges_that_cannot_be(wrong, tmp_path):
    with pytest.raises(WrongUsageError):
        FileSource(make_video(tmp_path / "x.mp4", range(3)), **wrong)


def test_captured_is_when_the_frame_was_there(tmp_path, read_all):
    before = time.monotonic()
    frames, _ = read_all(FileSource(make_video(tmp_path / "x.mp4", range(3))))
    captured = [frame.captured for frame in frames]
    assert before < captured[0] < captured[1] < captured[2] < time.monotonic()


def test_names_that_ffmpeg_would_take_for_something_else(tmp_path, read_all):
    for name in ("concat:a.mp4", "http:b.mp4", "c%03d.mp4", "-i.mp4", "ü 字.mp4"):
        path = tmp_path / name
        path.write_bytes(make_video(tmp_path / "plain.mp4", range(3)).read_bytes())
        assert len(read_all(FileSource(path))[0]) == 3


def test_close_may_come_early_and_twice(tmp_path):
    source = FileSource(make_video(tmp_path / "x.mp4", range(30)))
    assert source.read().index == 0
    source.close()
    source.close()
    assert source.read() is None


def test_what_is_drawn_stays_out_of_the_decoder(tmp_path):
    """A codec of screen recordings, whose decoder gives BGR and makes the next picture from the last one."""
    path = make_video(tmp_path / "x.flv", range(10), codec="flashsv", pixels="bgr24", size=(128, 96))
    with FileSource(path) as source:
        clean = [frame.image.copy() for frame in iter(source.read, None)]
    with FileSource(path) as source:
        for expected in clean:
            frame = source.read()
            np.testing.assert_array_equal(frame.image, expected)
            frame.image[20:40] = 0


@pytest.mark.parametrize("quarter_turns", [0, 1])
def test_frames_go_with_their_last_reader(quarter_turns, tmp_path):
    """Not when Python next collects rings of references: a hundred of 4K are more than a gigabyte."""
    path = make_video(tmp_path / "x.mp4", range(200))
    turn(path, quarter_turns)
    gc.collect()
    gc.disable()
    try:
        with FileSource(path) as source:
            for _ in range(150):
                source.read().to_draw_on()
            assert 0 < sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 20
    finally:
        gc.enable()
