"""Cameras, played by an object in the place of ``cv2.VideoCapture``."""

import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ssdcam.errors import SourceError
from ssdcam.media.sources import CameraSource, devices, open_source
from ssdcam.media.sources.camera import Settings

from ...waiting import GUARD
from .videos import number_of, numbered

MJPG, YUYV = cv2.VideoWriter.fourcc(*"MJPG"), cv2.VideoWriter.fourcc(*"YUYV")
SIZE_AND_MORE = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FOURCC)


class FakeCamera:
    """One camera, which several captures open one after the other.

    Args:
        width, height, fps, fourcc: what it starts with.
        obeys: the properties that may be set.
        pictures: how many it gives in each life; None is no end.
        picture: what a picture is made of.
    """

    def __init__(self, width=640, height=480, fps=30.0, fourcc=YUYV, obeys=SIZE_AND_MORE, pictures=None, picture=None):
        self.state = dict(zip(SIZE_AND_MORE, (width, height, fps, fourcc), strict=True))
        self.obeys = obeys
        self.pictures = pictures
        self.picture = picture or (lambda n: numbered(n, (96, 72)))
        self.count = 0
        self.there = True
        self.opened = []
        self.asked = []
        self.released = 0

    def __call__(self, camera, backend):
        self.opened.append((camera, backend))
        self.left = self.pictures
        return self

    def isOpened(self):  # noqa: N802
        return self.there

    def set(self, prop, value):
        self.asked.append((prop, value))
        if prop in self.obeys:
            self.state[prop] = value
        return True

    def get(self, prop):
        return float(self.state.get(prop, 0))

    def read(self):
        time.sleep(0.002)
        if not self.there or self.left == 0:
            return False, None
        if self.left is not None:
            self.left -= 1
        self.count += 1
        return True, self.picture(self.count - 1)

    def release(self):
        self.released += 1


@pytest.fixture
def device(tmp_path):
    """What stands for ``/dev/video0``."""
    path = tmp_path / "video0"
    path.touch()
    return str(path)


@pytest.fixture(autouse=True)
def no_other_cameras(monkeypatch):
    monkeypatch.setattr(devices, "list_cameras", lambda: [devices.Camera("/dev/video2", "HD Webcam", ())])


def take(source, count):
    return [source.read() for _ in range(count)]


def test_frames_in_order(device):
    camera = FakeCamera()
    with CameraSource(device, capture_factory=camera) as source:
        assert (source.live, source.name, source.width, source.height) == (True, device, 96, 72)
        assert (source.rate, source.frame_count, source.duration) == (Fraction(30), None, None)
        frames = take(source, 20)
    assert [frame.index for frame in frames] == [number_of(frame.image) for frame in frames] == list(range(20))
    assert frames[0].pts == 0
    assert (np.diff([frame.pts for frame in frames]) >= 0.0009).all()
    assert camera.released == 1


def test_the_encoding_is_asked_for_first_then_the_size_then_the_rate(device):
    camera = FakeCamera()
    with CameraSource(device, size=(1280, 720), fps=25, capture_factory=camera) as source:
        assert source.requested == source.actual == Settings((1280, 720), 25, "MJPG")
        assert source.rate == 25
    assert camera.asked == [
        (cv2.CAP_PROP_FOURCC, MJPG),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 25),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_nothing_is_asked_for_that_was_not_wished(device):
    camera = FakeCamera()
    with CameraSource(device, fourcc=None, capture_factory=camera):
        assert camera.asked == [(cv2.CAP_PROP_BUFFERSIZE, 1)]


def test_wishes_that_are_not_fulfilled_are_told(device):
    events = []
    camera = FakeCamera(obeys=(), fps=10)
    with CameraSource(device, size=(1280, 720), fps=30, capture_factory=camera, on_event=events.append) as source:
        assert source.actual == Settings((640, 480), 10, "YUYV")
    assert events == [
        f"{device}: gives YUYV, not MJPG",
        f"{device}: gives 640x480, not 1280x720",
        f"{device}: gives 10 frames a second, not 30",
    ]


def test_a_rate_told_in_another_way_and_what_a_driver_does_not_state_are_no_difference(device):
    events = []
    camera = FakeCamera(obeys=(), fps=29.97, fourcc=0)
    with CameraSource(device, fps=30, capture_factory=camera, on_event=events.append) as source:
        assert source.rate == Fraction("29.97")
        assert source.actual.fourcc is None
    with CameraSource(device, fps=30, capture_factory=FakeCamera(obeys=(), fps=0, fourcc=MJPG)) as source:
        assert source.rate is None
    assert events == []


