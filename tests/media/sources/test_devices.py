"""Which cameras there are, from a made-up /sys and /dev, and ioctls answered as the kernel would."""

import errno
import os
import struct

import pytest

from ssdcam.media.sources import devices
from ssdcam.media.sources.devices import Camera, Mode, _from_linux, _from_probing, is_busy

# As computed by a C compiler from linux/videodev2.h
QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
CAPTURE, METADATA, DEVICE_CAPS, STREAMING = 0x00000001, 0x00800000, 0x80000000, 0x04000000

WEBCAM = {
    b"MJPG": {(1280, 720): [(1, 30), (1, 15)], (640, 480): [(1, 30), (1001, 30000)]},
    b"YUYV": {(640, 480): [(1, 30)], (1280, 720): [(1, 10)]},
}


class Kernel:
    """Answers ioctls for open devices, told apart by their paths."""

    def __init__(self, capabilities, modes):
        self.capabilities = capabilities
        self.modes = modes

    def __call__(self, handle, request, buffer):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115, PTH119
        index = int.from_bytes(buffer[:4], "little")
        modes = self.modes.get(name, {})
        try:
            getattr(self, f"answer_{request:x}")(buffer, index, name, modes)
        except IndexError:
            raise OSError(errno.EINVAL, "Invalid argument") from None

    def answer_80685600(self, buffer, index, name, modes):
        assert len(buffer) == 104
        buffer[84:92] = struct.pack("<II", *self.capabilities[name])

    def answer_c0405602(self, buffer, index, name, modes):
        assert len(buffer) == 64
        assert buffer[4:8] == b"\1\0\0\0"
        buffer[44:48] = list(modes)[index]

    def answer_c02c564a(self, buffer, index, name, modes):
        assert len(buffer) == 44
        sizes = modes[bytes(buffer[4:8])]
        if isinstance(sizes, tuple):  # a range
            [sizes][index]
            buffer[8:36] = struct.pack("<7I", 3, *sizes)
        else:
            buffer[8:20] = struct.pack("<3I", 1, *list(sizes)[index])

    def answer_c034564b(self, buffer, index, name, modes):
        assert len(buffer) == 52
        sizes = modes[bytes(buffer[4:8])]
        if isinstance(sizes, tuple):
            [sizes][index]
            buffer[16:28] = struct.pack("<3I", 2, 1, 60)
        else:
            intervals = sizes[struct.unpack("<II", buffer[8:16])]
            buffer[16:28] = struct.pack("<3I", 1, *intervals[index])


@pytest.fixture
def machine(tmp_path):
    """Folders in the manner of /sys/class/video4linux and /dev, and a way to add a device to them."""
    sys_folder, dev_folder = tmp_path / "sys", tmp_path / "dev"
    sys_folder.mkdir()
    dev_folder.mkdir()

    def add(number, name):
        (sys_folder / f"video{number}").mkdir()
        (sys_folder / f"video{number}" / "name").write_text(f"{name}\n")
        (dev_folder / f"video{number}").touch()

    return sys_folder, dev_folder, add


linux_only = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc tells devices apart")  # noqa: PTH112


@linux_only
def test_cameras_and_their_modes(machine):
    sys_folder, dev_folder, add = machine
    add(10, "Capture card")
    add(0, "HD Webcam: HD Webcam")
    add(1, "HD Webcam: HD Webcam")  # a webcam's second node gives metadata only
    (sys_folder / "v4l-subdev0").mkdir()
    kernel = Kernel(
        {
            "video0": (DEVICE_CAPS | CAPTURE | METADATA, CAPTURE | STREAMING),
            "video1": (DEVICE_CAPS | CAPTURE | METADATA, METADATA | STREAMING),
            "video10": (CAPTURE, 0),
        },
        {"video0": WEBCAM, "video10": {b"NV12": (48, 1920, 16, 32, 1080, 8)}},
    )
    assert list(_from_linux(sys_folder, dev_folder, kernel)) == [
        Camera(
            str(dev_folder / "video0"),
            "HD Webcam: HD Webcam",
            (
                Mode("MJPG", 1280, 720, (30.0, 15.0)),
                Mode("MJPG", 640, 480, (30.0, 29.97)),
                Mode("YUYV", 640, 480, (30.0,)),
                Mode("YUYV", 1280, 720, (10.0,)),
            ),
        ),
        Camera(
            str(dev_folder / "video10"),
            "Capture card",
            tuple(Mode("NV12", *size, (60.0,)) for size in [(640, 480), (800, 600), (1280, 720), (1920, 1080)]),
        ),
    ]


