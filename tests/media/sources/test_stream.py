"""Network streams from real servers on this machine, which are killed, come back, or never say a word."""

import itertools
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.errors import SourceError
from ssdcam.media.sources import StreamSource, stream

from ...waiting import GUARD, wait_until
from .videos import make_video, number_of, numbered

HERE = Path(__file__).parent

# Time for servers that do answer, however busy the machine is.
PATIENT = {"open_timeout": GUARD, "read_timeout": GUARD}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, *command):
        self.command = [str(part) for part in command]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().strip() == "ready"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """What the camera shows: more than two minutes, and all that twelve bits can tell."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4000):
        (folder / f"{number:04}.jpg").write_bytes(cv2.imencode(".jpg", numbered(number))[1].tobytes())
    return folder


@pytest.fixture
def mjpeg(pictures):
    port = free_port()
    server = Server(sys.executable, HERE / "mjpeg_server.py", port, pictures, time.time())
    server.url = f"http://127.0.0.1:{port}/stream"
    yield server
    server.kill()


@pytest.fixture(scope="module")
def system_python():
    """The system's Python, with GStreamer's RTSP server."""
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    check += "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    if not Path(python).exists() or subprocess.run([python, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip("no RTSP server: gir1.2-gst-rtsp-server-1.0, python3-gi or GStreamer's plugins are not installed")
    return python


@pytest.fixture
def rtsp(system_python):
    port = free_port()
    server = Server(system_python, HERE / "rtsp_server.py", port)
    server.url = f"rtsp://127.0.0.1:{port}/test"
    yield server
    server.kill()


@pytest.fixture
def silent():
    """The port of a server that accepts and says nothing, ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def web(tmp_path):
    """A web server for the files in ``tmp_path``."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_threads_left():
    yield
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("source ")])


def take(source, count):
    return [source.read() for _ in range(count)]


def take_until(source, condition):
    frames = []
    while not condition():
        frames.append(source.read())
        assert frames[-1] is not None, "it came to its end"
    return frames


class Restarting:
    """Is told what happens to a stream, and starts its server again a second after the loss."""

    def __init__(self, server):
        self.events = []
        self.timer = threading.Timer(1.0, server.start)

    def __call__(self, line):
        self.events.append(line)
        if len(self.events) == 1:
            self.timer.start()


def assert_in_order(frames):
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(b.pts >= a.pts + 0.0009 for a, b in itertools.pairwise(frames))
    assert all(b.captured >= a.captured for a, b in itertools.pairwise(frames))
    assert frames[0].pts == 0
    # Times are those of arrival; of a burst, every frame is put a millisecond behind the one before.
    for frame in frames:
        assert -1e-6 < frame.pts - (frame.captured - frames[0].captured) < 0.001 * len(frames)


def test_motion_jpeg_over_http(mjpeg):
    with StreamSource(mjpeg.url, **PATIENT) as source:
        assert (source.live, source.name) == (True, mjpeg.url)
        assert (source.width, source.height) == (96, 72)
        assert (source.frame_count, source.duration) == (None, None)
        frames = take(source, 30)
    assert_in_order(frames)
    shown = [number_of(frame.image) for frame in frames]
    assert shown == sorted(set(shown))


def test_motion_jpeg_comes_back_after_its_server_was_killed(mjpeg):
    restarting = Restarting(mjpeg)
    with StreamSource(mjpeg.url, on_event=restarting, reconnect=GUARD, **PATIENT) as source:
        frames = take(source, 10)
        mjpeg.kill()
        frames += take_until(source, lambda: len(restarting.events) == 2)
        frames += take(source, 10)
        restarting.timer.join()
    assert_in_order(frames)
    shown = [number_of(frame.image) for frame in frames]
    assert shown == sorted(set(shown))
    assert max(np.diff([frame.pts for frame in frames])) > 0.9, "the gap is as long as it was"
    events = restarting.events
    assert events[0].startswith(f"{mjpeg.url}: ")
    assert events[0].endswith(f"; trying again for up to {GUARD:g} s")
    assert events[1].startswith(f"{mjpeg.url}: back after ")


def test_a_stream_that_stays_away(mjpeg):
    events = []
    with StreamSource(mjpeg.url, on_event=events.append, reconnect=1.2, **PATIENT) as source:
        take(source, 3)
        mjpeg.kill()
        with pytest.raises(SourceError, match=r"lost, and not back within 1\.2 s"):
            take_until(source, lambda: False)
        assert source.read() is None
    assert len(events) == 1


def test_a_stream_that_is_not_to_be_tried_again(mjpeg):
    events = []
    with StreamSource(mjpeg.url, on_event=events.append, reconnect=None, **PATIENT) as source:
        take(source, 3)
        mjpeg.kill()
        with pytest.raises(SourceError, match=r"the stream ended|broke off"):
            take_until(source, lambda: False)
    assert events == []


def test_rtsp(rtsp):
    with StreamSource(rtsp.url, **PATIENT) as source:
        assert (source.width, source.height, source.rate, source.live) == (160, 120, 25, True)
        frames = take(source, 50)
    assert_in_order(frames)
    # the ball that the server draws is white on black, and moves
    assert all(frame.image.max() > 200 and frame.image.min() < 40 for frame in frames)
    assert len({frame.image.tobytes() for frame in frames}) > 10


def test_rtsp_comes_back_after_its_server_was_killed(rtsp):
    restarting = Restarting(rtsp)
    with StreamSource(rtsp.url, on_event=restarting, reconnect=GUARD, **PATIENT) as source:
        frames = take(source, 10)
        rtsp.kill()
        frames += take_until(source, lambda: len(restarting.events) == 2)
        frames += take(source, 10)
        restarting.timer.join()
    assert_in_order(frames)
    assert "trying again" in restarting.events[0]
    assert "back after" in restarting.events[1]


def chain(error):
    """An error and those that a traceback of it would show."""
    errors = []
    while error is not None:
        errors.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return errors


def test_rtsp_with_a_password_shows_it_nowhere(system_python):
    port = free_port()
    server = Server(system_python, HERE / "rtsp_server.py", port, "admin", "pass/w@rd")
    events = []
    try:
        with StreamSource(
            f"rtsp://admin:pass%2Fw%40rd@127.0.0.1:{port}/test", on_event=events.append, reconnect=0.3, **PATIENT
        ) as source:
            assert source.name == f"rtsp://admin:***@127.0.0.1:{port}/test"
            assert source.read().index == 0
            server.kill()
            with pytest.raises(SourceError) as lost:
                take_until(source, lambda: False)
        server.start()
        with pytest.raises(SourceError) as refused:
            StreamSource(f"rtsp://admin:pass-wrong@127.0.0.1:{port}/test", **PATIENT)
        with pytest.raises(SourceError, match=r"/other: the server has nothing there \(404\)"):
            StreamSource(f"rtsp://admin:pass%2Fw%40rd@127.0.0.1:{port}/other", **PATIENT)
    finally:
        server.kill()
    assert str(refused.value).endswith("the server wants another user name or password (401)")
    shown = [str(error) for error in chain(lost.value) + chain(refused.value)] + events
    assert len(shown) >= 3
    assert not [line for line in shown if "pass%2Fw" in line or "pass-wrong" in line]


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_says_nothing_when_opened(scheme, silent):
    with pytest.raises(SourceError, match=rf"^{scheme}://127\.0\.0\.1:{silent}/x: "):
        StreamSource(f"{scheme}://127.0.0.1:{silent}/x", open_timeout=0.5, read_timeout=0.5)


PICTURES = 60


class FallsSilent(BaseHTTPRequestHandler):
    """So many pictures, then nothing until the test is over."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(PICTURES):
            data = cv2.imencode(".jpg", numbered(number))[1].tobytes()
            self.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
            )
        self.server.over.wait()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def falls_silent():
    with ThreadingHTTPServer(("127.0.0.1", 0), FallsSilent) as server:
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.over.set()
        server.shutdown()


