"""Signals at any moment of a run, from its first import to its last breath: it ends with their code, quietly."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ssdcam.training.log import read_log
from ssdcam.training.run_folder import load_state

from ..media.clips import boxes
from ..media.sources.videos import decoded_times, make_video
from ..pictures import photo
from ..waiting import wait_until
from .running import GUARD, environment, one_line, start
from .test_train import QUICK, write_coco

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

# Before the command line: `at_import(n, do)` calls it at the nth import after signals are heard.
PRELUDE = """
import atexit, os, signal, sys, threading, weakref

def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # Python looks for signals between two steps
        pass

def at_import(nth, do):
    def watch(event, arguments):
        nonlocal nth
        if event == "import" and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            nth -= 1
            if nth == -1:
                do()
    sys.addaudithook(watch)
"""

MAIN = """
from ssdcam.cli import main
main()
"""


def run_with(prelude: str, *arguments: object, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line, with code that runs before it; stdin stays open and empty."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + prelude + MAIN, *map(str, arguments)],
        cwd=cwd, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            code = process.wait(GUARD)
        finally:
            process.kill()
        assert process.stdout
        assert process.stderr
        return code, process.stdout.read(), process.stderr.read()


WAITING = ("image", "-", "-m", "tiny.safetensors", "--engine", "torch", "--device", "cpu")
"""Waits for names on stdin for ever."""


@pytest.fixture
def here(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a small detector and a picture."""
    (tmp_path / "tiny.safetensors").write_bytes(tiny_model.read_bytes())
    photo(tmp_path / "a.jpg")
    return tmp_path


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("nth", [0, 1, 2, 10, 40, 80])
def test_while_ssdcam_and_click_are_imported(nth: int, name: str, code: int) -> None:
    assert run_with(f"at_import({nth}, lambda: send(signal.{name}))", "image", "--help") == (code, "", "")


def test_nothing_is_imported_before_signals_are_heard() -> None:
    prelude = """
names = lambda: [name for name in sys.modules if name.startswith(("ssdcam", "click"))]
at_import(0, lambda: (print(*sorted(names()), flush=True), send()))
"""
    code, out, _ = run_with(prelude, "--version")
    assert (code, out.split()) == (130, ["ssdcam", "ssdcam.cli", "ssdcam.cli.main", "ssdcam.cli.stopping"])


def imports(*arguments: object, cwd: Path) -> int:
    """How many imports a command line makes that ends when stdin does."""
    prelude = """
count = 0
def watch(event, arguments):
    global count
    count += event == "import" and signal.getsignal(signal.SIGINT) is not signal.default_int_handler
sys.addaudithook(watch)
atexit.register(lambda: os.write(2, str(count).encode()))
sys.stdin = open(os.devnull)
os.dup2(sys.stdin.fileno(), 0)
"""
    code, _, said = run_with(prelude, *arguments, cwd=cwd)
    assert code == 0, said
    return int(said.splitlines()[-1])  # behind what is said of a stdin that names no picture


def stop_at_imports(count: int, here: Path, dice: random.Random) -> None:
    """A run is stopped while torch, OpenCV and the rest are imported, which have callbacks of their own."""
    every = imports(*WAITING, cwd=here)
    for nth in dice.sample(range(every), count):
        name, code = dice.choice([("SIGINT", 130), ("SIGTERM", 143)])
        ended = run_with(f"at_import({nth}, lambda: send(signal.{name}))", *WAITING, cwd=here)
        assert ended == (code, "", ""), f"{name} at import {nth}"


def test_while_libraries_are_imported(here: Path) -> None:
    stop_at_imports(4, here, random.Random(0))


@pytest.mark.slow
def test_while_libraries_are_imported_at_many_moments(here: Path) -> None:
    stop_at_imports(60, here, random.Random(1))


