"""``ssdcam webcam`` from outside, with a file as the camera and with servers that go away and come back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssdcam.cli import command_line, loading
from ssdcam.errors import SourceError
from ssdcam.media import sources
from ssdcam.media.av import av
from ssdcam.media.claims import Claim

from ..media import clips
from ..media.sources.videos import make_video, number_of, numbered
from ..waiting import GUARD, finish
from .running import INSTALLED, environment, one_line, records, run, start
from .stubbed import stub_detector

SERVERS = Path(__file__).parents[1] / "media" / "sources"
PLAIN = ("--score", "1", "--no-fps", "--crf", "10", "--preset", "ultrafast")
PASSWORD = "s3cr3t-w0rd"
PATIENT = {"SSDCAM_STUB_PATIENCE": str(GUARD)}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Thirty numbered frames, 30 a second."""
    return make_video(tmp_path / "clip.mp4", range(30))


# A file as the camera.


def test_a_file_plays_at_its_own_pace(tmp_path: Path, clip: Path) -> None:
    out, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    done = run("webcam", clip, "--json", "-o", out, "--stats", stats, "--no-window", *PLAIN)
    assert (done.returncode, done.stderr) == (0, "")
    found = records(done.stdout)
    figures = json.loads(stats.read_text())
    assert figures["frames"] == len(found)
    assert figures["frames"] + figures["dropped"] == 30
    assert figures["wall_s"] >= 0.9, "as long as the clip"
    for record in found:
        assert record["time"] == pytest.approx(record["frame"] / 30, abs=1e-3)
    pictures = clips.frames(out)
    assert [number_of(picture) for _, picture in pictures] == [record["frame"] for record in found]
    begins = found[0]["time"]
    assert [at for at, _ in pictures] == pytest.approx([record["time"] - begins for record in found], abs=1e-3)