def test_a_server_that_falls_silent_is_lost(falls_silent):
    source = StreamSource(falls_silent, reconnect=None, open_timeout=GUARD, read_timeout=2.0)
    with source, pytest.raises(SourceError, match=r"no answer in time|broke off|the stream ended"):
        take_until(source, lambda: False)


class OnlyDamage(FallsSilent):
    """So many pictures, then some seconds of what is none."""

    def do_GET(self):
        super().do_GET()
        for _ in range(300):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 500\r\n\r\n%s\r\n" % bytes(500))
            if self.server.ended.wait(0.05):
                return


def watch(url):
    with StreamSource(url, reconnect=None, open_timeout=GUARD, read_timeout=1.0) as source:
        take_until(source, lambda: False)


@pytest.mark.parametrize("pictures", [PICTURES, 0])
def test_pictures_that_cannot_be_decoded_are_a_loss(pictures, monkeypatch):
    """Also where they are so from the beginning, and packets keep coming."""
    monkeypatch.setitem(globals(), "PICTURES", pictures)
    with ThreadingHTTPServer(("127.0.0.1", 0), OnlyDamage) as server:
        server.over, server.ended = threading.Event(), threading.Event()
        server.over.set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(SourceError, match=r"no picture in it could be decoded for \d s"):
                watch(f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.ended.set()
            server.shutdown()


def test_a_stop_interrupts_a_read_that_would_last(falls_silent):
    stop = threading.Event()
    source = StreamSource(falls_silent, stop=stop, reconnect=None, **PATIENT)
    frames = take(source, 55)
    threading.Timer(0.3, stop.set).start()
    while source.read() is not None:
        pass
    assert_in_order(frames)
    source._patience = 0.0  # leave the thread to its own end, which the server brings about


def test_a_stop_interrupts_opening(silent):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(SourceError, match="stopped while it was opened"):
        StreamSource(f"http://127.0.0.1:{silent}/", stop=stop, **PATIENT)


def test_close_waits_no_longer_than_a_read_may_take(falls_silent):
    """The read under way would last as long as the server is silent: to the end of this test."""
    source = StreamSource(falls_silent, open_timeout=GUARD, read_timeout=2.0)
    take(source, 50)
    source.close()
    source._thread.join(GUARD)  # a busy machine may take longer than close waits
    assert not source._thread.is_alive()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{port}/x", "nothing answers there (connection refused)"),
        ("rtsp://me:secret@127.0.0.1:{port}/x", "nothing answers there (connection refused)"),
        ("nonsense://127.0.0.1/x", "there is no such kind of address"),
    ],
)
def test_why_a_stream_does_not_open(url, why):
    with socket.socket() as deaf:  # it has a port, and does not listen
        deaf.bind(("127.0.0.1", 0))
        url = url.format(port=deaf.getsockname()[1])
        with pytest.raises(SourceError) as caught:
            StreamSource(url, **PATIENT)
    assert str(caught.value) == f"{url.replace('secret', '***')}: {why}"