DROPPED = {
    "a destructor": """
class Thing:
    def __del__(self):
        send()
def drop():
    Thing()
""",
    "a weakref's callback": """
class Thing:
    pass
def drop():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: send())
    del thing
""",
    "the destructors of two": """
class Thing:
    def __del__(self):
        send()
        time.sleep(0.05)  # the first one comes again in here
        del self.other
import time
def drop():
    thing = Thing()
    thing.other = Thing()
    thing.other.other = None
    del thing
""",
    "something that swallows it": """
def drop():
    try:
        send()
    except BaseException:
        pass
""",
    "something that takes its time over it": """
import time
def drop():
    try:
        send()
    except BaseException:
        time.sleep(0.5)
""",
}


@pytest.mark.parametrize("what", DROPPED)
def test_a_stop_that_is_dropped_is_heard_all_the_same(what: str, here: Path) -> None:
    prelude = f"{DROPPED[what]}\nat_import(300, drop)"
    assert run_with(prelude, *WAITING, cwd=here) == (130, "", "")


def test_an_error_of_a_destructor_is_for_programmers(here: Path) -> None:
    prelude = """
class Thing:
    def __del__(self):
        raise ValueError("nobody's")
at_import(300, Thing)
"""
    code, _, said = run_with(prelude, "image", "a.jpg", *WAITING[2:], cwd=here)
    assert (code, said) == (0, "")


# Signals that come when the first one has already ended the run.
LATER = {
    "one when all is done": "atexit.register(send, signal.SIGTERM)",
    "hundreds": """
def more():
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
from ssdcam.cli import stopping
class Stopped(stopping.Stopped):
    def __init__(self, number):
        super().__init__(number)
        threading.Thread(target=more, daemon=True).start()
stopping.Stopped = Stopped
""",
}


@pytest.mark.parametrize("what", LATER)
def test_a_second_signal_changes_nothing(what: str, here: Path) -> None:
    prelude = f"{LATER[what]}\nat_import(300, send)"
    assert run_with(prelude, *WAITING, cwd=here) == (130, "", "")


# What C++ makes of a signal that comes while its module is imported.
INITIALISING = """
from ssdcam.detection import no_reports
def broken(name):
    try:
        send()
    except BaseException as stop:
        raise ImportError("initialization failed") from stop
no_reports.import_module = broken
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "auto"])
def test_a_stop_while_an_engine_is_imported_is_no_missing_engine(here: Path, engine: str) -> None:
    """Nor is the next one taken in its place."""
    package = engine if engine != "auto" else "openvino"
    pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[{package}]'")
    assert run_with(INITIALISING, "image", "a.jpg", "--engine", engine, cwd=here) == (130, "", "")


# What torch's exporter makes of one that comes while it works.
EXPORTING = """
from ssdcam.cli import loading
def broken(**options):
    try:
        send()
    except BaseException as stop:
        raise RuntimeError("Failed to export the model: create an issue") from None
loading.load_detector = broken
"""


def test_what_a_library_makes_of_a_stop_is_no_bug(here: Path) -> None:
    assert run_with(EXPORTING, "image", "a.jpg", cwd=here) == (130, "", "")


CLOSING = """
from ssdcam.media.video_writer import VideoWriter
close = VideoWriter.close
def stopped_close(self, **how):
    threading.Timer({moment}, send).start()
    close(self, **how)