@linux_only
def test_a_driver_that_never_says_the_list_is_over(machine):
    sys_folder, dev_folder, add = machine
    add(0, "Endless")

    def kernel(handle, request, buffer):
        if request == QUERYCAP:
            buffer[84:92] = struct.pack("<II", CAPTURE, 0)
        elif request == ENUM_FMT:
            buffer[44:48] = b"MJPG"
        elif request == ENUM_FRAMESIZES:
            if buffer[0]:
                raise OSError
            buffer[8:20] = struct.pack("<3I", 1, 640, 480)
        else:
            raise OSError

    assert len(next(_from_linux(sys_folder, dev_folder, kernel)).modes) == 256


def test_something_that_is_no_video_device(machine):
    sys_folder, dev_folder, add = machine
    add(0, "A plain file, whose ioctls fail")
    assert list(_from_linux(sys_folder, dev_folder)) == []


def test_a_device_that_may_not_be_opened_is_listed_all_the_same(machine, monkeypatch):
    sys_folder, dev_folder, add = machine
    add(3, "Somebody else's")

    def refuse(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(devices.os, "open", refuse)
    assert list(_from_linux(sys_folder, dev_folder)) == [Camera(str(dev_folder / "video3"), "Somebody else's", ())]


def test_a_device_that_has_just_gone(machine):
    sys_folder, dev_folder, add = machine
    add(0, "Gone")
    (dev_folder / "video0").unlink()
    assert list(_from_linux(sys_folder, dev_folder)) == []


def test_a_machine_without_any(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_SYS", tmp_path / "none")
    monkeypatch.setattr("sys.platform", "linux")
    assert devices.list_cameras() == []


def test_elsewhere_indices_are_tried(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    tried, released = [], []

    class Capture:
        def __init__(self, index, backend):
            tried.append((index, backend))
            self.there = (index, backend) in {(1, devices.cv2.CAP_DSHOW), (2, devices.cv2.CAP_MSMF)}

        def isOpened(self):  # noqa: N802
            return self.there

        def release(self):
            released.append(self)

    assert list(_from_probing(Capture)) == [Camera("1", "camera 1", ()), Camera("2", "camera 2", ())]
    assert len(released) == len(tried)


def test_how_a_camera_is_named_in_messages():
    assert str(Camera("/dev/video0", "HD Webcam", ())) == "/dev/video0 (HD Webcam)"


class TestBusy:
    """Whoever asks for buffers of a camera that streams for another is told so."""

    def ask(self, tmp_path, error):
        asked = []

        def ioctl(handle, request, buffer):
            asked.append((request, struct.unpack_from("<III", buffer)))
            if error:
                raise OSError(error, os.strerror(error))

        (tmp_path / "video0").touch()
        return is_busy(tmp_path / "video0", ioctl), asked

    def test_free(self, tmp_path):
        busy, asked = self.ask(tmp_path, None)
        assert not busy
        # Asked for, and given back: VIDIOC_REQBUFS, of captured pictures, mapped.
        assert asked == [(0xC0145608, (1, 1, 1)), (0xC0145608, (0, 1, 1))]

    @pytest.mark.parametrize(("error", "busy"), [(errno.EBUSY, True), (errno.EINVAL, False), (errno.ENOTTY, False)])
    def test_refused(self, error, busy, tmp_path):
        assert self.ask(tmp_path, error)[0] is busy

    def test_no_camera_at_all(self, tmp_path):
        assert not is_busy(tmp_path / "video9")
        (tmp_path / "file").touch()
        assert not is_busy(tmp_path / "file")  # the system's own answer