def test_a_web_server_without_it(web, tmp_path):
    with pytest.raises(SourceError, match=r"the server has nothing there \(404\)"):
        StreamSource(f"{web}/missing.mp4", **PATIENT)
    (tmp_path / "page.html").write_text("<html>no video</html>")
    with pytest.raises(SourceError, match="it answers with text/html, no video that can be read: give the address of"):
        StreamSource(f"{web}/page.html", **PATIENT)


def test_a_damaged_video_is_not_taken_for_a_page(web, tmp_path):
    path = make_video(tmp_path / "cut.mp4", range(30))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError, match=r"cut\.mp4: it answers with video/mp4, no video that can be read$"):
        StreamSource(f"{web}/cut.mp4", **PATIENT)


def test_a_web_server_that_says_neither_how_much_comes_nor_more_than_it_must():
    """To FFmpeg that is the same error as where nothing can be reached."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/private" and "Authorization" not in self.headers:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for begin, path, kind in (("", "page", "text/html"), ("me:secret@", "private", "something")):
            with pytest.raises(
                SourceError, match=f"/{path}: it answers with {kind}, no video that can be read"
            ) as caught:
                StreamSource(f"http://{begin}127.0.0.1:{server.server_port}/{path}", **PATIENT)
            assert "secret" not in "".join(map(str, chain(caught.value)))
        server.shutdown()


def test_a_host_that_is_not_found_does_not_answer():
    with pytest.raises(SourceError, match="it cannot be reached, or broke off"):
        StreamSource("http://nowhere.invalid/page", **PATIENT)


def test_the_shape_of_pixels_is_known(web, tmp_path):
    make_video(tmp_path / "wide.mp4", range(3), pixel_aspect=Fraction(4, 3))
    with StreamSource(f"{web}/wide.mp4", **PATIENT) as source:
        assert source.pixel_aspect == Fraction(4, 3)


def test_a_file_on_a_web_server_plays_at_its_own_pace_and_ends(web, tmp_path):
    make_video(tmp_path / "x.mp4", range(30), container_options={"movflags": "faststart"})
    began = time.monotonic()
    with StreamSource(f"{web}/x.mp4", **PATIENT) as source:
        assert source.duration == pytest.approx(1.0)
        assert source.live
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
        assert source.read() is None
    assert time.monotonic() - began >= 29 / 30
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert_in_order(frames)


def test_a_file_on_a_web_server_goes_on_where_the_connection_broke(tmp_path):
    path = make_video(tmp_path / "x.mp4", range(60), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    requests = itertools.count()

    class BreaksOnce(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if next(requests) else data[: len(data) * 2 // 3])

        def log_message(self, *arguments):
            pass

    events = []
    with ThreadingHTTPServer(("127.0.0.1", 0), BreaksOnce) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.mp4"
        with StreamSource(url, on_event=events.append, **PATIENT) as source:
            frames = take_until(source, lambda: len(events) == 2)
            while (frame := source.read()) is not None:
                frames.append(frame)
        server.shutdown()
    shown = [number_of(frame.image) for frame in frames]
    assert shown == sorted(set(shown))
    assert shown[-1] == 59
    assert len(shown) >= 55
    assert_in_order(frames)


def test_hls(web, tmp_path):
    path = tmp_path / "list.m3u8"
    make_video(path, range(45), options={"g": "15"}, container_options={"hls_time": "0.5", "hls_list_size": "0"})
    assert len(list(tmp_path.glob("*.ts"))) == 3
    began = time.monotonic()
    with StreamSource(f"{web}/list.m3u8", **PATIENT) as source:
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
    assert [number_of(frame.image) for frame in frames] == list(range(45))
    assert frames[-1].captured - began >= 44 / 30 - 0.001, "paced"


def test_what_comes_after_a_server_had_nothing_more_keeps_its_pace(tmp_path):
    """It would be shown all at once, to catch up with a clock that the server does not keep to any more."""
    path = make_video(tmp_path / "x.mp4", range(60), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    half = (data.index(b"mdat") + len(data)) // 2
    frames, released = [], []

    class Halting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:half])
            while not frames or time.monotonic() - frames[-1].captured < 0.7:
                time.sleep(0.01)
            released.append(time.monotonic())
            self.wfile.write(data[half:])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Halting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with StreamSource(f"http://127.0.0.1:{server.server_port}/x.mp4", **PATIENT) as source:
            while (frame := source.read()) is not None:
                frames.append(frame)
        server.shutdown()
    behind = [frame for frame in frames if frame.captured > released[0]]
    assert len(behind) >= 20
    assert behind[-1].captured - released[0] >= (len(behind) - 1) / 30 - 0.001
    assert [number_of(frame.image) for frame in frames] == list(range(60))


def test_ffmpeg_says_nothing_on_the_terminal(mjpeg, silent, capfd):
    with StreamSource(mjpeg.url, **PATIENT) as source:
        take(source, 3)
    with pytest.raises(SourceError):
        StreamSource(f"rtsp://me:secret@127.0.0.1:{silent}/", open_timeout=0.3, read_timeout=0.3)
    assert capfd.readouterr() == ("", "")


def test_no_frame_is_held_back(tmp_path):
    """Decoding several frames at once would hold each back for as many."""
    path = make_video(tmp_path / "x.ts", range(60), options={"tune": "zerolatency"})
    over = threading.Event()

    class FallsSilentToo(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(path.read_bytes())
            over.wait()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), FallsSilentToo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        with StreamSource(url, open_timeout=GUARD, read_timeout=3, reconnect=None) as source:
            shown = []
            with suppress(SourceError):
                while True:
                    shown.append(number_of(source.read().image))
        over.set()
        server.shutdown()
    assert shown[:59] == list(range(59))  # where the last one ends, only a further one would tell


@contextmanager
def stopping_at(cut, data):
    """A server that sends data up to a place, and the rest once it is told to: its address, and what tells it."""
    go_on = threading.Event()

    class InTwo(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data[:cut])
            go_on.wait()
            self.wfile.write(data[cut:])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), InTwo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", go_on
        finally:
            go_on.set()
            server.shutdown()


@contextmanager
def still_camera(name, measured=True, last=4):
    """A camera that has a picture at an address: that, and the numbers of the pictures that were fetched."""
    fetched = []

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            fetched.append(len(fetched))
            _, data = cv2.imencode(Path(name).suffix or ".jpg", numbered(fetched[-1], (640, 480)))
            self.send_response(200 if fetched[-1] <= last else 404)
            if measured:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(OSError):  # FFmpeg has seen enough to look at it otherwise
                self.wfile.write(data.tobytes())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{name}", fetched
        server.shutdown()


@pytest.mark.parametrize("name", ["snapshot", "snapshot.jpg", "snapshot.png"])
@pytest.mark.parametrize("measured", [True, False])
def test_a_picture_with_an_address_of_its_own_is_fetched_again_and_again(name, measured):
    """As cameras have one; it was lost and found again for each, or over with the first."""
    said = []
    with (
        still_camera(name, measured) as (url, fetched),
        StreamSource(url, reconnect=None, on_event=said.append) as source,
    ):
        frames = take(source, 4)
        with pytest.raises(SourceError, match="nothing there"):
            take(source, 2)
    shown = [number_of(frame.image) for frame in frames]
    assert shown in (fetched[:4], fetched[1:5]), "each fetched once, but for what shows that it is a picture"
    assert frames[-1].captured - frames[0].captured > 0.15, "not asked as fast as it can be"
    assert said == []


def test_a_picture_is_not_fetched_to_close(monkeypatch):
    monkeypatch.setattr(stream, "_BETWEEN_STILLS", GUARD)
    with still_camera("snapshot") as (url, fetched):
        with StreamSource(url, **PATIENT) as source:
            source.read()
        assert fetched == [0]


def test_of_a_picture_a_second_few_are_looked_at_before_it_is_open(tmp_path):
    """FFmpeg, left alone, looks at eleven: longer than opening may take, and then the connection is lost again."""
    path = make_video(tmp_path / "x.ts", range(30), Fraction(1), rate=1, options={"g": "1", "tune": "zerolatency"})
    data = path.read_bytes()
    cut = len(data) // 188 * 9 // 30 * 188  # behind the eighth picture or the ninth, as they are equally large
    with stopping_at(cut, data) as (url, go_on), StreamSource(url, reconnect=None) as source:
        go_on.set()
        assert source.rate == 1
        assert [number_of(source.read().image) for _ in range(29)] == list(range(29))


def test_pictures_may_begin_long_after_the_sound(tmp_path):
    """As in FLV from a server that waits for a key frame; nothing before it says that there are pictures."""
    path = make_video(tmp_path / "x.flv", range(150, 180), sound_from=0)
    data = path.read_bytes()
    tags, place = [], 13
    while place < len(data):  # a tag: its kind, then in three bytes each the size of its content and its time
        end = place + 15 + int.from_bytes(data[place + 1 : place + 4])
        tags.append(data[place:end])
        place = end
    pictures = [tag for tag in tags if tag[0] == 9]
    set_up, *second = (tag for tag in tags if tag[0] == 8)
    sound = [tag[:4] + (1024 * n + int.from_bytes(tag[4:7])).to_bytes(3) + tag[7:] for n in range(4) for tag in second]
    with stopping_at(0, b"".join([data[:13], set_up, *sound, *pictures])) as (url, go_on):
        go_on.set()
        with StreamSource(url, reconnect=None) as source:
            assert number_of(source.read().image) == 0
