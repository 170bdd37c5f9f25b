"""The window on a real screen (Xvfb's), with keys that xdotool presses as a person would."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.errors import UnavailableError
from ssdcam.media.window import Window, fitted, screen_size, why_no_display

from ..cli.running import STUBBED, environment, records, run
from ..waiting import GUARD, finish, wait_until
from .clips import frame_times
from .sources.videos import make_video, number_of, numbered

SCREEN = (1280, 800)


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A display of our own, with a window manager if there is one: full screen takes one."""
    for tool in ("Xvfb", "xdotool"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    ours, theirs = os.pipe()
    command = ["Xvfb", "-displayfd", str(theirs), "-screen", "0", f"{SCREEN[0]}x{SCREEN[1]}x24", "-listen", "tcp"]
    server = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    display = f":{number}"
    manager = None
    if shutil.which("openbox"):
        manager = subprocess.Popen(["openbox"], env=environment({"DISPLAY": display}), stderr=subprocess.DEVNULL)
    yield display
    for process in filter(None, (manager, server)):
        process.terminate()
        process.wait()


class Watched:
    """``ssdcam`` with a window, and someone who sits before it."""

    def __init__(self, display: str, folder: Path, *arguments: object, **env: str) -> None:
        self.folder = folder
        shown = folder / "shown"
        self._env = environment({"DISPLAY": display, "SSDCAM_STUB_SHOWN": str(shown), **env})
        self.said = ""
        self.process = subprocess.Popen(
            [*STUBBED, *map(str, arguments)],
            cwd=folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(shown.exists, self.process)
        self.id = self.xdotool("search", "--sync", "--onlyvisible", "--name", "^ssdcam$").split()[-1]

    def xdotool(self, *arguments: object) -> str:
        done = subprocess.run(
            ["xdotool", *map(str, arguments)], env=self._env, capture_output=True, text=True, timeout=GUARD, check=True
        )
        return done.stdout

    def hear(self, text: str) -> None:
        """Wait until that is said on stderr."""
        assert self.process.stderr is not None
        while text not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line

    def press(self, key: str) -> None:
        self.xdotool("windowfocus", "--sync", self.id, "key", key)

    def size(self) -> tuple[int, int]:
        shell = dict(line.split("=") for line in self.xdotool("getwindowgeometry", "--shell", self.id).split())
        return int(shell["WIDTH"]), int(shell["HEIGHT"])

    def picture(self) -> np.ndarray:
        """What the whole screen shows."""
        if shutil.which("import") is None:
            pytest.skip("ImageMagick's import is not installed")
        path = self.folder / "screen.png"
        subprocess.run(["import", "-silent", "-window", "root", path], env=self._env, check=True, timeout=GUARD)
        image = cv2.imread(str(path))
        assert image is not None
        return image

    def end(self) -> tuple[int, str, str]:
        out, err = finish(self.process)
        return self.process.returncode, out, self.said + err


@pytest.fixture
def watch(screen: str, tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Starts a command line with a window."""
    started: list[Watched] = []

    def begin(*arguments: object, **env: str) -> Watched:
        started.append(Watched(screen, tmp_path, *arguments, **env))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of numbered frames."""
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", range(1800), size=(320, 240))


@pytest.mark.parametrize("way", ["q", "Escape", "alt+F4"])
@pytest.mark.parametrize("command", [("video", "--show"), ("webcam",)], ids=lambda command: command[0])
def test_leaving(watch: Callable[..., Watched], film: Path, way: str, command: tuple[str, ...]) -> None:
    watched = watch(*command, film, "--records", "r.jsonl")
    if way == "alt+F4" and shutil.which("openbox") is None:
        pytest.skip("openbox is not installed, and without a window manager nobody asks a window to close")
    watched.press(way)
    code, out, err = watched.end()
    assert (code, err) == (0, "")
    assert "frames in" in out
    assert records((watched.folder / "r.jsonl").read_text())


def test_the_end_of_a_video_closes_the_window(watch: Callable[..., Watched], tmp_path: Path) -> None:
    watched = watch("video", make_video(tmp_path / "short.mp4", range(60)))
    code, out, err = watched.end()
    assert (code, err) == (0, "")
    assert out.startswith("60 frames in")
    assert float(re.findall(r"in ([\d.]+) s", out)[0]) > 1.5, "without another sink it plays at its own pace"


def test_space_holds_a_file(watch: Callable[..., Watched], film: Path, tmp_path: Path) -> None:
    watched = watch("video", film, "--show", "--records", "r.jsonl", SSDCAM_STUB_SLEEP="0.2")
    lines = tmp_path / "r.jsonl"
    watched.press("space")

    def stands() -> bool:
        before = lines.stat().st_size
        time.sleep(1.0)
        return lines.stat().st_size == before

    wait_until(stands)
    assert stands()
    held = lines.stat().st_size
    watched.press("space")
    wait_until(lambda: lines.stat().st_size > held)
    watched.press("q")
    assert watched.end()[0] == 0
    found = records(lines.read_text())
    assert [record["frame"] for record in found] == list(range(len(found)))


def test_s_saves_what_is_shown(watch: Callable[..., Watched], film: Path, tmp_path: Path) -> None:
    watched = watch("webcam", film, "-v", "--score", "1", "--no-fps")
    watched.press("s")
    wait_until(lambda: len(list(tmp_path.glob("ssdcam-*.png"))) == 1)
    watched.press("q")
    code, _, err = watched.end()
    (path,) = tmp_path.glob("ssdcam-*.png")
    assert code == 0
    assert f"info: saved {path.name}" in err
    image = cv2.imread(str(path))
    assert image is not None
    assert image.shape == (240, 320, 3)
    assert np.abs(image.astype(int) - numbered(number_of(image), (320, 240))).mean() < 10, "one of the film's"


def test_r_records_until_pressed_again(watch: Callable[..., Watched], film: Path, tmp_path: Path) -> None:
    watched = watch("webcam", film, "-v", "--records", "r.jsonl")
    watched.press("r")
    wait_until(lambda: len(list(tmp_path.glob("ssdcam-*.mp4"))) == 1)
    lines = tmp_path / "r.jsonl"
    before = lines.read_text().count("\n")
    wait_until(lambda: lines.read_text().count("\n") > before + 12)
    watched.press("r")
    watched.hear("info: recorded ")
    watched.press("q")
    code, _, err = watched.end()
    (path,) = tmp_path.glob("ssdcam-*.mp4")
    assert code == 0
    assert f"info: recorded {path.name}" in err
    assert len(frame_times(path)) >= 10


def test_plus_and_minus_move_the_score(watch: Callable[..., Watched], film: Path, tmp_path: Path) -> None:
    watched = watch("webcam", film, "-v", "--records", "r.jsonl")
    expected = ["0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95", "0.90"]
    for key, score in zip(["plus"] * 9 + ["minus"], expected, strict=True):
        watched.said, before = "", watched.said
        watched.press(key)
        watched.hear(f"score {score}")
        watched.said = before + watched.said
    lines = tmp_path / "r.jsonl"
    before = lines.read_text().count("\n")
    wait_until(lambda: lines.read_text().count("\n") > before + 20)  # more than are on their way at once
    watched.press("q")
    code, _, err = watched.end()
    assert code == 0
    scores = re.findall(r"score (0\.\d+)", err)
    assert scores == expected
    found = records(lines.read_text())
    assert max(len(record["detections"]) for record in found) == 2
    assert {one["score"] for record in found[-3:] for one in record["detections"]} <= {0.9}


def test_keys_without_a_character_do_nothing(watch: Callable[..., Watched], film: Path, tmp_path: Path) -> None:
    watched = watch("webcam", film, "-v")
    for key in ("Up", "Right", "Left", "XF86Search"):  # X11's codes of these end as those of r, s, q and Esc
        watched.press(key)
    watched.press("plus")
    watched.hear("score 0.55")
    watched.press("q")
    code, _, err = watched.end()
    assert code == 0
    assert [line for line in err.splitlines() if line.startswith("info: ")][1:] == ["info: score 0.55"]
    assert not list(tmp_path.glob("ssdcam-*"))


def test_f_fills_the_screen(watch: Callable[..., Watched], film: Path) -> None:
    if shutil.which("openbox") is None:
        pytest.skip("openbox is not installed, and without a window manager nothing can be full screen")
    watched = watch("webcam", film)
    wait_until(lambda: watched.size() == (320, 240))
    watched.press("f")
    wait_until(lambda: watched.size() == SCREEN)
    watched.press("f")
    wait_until(lambda: watched.size()[0] < SCREEN[0])
    watched.press("q")
    assert watched.end()[0] == 0


def test_h_shows_the_keys(watch: Callable[..., Watched], tmp_path: Path) -> None:
    slow = make_video(tmp_path / "slow.mp4", range(200), Fraction(1, 2), size=(640, 480), rate=2)
    watched = watch("video", slow, "--show", "--score", "1", "--no-fps")

    def changed(since: np.ndarray) -> int:
        return int((np.abs(watched.picture().astype(int) - since).max(axis=2) > 60).sum())

    def stands() -> bool:
        before = watched.picture().astype(int)
        time.sleep(1.5)  # three pictures of a film that runs
        return changed(before) == 0

    watched.press("space")
    wait_until(stands)
    plain = watched.picture().astype(int)
    watched.press("h")
    wait_until(lambda: changed(plain) > 800)
    watched.press("h")
    wait_until(lambda: changed(plain) < 200)
    watched.press("q")
    assert watched.end()[0] == 0


def test_a_large_picture_fits_the_screen(watch: Callable[..., Watched], tmp_path: Path) -> None:
    large = make_video(
        tmp_path / "large.mp4", range(10), Fraction(10, 1), size=(3840, 2160), options={"preset": "ultrafast"}, rate=1
    )
    watched = watch("webcam", large)
    width, height = watched.size()
    assert width <= 0.8 * SCREEN[0] + 1
    assert height <= 0.8 * SCREEN[1] + 1
    assert width / height == pytest.approx(16 / 9, rel=0.02)

    def is_there() -> bool:
        image = watched.picture()
        dark, bright = (image.max(axis=2) < 60).sum(), (image.min(axis=2) > 190).sum()
        return bool(dark + bright > 0.6 * width * height)

    wait_until(is_there)
    watched.press("q")
    assert watched.end()[0] == 0


@pytest.mark.parametrize(
    "command", [("video", "--show"), pytest.param(("webcam",), marks=pytest.mark.slow)], ids=lambda command: command[0]
)
def test_a_slow_window_takes_nothing_from_the_file(screen: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A window that takes two seconds for a picture; every frame of a file is recorded all the same."""
    source, out = make_video(tmp_path / "clip.mp4", range(90)), tmp_path / "out.mp4"
    done = run(
        *command, source, "-o", out, "--json", "--score", "1", "--no-fps", "--crf", "10",
        env={"DISPLAY": screen, "SSDCAM_STUB_WINDOW": "2"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = records(done.stdout)
    assert len(frame_times(out)) == len(found)
    if command[0] == "video":
        assert [record["frame"] for record in found] == list(range(90))
    else:
        assert len(found) > 20, "nor does it hold a live source up"  # or a dozen would have to do for three seconds


# Displays, or none.


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert why_no_display() == "there is no display (DISPLAY is not set)"
    with pytest.raises(UnavailableError, match="no display"):
        Window("x", (10, 10))


@pytest.mark.parametrize("display", [":987", ":987.0", "unix:987", "127.0.0.1:987", "nonsense", "localhost"])
def test_dead_displays(monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    """The Qt in OpenCV's wheels would end the process."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    assert why_no_display() is not None
    with pytest.raises(UnavailableError):
        Window("x", (10, 10))


@pytest.mark.parametrize("xlib", [True, False])
def test_a_display_that_answers(screen: str, monkeypatch: pytest.MonkeyPatch, xlib: bool) -> None:
    if not xlib:
        monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    for name in (screen, f"{screen}.0", f"unix{screen}"):
        monkeypatch.setenv("DISPLAY", name)
        assert why_no_display() is None


@pytest.mark.parametrize("xlib", [True, False])
def test_a_display_over_the_network(screen: str, monkeypatch: pytest.MonkeyPatch, xlib: bool) -> None:
    """As with ``ssh -X``: display 10 is port 6010."""
    if not xlib:
        monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setenv("DISPLAY", f"127.0.0.1{screen}.0")
    assert why_no_display() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has X displays")
@pytest.mark.parametrize("xlib", [True, False])
def test_a_display_that_never_answers(monkeypatch: pytest.MonkeyPatch, xlib: bool) -> None:
    """Its connections are taken, and that is all."""
    if not xlib:
        monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with closing(listening()) as server:
        number = server.getsockname()[1] - 6000
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{number}")
        assert why_no_display() == f"the display 127.0.0.1:{number} does not answer, or does not let us in"


def listening() -> socket.socket:
    """A server where a display would be, with a number that no real one has."""
    for number in range(50, 150):
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", 6000 + number))
    pytest.skip("no port is free")


@pytest.mark.skipif(sys.platform == "win32", reason="there is always a display on Windows")
def test_the_screens_size(screen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", screen)
    assert screen_size() == SCREEN
    monkeypatch.setenv("DISPLAY", ":987")
    assert screen_size() == (1366, 768), "a common one where it cannot be told"


@pytest.mark.parametrize(
    ("size", "screen_is", "expected"),
    [
        ((640, 480), (1920, 1080), (640, 480)),  # as it is
        ((3840, 2160), (1920, 1080), (1536, 864)),  # 4K
        ((1080, 1920), (1920, 1080), (486, 864)),  # upright
        ((4000, 10), (1000, 1000), (800, 2)),
        ((10000, 1), (1000, 1000), (800, 1)),  # never nothing
    ],
)
def test_what_size_a_window_opens_at(
    size: tuple[int, int], screen_is: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted(size, screen_is) == expected