VideoWriter.close = stopped_close
"""


@pytest.mark.parametrize("moment", [0.0, 0.02])
@pytest.mark.parametrize("command", ["video", "webcam --no-window"])
def test_a_stop_while_a_video_is_closed_loses_no_frame(here: Path, command: str, moment: float) -> None:
    make_video(here / "in.mp4", range(20))
    arguments = [*command.split(), "in.mp4", "-o", "out.mp4", "--codec", "av1", "--records", "out.jsonl", *WAITING[2:]]
    code, said, complaints = run_with(CLOSING.format(moment=moment), *arguments, cwd=here)
    assert complaints == ""
    # One that comes when the run has ended may end the process as it would end any, or come too late.
    assert code == 130 or (moment and code in (-signal.SIGINT, 0))
    assert said.endswith("wrote out.mp4, out.jsonl\n")
    assert "stopped" not in said  # it came to its end
    written = (here / "out.jsonl").read_text().splitlines()
    assert len(decoded_times(here / "out.mp4")) == len(written) > 0  # a camera's are dropped while the machine is busy


# A stop at the moment in which a function is called, which then does as ever or fails.
AT = """
import {module}
usual = {module}.{function}
def stopped(*given, **named):
    send()
    {failing}
    return usual(*given, **named)
{module}.{function} = stopped
"""


def test_a_stop_while_a_file_is_opened_leaves_none(here: Path) -> None:
    make_video(here / "in.mp4", range(5))
    prelude = AT.format(module="ssdcam.media.video_writer", function="_identity", failing="")
    code, said, _ = run_with(prelude, "video", "in.mp4", "-o", "out.mp4", *WAITING[2:], cwd=here)
    assert (code, said) == (130, "")
    assert not (here / "out.mp4").exists()


def test_a_stop_while_records_are_put_together_loses_none(here: Path) -> None:
    make_video(here / "in.mp4", range(5))
    prelude = AT.format(module="ssdcam.records.coco", function="write_whole", failing="{module}.write_whole = usual")
    prelude = prelude.replace("{module}", "ssdcam.records.coco")
    code, _, complaints = run_with(prelude, "video", "in.mp4", "--records", "out.json", *WAITING[2:], cwd=here)
    assert (code, complaints) == (130, "")
    assert len(json.loads((here / "out.json").read_text())["images"]) == 5


FULL = """
from ssdcam.media.video_writer import VideoWriter
usual = VideoWriter._finish
def full(self, ended):
    if not self._finished.done():
        time.sleep(0.5)
        self._finished.set_exception(OSError(28, "No space left on device"))
import time
VideoWriter._finish = full
close = VideoWriter.close
def stopped_close(self, **how):
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    close(self, **how)
VideoWriter.close = stopped_close
"""


def test_a_stop_is_heard_where_closing_fails_too(here: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_video(here / name, range(5))
    code, said, complaints = run_with(FULL, "video", "a.mp4", "b.mp4", "-o", "out/", *WAITING[2:], cwd=here)
    assert code == 130
    assert complaints == "warning: out/a.mp4: cannot be written: No space left on device\n"
    assert "stopped in a.mp4; --resume begins it anew and leaves alone what is done\n" in said
    assert not (here / "out/b.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_who_reads_stderr_slowly_misses_only_what_came_meanwhile() -> None:
    """Whoever starts us may share a pipe that does not block; a full one is no reason never to write to it again."""
    said = """
import logging
from ssdcam.cli import console
os.set_blocking(2, False)
console.start()
for _ in range(3000):
    console.log.error("x" * 100)
sys.stdout.write("full\\n"); sys.stdout.flush()
sys.stdin.readline()
console.log.error("at last")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os, sys\n{said}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "full\n"
    said, complaints = process.communicate("\n", timeout=GUARD)
    assert complaints.endswith("error: at last\n")


@pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
@pytest.mark.parametrize("command", ["video", pytest.param("train", marks=pytest.mark.slow)])
def test_a_terminal_that_is_gone_stops_a_run(tmp_path: Path, tiny_model: Path, command: str) -> None:
    """Its window is closed: the run hears of it, and nothing that it still says can be written any more."""
    import fcntl
    import termios

    out = tmp_path / "run" if command == "train" else tmp_path / "out.mp4"
    if command == "train":
        write_coco(tmp_path, "train", 10, 0)
        write_coco(tmp_path, "val", 4, 1)
        arguments = ["train", tmp_path, "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", *QUICK]
        arguments += ["--input-size", 96, "--epochs", 10_000, "--eval-every", 10_000, "--workers", 0, "-o", out]
        begun = out / "log.csv"
    else:
        video = make_video(tmp_path / "in.mp4", range(4000))
        arguments = ["video", video, "-m", tiny_model, "--engine", "torch", "--device", "cpu", "-o", out]
        begun = out
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ssdcam", *map(str, arguments)], env={**environment(), "TERM": "xterm"},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # no thread forks here
    )  # fmt: skip
    try:
        os.close(slave)
        wait_until(lambda: begun.exists() and begun.stat().st_size > 1000, process)
        os.close(master)
        assert process.wait(GUARD) == 129
    finally:
        process.kill()
    if command == "train":
        state = load_state(out)
        assert state is not None
        assert state["step"] == len(read_log(out / "log.csv"))
    else:
        assert "moof" not in boxes(out)
        assert 0 < len(decoded_times(out)) < 4000