def test_the_detector_is_loaded_before_the_camera_is_opened(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """Otherwise pictures queue up meanwhile, and what is shown first is old."""
    order: list[str] = []

    def load(**options: Any) -> Any:
        order.append("detector")
        return stub_detector()

    def open_source(*arguments: Any, **options: Any) -> Any:
        order.append("camera")
        raise SourceError("no camera")

    monkeypatch.setattr(loading, "load_detector", load)
    monkeypatch.setattr(sources, "open_source", open_source)
    assert command_line.run(["webcam", str(clip), "--no-window", "--json"]) == 1
    assert order == ["detector", "camera"]


@pytest.mark.parametrize(
    "camera",
    [
        pytest.param("63", marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells beforehand")),
        "/dev/video63",
        "nothing.mp4",
    ],
)
def test_no_detector_is_loaded_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch, camera: str) -> None:
    loaded: list[dict[str, Any]] = []
    monkeypatch.setattr(loading, "load_detector", lambda **options: loaded.append(options) or stub_detector())
    assert command_line.run(["webcam", camera, "--no-window", "--json"]) == 1
    assert loaded == []


def test_max_frames(clip: Path) -> None:
    done = run("webcam", clip, "--json", "--max-frames", "5", "--no-window")
    assert done.returncode == 0
    assert len(records(done.stdout)) == 5


def test_duration(tmp_path: Path) -> None:
    source = make_video(tmp_path / "long.mp4", range(900))
    done = run("webcam", source, "--json", "--duration", "0.5", "--no-window")
    assert done.returncode == 0
    found = records(done.stdout)
    assert len(found) > 0
    assert found[-1]["time"] < 20, "of thirty seconds"


def test_a_slow_detector_drops_frames_and_keeps_up(tmp_path: Path) -> None:
    source, stats = make_video(tmp_path / "two.mp4", range(60)), tmp_path / "stats.json"
    done = run("webcam", source, "--json", "--stats", stats, "--no-window", env={"SSDCAM_STUB_SLEEP": "0.15"})
    found, figures = records(done.stdout), json.loads(stats.read_text())
    assert figures["dropped"] > 20
    assert figures["frames"] + figures["dropped"] == 60
    numbers = [record["frame"] for record in found]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 59, "the last one is the newest"


def test_mirrored(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    assert run("webcam", clip, "-o", out, "--mirror", "--no-window", *PLAIN).returncode == 0
    pictures = [picture for _, picture in clips.frames(out)]
    numbers = [number_of(np.fliplr(picture)) for picture in pictures]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 29


@pytest.mark.parametrize("options", [(), ("--mirror",)])
def test_it_is_shown_in_the_same_shape(tmp_path: Path, options: tuple[str, ...]) -> None:
    clip, out = make_video(tmp_path / "wide.mp4", range(10), pixel_aspect=Fraction(4, 3)), tmp_path / "out.mp4"
    assert run("webcam", clip, "-o", out, "--no-window", *options, *PLAIN).returncode == 0
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_records_and_crops(tmp_path: Path, clip: Path) -> None:
    done = run("webcam", clip, "--records", tmp_path / "r.jsonl", "--crops", tmp_path / "crops", "--no-window")
    assert done.returncode == 0
    assert "frames in" in done.stdout
    found = records((tmp_path / "r.jsonl").read_text())
    count = sum(len(record["detections"]) for record in found)
    assert len(list((tmp_path / "crops").iterdir())) == count > 0


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_stopped_in_the_middle(tmp_path: Path, name: str, code: int) -> None:
    source, out = make_video(tmp_path / "long.mp4", range(900)), tmp_path / "out.mp4"
    process = start("webcam", source, "--json", "-o", out, "--no-window", *PLAIN)
    head = read_lines(process, 15)
    process.send_signal(signal.Signals[name])
    tail, said = finish(process)
    assert (process.returncode, said) == (code, "")
    found = records("".join(head) + tail)
    assert [number_of(picture) for _, picture in clips.frames(out)] == [record["frame"] for record in found]


# No display, no camera, wrong usage.


def test_without_a_display_it_goes_on_headless(clip: Path) -> None:
    done = run("webcam", clip, "--json")
    assert done.returncode == 0
    assert "there is no display" in one_line(done.stderr)
    assert records(done.stdout)


@pytest.mark.parametrize("options", [(), ("--no-window",), ("--stats", "stats.json")])
def test_nothing_to_do_with_results(tmp_path: Path, clip: Path, options: tuple[str, ...]) -> None:
    done = run("webcam", clip, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json" in one_line(done.stderr)


@pytest.mark.skipif(os.name != "posix", reason="outputs are locked on POSIX only")
def test_two_runs_never_write_the_same_output(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    with Claim(out, resumable=False):
        done = run("webcam", clip, "-o", out, "--no-window")
    assert (done.returncode, done.stdout) == (2, "")
    assert "out.mp4: is being written by another run" in one_line(done.stderr)
    assert not out.exists()
    assert run("webcam", clip, "-o", out, "--no-window", "--max-frames", "2").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


def test_a_display_that_is_dead(clip: Path) -> None:
    """Qt would end the process."""
    done = run("webcam", clip, "--json", env={"DISPLAY": ":987"})
    assert done.returncode == 0
    assert "the display :987 does not answer" in one_line(done.stderr)
    assert run("webcam", clip, env={"DISPLAY": ":987"}).returncode == 2


def test_the_list_of_cameras() -> None:
    done = run("webcam", "--list", command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    if not list(Path("/dev").glob("video*")):
        assert done.stdout == "no camera is there\n"


@pytest.mark.parametrize("camera", ["63", "/dev/video63", "nothing.mp4", "http://127.0.0.1:9/stream"])
def test_a_source_that_is_not_there(camera: str) -> None:
    done = run("webcam", camera, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if "display" not in line]
    assert camera.rpartition("/")[2] in one_line("\n".join(lines))


@pytest.mark.parametrize(
    "options",
    [
        ("--size", "big"),
        ("--size", "0x480"),
        ("--size", "640"),
        ("--fourcc", "MJPEG"),
        ("--fourcc", ""),
        ("--reconnect", "soon"),
        ("--reconnect", "-1"),
        ("--reconnect", "nan"),
        ("--fps", "0"),
        ("--duration", "-1"),
        ("--max-frames", "0"),
        ("-o", "out.gif"),
        ("-o", "no/out.mp4"),
        ("-o", "clip.mp4", "-y"),
        ("-o", "out.webm", "--codec", "h264"),
        ("--records", "x.xml"),
        ("-o", "out.mp4", "--stats", "out.mp4"),
    ],
    ids=str,
)
def test_wrong_usage(clip: Path, options: tuple[str, ...]) -> None:
    done = run("webcam", "clip.mp4", "--json", "--no-window", *options, cwd=clip.parent)
    assert (done.returncode, done.stdout) == (2, "")
    one_line(done.stderr)
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_what_exists_is_not_overwritten_unasked(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("dear to me")
    assert run("webcam", clip, "-o", out, "--no-window").returncode == 2
    assert out.read_text() == "dear to me"


# Streams that are lost and come back.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, *command: object) -> None:
        self._command = [str(part) for part in command]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the camera shows: more than two minutes, and all that twelve bits can tell."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4000):
        (folder / f"{number:04}.jpg").write_bytes(cv2.imencode(".jpg", numbered(number))[1].tobytes())
    return folder


@pytest.fixture
def mjpeg(pictures: Path) -> Iterator[tuple[Server, str]]:
    """A camera of the kind that speaks motion JPEG; its pictures show their numbers, by the clock."""
    port = free_port()
    server = Server(sys.executable, SERVERS / "mjpeg_server.py", port, pictures, time.time())
    yield server, f"http://127.0.0.1:{port}/stream"
    server.kill()


@pytest.fixture
def rtsp() -> Iterator[tuple[Server, str]]:
    """A camera of the kind that speaks RTSP, and wants a password."""
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    check += "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    if not Path(python).exists() or subprocess.run([python, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip("no RTSP server: gir1.2-gst-rtsp-server-1.0, python3-gi or GStreamer's plugins are not installed")
    port = free_port()
    server = Server(python, SERVERS / "rtsp_server.py", port, "admin", PASSWORD)
    yield server, f"rtsp://admin:{PASSWORD}@127.0.0.1:{port}/test"
    server.kill()


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def lose_and_find(server: Server, url: str, out: Path, *options: str) -> tuple[list[dict[str, Any]], str]:
    """Watch a stream that is lost and comes back: the records and what was said."""
    process = start("webcam", url, "--json", "-o", out, "--no-window", *PLAIN, *options, env=PATIENT)
    try:
        head = read_lines(process, 20)
        server.kill()
        assert process.stderr is not None
        told = []
        while "trying again" not in "".join(told[-1:]):
            told.append(process.stderr.readline())
            assert told[-1], "it ended"
        time.sleep(1.0)
        server.start()
        # What was on its way when the server died comes first.
        head += read_lines(process, 40)
        process.send_signal(signal.SIGINT)
        tail, said = finish(process)
    finally:
        process.kill()
    said = "".join(told) + said
    assert process.returncode == 130, said
    return records("".join(head) + tail), said


def check_times(found: list[dict[str, Any]], out: Path) -> None:
    times = [record["time"] for record in found]
    assert all(a < b for a, b in pairwise(times))
    assert max(np.diff(times)) > 0.5, "the gap shows"
    assert all(a["frame"] < b["frame"] for a, b in pairwise(found))
    kept = clips.frame_times(out)
    assert kept == pytest.approx([at - times[0] for at in times], abs=2e-3)


def test_a_lost_web_camera_comes_back(tmp_path: Path, mjpeg: tuple[Server, str]) -> None:
    server, url = mjpeg
    out = tmp_path / "out.mp4"
    found, said = lose_and_find(server, url, out)
    check_times(found, out)
    numbers = [number_of(picture) for _, picture in clips.frames(out)]
    assert numbers == sorted(set(numbers)), "no frame out of order, none twice"
    assert len(numbers) == len(found)
    lost, back = said.splitlines()
    assert "trying again for up to 60 s" in lost
    assert "back after" in back


def test_a_lost_rtsp_camera_comes_back(tmp_path: Path, rtsp: tuple[Server, str]) -> None:
    server, url = rtsp
    stats = tmp_path / "stats.json"
    out = tmp_path / "out.mkv"
    found, said = lose_and_find(server, url, out, "--stats", str(stats), "-vv")
    check_times(found, out)
    assert "back after" in said
    # Nor does a password show, however talkative the run.
    everything = said + json.dumps(found) + (stats.read_text() if stats.exists() else "")
    assert PASSWORD not in everything
    assert {record["source"] for record in found} == {url.replace(PASSWORD, "***")}


def test_a_camera_that_stays_away(mjpeg: tuple[Server, str]) -> None:
    server, url = mjpeg
    process = start("webcam", url, "--json", "--no-window", "--reconnect", "1", env=PATIENT)
    try:
        head = read_lines(process, 5)
        server.kill()
        tail, said = finish(process)
    finally:
        process.kill()
    assert process.returncode == 1
    assert len(records("".join(head) + tail)) >= 5
    assert "not back within 1 s" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_camera_that_is_not_waited_for(mjpeg: tuple[Server, str]) -> None:
    server, url = mjpeg
    process = start("webcam", url, "--json", "--no-window", "--reconnect", "off", env=PATIENT)
    try:
        read_lines(process, 5)
        server.kill()
        _, said = finish(process)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "stream ended" in one_line(said) or "lost" in one_line(said) or "broke off" in one_line(said)


@pytest.mark.parametrize("verbosity", [(), ("-vv",)])
@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://admin:{PASSWORD}@127.0.0.1:9/live",
        f"http://127.0.0.1:9/video?user=a&password={PASSWORD}",
        f"http://127.0.0.1:9/video?token={PASSWORD}",
    ],
)
def test_passwords_stay_secret_when_it_fails(url: str, verbosity: tuple[str, ...]) -> None:
    done = run("webcam", url, "--json", "--no-window", *verbosity)
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