@pytest.mark.skipif(not devices.sys.platform.startswith("linux"), reason="elsewhere devices are no files")
@pytest.mark.parametrize(("camera", "name"), [(97, "camera 97"), ("/dev/video97", "/dev/video97")])
def test_a_camera_that_is_not_there(camera, name, monkeypatch):
    with pytest.raises(SourceError) as caught:
        CameraSource(camera, capture_factory=FakeCamera())
    assert str(caught.value) == f"{name}: there is no such camera; there is /dev/video2 (HD Webcam)"
    monkeypatch.setattr(devices, "list_cameras", list)
    with pytest.raises(SourceError, match=r"there is no such camera; no camera is connected"):
        open_source(str(camera))


def test_a_camera_that_does_not_open(device):
    camera = FakeCamera()
    camera.there = False
    with pytest.raises(SourceError, match=rf"{device}: cannot be opened: .*fuser -v .*there is /dev/video2"):
        CameraSource(device, capture_factory=camera)
    assert camera.released == 1


def test_a_camera_that_is_not_for_this_user(device, monkeypatch):
    camera = FakeCamera()
    camera.there = False
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(SourceError, match=r"not allowed to use .*usermod -aG video"):
        CameraSource(device, capture_factory=camera)


def test_a_camera_that_opens_and_gives_nothing(device):
    camera = FakeCamera(pictures=0)
    with pytest.raises(SourceError, match=r"it opens but gives no picture; close other programs"):
        CameraSource(device, capture_factory=camera)
    assert camera.released == 1


def test_a_camera_that_is_unplugged(device):
    camera = FakeCamera(pictures=5)
    with CameraSource(device, capture_factory=camera) as source:
        assert len(take(source, 5)) == 5
        with pytest.raises(SourceError, match=r"it stopped giving pictures \(unplugged\?\)$"):
            source.read()
        assert source.read() is None
    assert camera.released


def test_a_camera_that_is_unplugged_and_plugged_in_again(device):
    def picture(n):
        if n == 4:
            camera.there = False
        return numbered(n, (96, 72))

    def on_event(line):
        events.append(line)
        if len(events) == 1:
            threading.Timer(0.7, setattr, (camera, "there", True)).start()

    camera = FakeCamera(picture=picture)
    events = []
    with CameraSource(device, reconnect=GUARD, capture_factory=camera, on_event=on_event) as source:
        frames = take(source, 10)
    assert [number_of(frame.image) for frame in frames] == [frame.index for frame in frames] == list(range(10))
    assert events == [
        f"{device}: it stopped giving pictures (unplugged?); trying again for up to {GUARD:g} s",
        events[1],
    ]
    assert events[1].startswith(f"{device}: back after ")
    assert frames[5].pts - frames[4].pts > 0.6


def test_a_camera_that_comes_back_in_another_mode_still_gives_frames_of_the_first_size(device):
    camera = FakeCamera(pictures=3, picture=lambda n: numbered(n, (96, 72) if n < 3 else (192, 144)))
    with CameraSource(device, reconnect=GUARD, capture_factory=camera) as source:
        frames = take(source, 6)
    assert {frame.image.shape for frame in frames} == {(72, 96, 3)}
    assert [number_of(frame.image) for frame in frames] == list(range(6))


def test_a_grey_camera(device):
    camera = FakeCamera(picture=lambda n: numbered(n)[:, :, 0])
    with CameraSource(device, capture_factory=camera) as source:
        assert source.read().image.shape == (72, 96, 3)


@pytest.mark.parametrize(
    ("platform", "backends"),
    [
        ("linux", [cv2.CAP_V4L2]),
        ("darwin", [cv2.CAP_AVFOUNDATION]),
        ("win32", [cv2.CAP_MSMF, cv2.CAP_DSHOW]),
        ("freebsd", [cv2.CAP_ANY]),
    ],
)
def test_each_system_has_its_own_way_to_cameras(platform, backends, device, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    camera = FakeCamera()
    camera.there = False
    with pytest.raises(SourceError):
        CameraSource(device, capture_factory=camera)
    assert camera.opened == [(device, backend) for backend in backends]


def test_a_stop_ends_the_frames(device):
    stop = threading.Event()
    with CameraSource(device, capture_factory=FakeCamera(), stop=stop) as source:
        assert source.read().index == 0
        stop.set()
        assert source.read() is None


def test_a_driver_that_throws_does_not_hang_the_reader(device):
    def broken(n):
        if n == 3:
            raise cv2.error("driver trouble")
        return numbered(n)

    with CameraSource(device, capture_factory=FakeCamera(picture=broken)) as source:
        take(source, 3)
        with pytest.raises(cv2.error, match="driver trouble"):
            source.read()