# What libraries' destructors do now and then when a process ends while threads work.
ABORTING = """
import ctypes
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.abort, None, None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
class TestTearingDown:
    def test_a_stopped_run_does_without(self, here: Path) -> None:
        assert run_with(f"{ABORTING}\nat_import(300, send)", *WAITING, cwd=here) == (130, "", "")

    def test_so_does_one_that_ends_while_a_thread_works(self, here: Path) -> None:
        work = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
        assert run_with(f"{ABORTING}\n{work}", "weights", "info", "a.jpg", cwd=here)[0] == 1

    def test_any_other_does_not(self, here: Path) -> None:
        assert run_with(ABORTING, "weights", "info", "a.jpg", cwd=here)[0] == -signal.SIGABRT

    def test_what_was_registered_is_done_and_what_was_said_is_written(self, here: Path) -> None:
        prelude = f"{ABORTING}\natexit.register(print, 'done')\nat_import(300, send)"
        assert run_with(prelude, *WAITING, cwd=here) == (130, "done\n", "")


def test_processes_that_prepare_photos_end_with_the_run(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 10, 0)
    write_coco(tmp_path, "val", 4, 1)
    arguments = ["train", tmp_path, "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", "--input-size", 96]
    arguments += [*QUICK, "--epochs", 10_000, "--eval-every", 10_000, "--workers", 2, "-o", tmp_path / "run"]
    process = start(*arguments, command=[sys.executable, "-m", "ssdcam"])
    try:
        log = tmp_path / "run/log.csv"
        wait_until(lambda: log.exists() and log.read_text().count("\n") >= 3, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=GUARD)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert one_line(err).startswith("note: stopping after this step")
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=GUARD)[1] == []


@pytest.mark.slow
def test_two_hundred_stopped_videos(tmp_path: Path, tiny_model: Path) -> None:
    """With the real engines, decoder and encoder at work, of which each has threads of its own."""
    video = make_video(tmp_path / "long.mp4", range(1200))
    dice = random.Random(2)
    for number in range(200):
        engine = dice.choice(["torch", "openvino", "onnxruntime"])
        options = ["-m", tiny_model, "--engine", engine, "--device", "cpu", "-o", tmp_path / "out.mp4", "-y"]
        process = start("video", video, *options, command=[sys.executable, "-m", "ssdcam"])
        try:
            wait_until((tmp_path / "out.mp4").exists, process)
            name, code = dice.choice([("SIGINT", 130), ("SIGTERM", 143)])
            process.send_signal(signal.Signals[name])
            _, said = process.communicate(timeout=GUARD)
        finally:
            process.kill()
        kept = (tmp_path / "out.mp4").exists() and len(decoded_times(tmp_path / "out.mp4")) > 0
        assert kept == (tmp_path / "out.mp4").exists(), "what holds no frame is not left behind"
        (tmp_path / "out.mp4").unlink(missing_ok=True)
        complaints = [line for line in said.splitlines() if "preparing this network" not in line]
        assert process.returncode == code, f"round {number}, {engine}: {said}"
        nothing = f"warning: {tmp_path / 'out.mp4'}: was not kept, for not one frame was written"
        # One that was still being opened is gone without a word.
        assert complaints == [] or (complaints == [nothing] and not kept), f"round {number}, {engine}"
