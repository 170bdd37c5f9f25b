"""A file that plays at its own pace, and which source is opened for which text."""

import itertools
import threading
import time

import pytest

from ssdcam.errors import SourceError
from ssdcam.media.sources import CameraSource, FileSource, PacedSource, Source, StreamSource, open_source
from ssdcam.media.sources.paced import Pacer

from .videos import MILLISECOND, make_video, number_of


def test_no_frame_comes_before_its_time(tmp_path, read_all):
    path = make_video(tmp_path / "x.mkv", [0, 50, 60, 70, 300, 310, 500], MILLISECOND)
    source = open_source(str(path))
    assert isinstance(source, PacedSource)
    assert source.live
    began = time.monotonic()
    frames, error = read_all(source)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(7))
    assert [frame.pts for frame in frames] == [0, 0.05, 0.06, 0.07, 0.3, 0.31, 0.5]
    for frame in frames:
        assert frame.captured - began >= frame.pts - 0.001


def test_what_it_tells_is_what_the_file_tells(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(30))
    with FileSource(path) as plain, open_source(str(path)) as paced:
        for what in ("name", "width", "height", "rate", "frame_count", "duration"):
            assert getattr(paced, what) == getattr(plain, what)


class Waits(threading.Event):
    """An event that notes for how long it was waited for, and whether it came while it was."""

    def __init__(self):
        super().__init__()
        self.noted, self.interrupted = [], []

    def wait(self, timeout=None):
        self.noted.append(timeout)
        self.interrupted.append(super().wait(timeout))
        return self.interrupted[-1]


def test_a_late_reader_is_not_made_to_wait(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(15))
    waits = Waits()
    with open_source(str(path), stop=waits) as source:
        source.read()
        time.sleep(0.6)
        assert [source.read().index for _ in range(14)] == list(range(1, 15))
    assert waits.noted == [0.0] * 15


def test_a_stop_interrupts_the_waiting(tmp_path):
    path = make_video(tmp_path / "x.mkv", [0, 9000], MILLISECOND)
    stop = Waits()
    with open_source(str(path), stop=stop) as source:
        source.read()
        threading.Timer(0.2, stop.set).start()
        assert source.read() is None
        assert source.read() is None
    assert len(stop.noted) == 2
    assert stop.interrupted[1], "it waits for the stop and the time at once"


def test_a_clock_that_was_set_is_not_waited_for():
    waits = Waits()
    pacer = Pacer(waits)
    began = time.monotonic()
    for pts in (1000.0, 1000.01, 0.0, 0.01, 5000.0, 5000.01):
        pacer.wait(pts)
    assert time.monotonic() - began >= 0.029
    assert max(waits.noted) < 0.0101


def test_damage_is_told_here_too(tmp_path, videos_folder, read_all):
    source = open_source(str(videos_folder / "corrupted.mp4"), stop=(stop := threading.Event()))
    source._pacer.wait = lambda pts: None
    frames, error = read_all(source)
    assert len(frames) == 49
    assert "1 of 50 frames" in str(error)
    assert not stop.is_set()


@pytest.mark.parametrize(
    ("text", "kind", "first"),
    [
        ("0", CameraSource, 0),
        ("12", CameraSource, 12),
        ("/dev/video3", CameraSource, "/dev/video3"),
        ("/dev/v4l/by-id/usb-cam", CameraSource, "/dev/v4l/by-id/usb-cam"),
        ("rtsp://me:pw@cam/1", StreamSource, "rtsp://me:pw@cam/1"),
        ("HTTPS://cam/1.m3u8", StreamSource, "HTTPS://cam/1.m3u8"),
        ("film.mp4", FileSource, "film.mp4"),
        ("²", FileSource, "²"),
        ("1.mp4", FileSource, "1.mp4"),
    ],
)
def test_what_is_opened_for_a_text(text, kind, first, monkeypatch):
    made = []

    def refuse(self, *arguments, **options):
        made.append((type(self), arguments, options))
        raise SourceError("enough")

    for source in (CameraSource, StreamSource, FileSource):
        monkeypatch.setattr(source, "__init__", refuse)
    stop = threading.Event()
    with pytest.raises(SourceError, match="enough"):
        open_source(text, size=(640, 480), fps=15, fourcc="YUYV", reconnect=7, stop=stop, on_event=print)
    [(what, arguments, options)] = made
    assert (what, arguments) == (kind, (first,))
    expected = {
        CameraSource: {
            "size": (640, 480),
            "fps": 15,
            "fourcc": "YUYV",
            "reconnect": 7,
            "stop": stop,
            "on_event": print,
        },
        StreamSource: {"reconnect": 7, "stop": stop, "on_event": print},
        FileSource: {},
    }
    assert options == expected[kind]


def test_a_file_that_is_not_there():
    with pytest.raises(SourceError, match=r"^nothing\.mp4: no such file or directory$"):
        open_source("nothing.mp4")


def test_sources_are_sources(tmp_path):
    def total(source: Source) -> int:
        with source:
            return sum(1 for _ in itertools.takewhile(lambda frame: frame is not None, iter(source.read, ...)))

    assert total(FileSource(make_video(tmp_path / "x.mp4", range(3)))) == 3
