"""Each check in a process of its own: broken libraries are real ones here, put before the good ones on the path."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from os import fdopen, pipe
from pathlib import Path

import pytest

from ssdcam.diagnosis.checks import Check, checks, run_check, run_checks
from ssdcam.diagnosis.finding import Finding, all_necessary_works, ok, problem
from tests.waiting import wait_until

CHECKS = {check.name: check for check in checks(["openvino"])}

Fake = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a module or a folder of a distribution where it is found before the real one."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return make


def _unblocked(end: threading.Event) -> None:
    """Get the signals that the main thread blocks."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    end.wait()


def only(check: str) -> Finding:
    """What a check finds; OpenCV 4 is told to be bad at letters besides."""
    [finding] = (finding for finding in run_check(CHECKS[check]) if finding.name != "labels")
    return finding


class TestOpenCV:
    """What newcomers meet first."""

    @pytest.mark.parametrize(
        ("complaint", "remedy"),
        [
            (
                "libGL.so.1: cannot open shared object file: No such file or directory",
                "apt install libgl1 libglib2.0-0",
            ),
            ("libgthread-2.0.so.0: cannot open shared object file", "opencv-python-headless"),
            ("/lib/libc.so.6: version `GLIBC_2.38' not found", "older opencv-python"),
            ("numpy.core.multiarray failed to import", "--force-reinstall numpy"),
            ("DLL load failed while importing cv2", "redistributable"),
            ("No module named 'cv2'", "pip install opencv-python"),
            ("something new", "--force-reinstall --no-deps opencv-python"),
        ],
    )
    def test_does_not_load(self, complaint: str, remedy: str, fake: Fake) -> None:
        fake("cv2.py", f"raise ImportError({complaint!r})")
        finding = only("OpenCV")
        assert (finding.status, finding.necessary) == ("problem", True)
        assert complaint in finding.text
        assert remedy in finding.remedy

    @pytest.mark.parametrize("check", ["detector", "video", "display", "cameras", "engine openvino"])
    def test_what_needs_it_says_so(self, check: str, fake: Fake) -> None:
        fake("cv2.py", "raise ImportError('libGL.so.1')")
        finding = only(check)
        assert finding.status == "problem"
        assert finding.text == "not checked, for cv2 does not load: see above"
        assert finding.necessary == CHECKS[check].necessary

    def test_an_empty_one(self, fake: Fake) -> None:
        fake("cv2/__init__.py", "")
        finding = only("OpenCV")
        assert (finding.status, finding.necessary) == ("problem", True)
        assert "a cv2 without OpenCV in it" in finding.text

    def test_two_of_them(self, fake: Fake) -> None:
        fake("opencv_python_headless-4.10.0.84.dist-info/METADATA", "Name: opencv-python-headless\nVersion: 4.10.0.84")
        finding = only("OpenCV")
        assert finding.status == "warning"
        assert "and opencv-python-headless 4.10.0.84 are installed" in finding.text
        assert "pip uninstall -y opencv-python opencv-python-headless; then" in finding.remedy

    def test_one_that_ends_the_process(self, fake: Fake) -> None:
        fake("cv2.py", "import os, sys\nprint('it is all over', file=sys.stderr, flush=True)\nos.abort()")
        finding = only("OpenCV")
        assert (finding.status, finding.necessary) == ("problem", True)
        assert finding.text == "dies: SIGABRT: it is all over"
        assert finding.remedy == CHECKS["OpenCV"].remedy

    def test_one_that_hangs(self, fake: Fake) -> None:
        fake("cv2.py", "import time\ntime.sleep(1000)")
        [finding] = run_check(replace(CHECKS["OpenCV"], patience=1))
        assert (finding.status, finding.text) == ("problem", "hangs: no answer within 1 s")

    def test_one_that_prints(self, fake: Fake) -> None:
        fake("cv2.py", "print('welcome to OpenCV')\nimport os\nos.write(1, b'{}')\nraise ImportError('no')")
        assert "does not load: no" in only("OpenCV").text


class TestTorch:
    @pytest.mark.parametrize("kind", ["ImportError", "OSError"])
    def test_does_not_load(self, kind: str, fake: Fake) -> None:
        fake("torch.py", f"raise {kind}('libtorch_cpu.so: undefined symbol: x\\nand more')")
        finding = only("torch")
        assert (finding.status, finding.necessary) == ("problem", True)
        assert finding.text == "does not load: libtorch_cpu.so: undefined symbol: x"
        assert "pytorch.org" in finding.remedy

    def test_does_not_load_and_says_nothing(self, fake: Fake) -> None:
        fake("torch.py", "raise ImportError")
        assert only("torch").text == "does not load: ImportError"

    def test_raises_what_nobody_expects(self, fake: Fake) -> None:
        fake("torch.py", "raise RuntimeError('first line\\nsecond')")
        finding = only("torch")
        assert (finding.status, finding.necessary) == ("problem", True)
        assert finding.text == "cannot be checked: RuntimeError: first line"
        assert finding.remedy == CHECKS["torch"].remedy

    def test_the_detector_is_tried_without_it(self, fake: Fake) -> None:
        """Another engine may run it."""
        fake("torch.py", "raise OSError('libcudart.so')")
        assert not only("detector").text.startswith("not checked")

    def test_works(self) -> None:
        first, *_ = run_check(CHECKS["torch"])
        assert (first.name, first.status) == ("torch", "ok")


def test_an_engine_that_is_not_installed(fake: Fake) -> None:
    fake("openvino.py", "raise ImportError(\"No module named 'openvino'\")")
    finding = only("engine openvino")
    assert finding.status == "warning"
    assert "pip install 'ssdcam[openvino]'" in finding.text + finding.remedy


def test_no_pyav(fake: Fake) -> None:
    fake("av.py", "raise ImportError(\"No module named 'av'\")")
    finding = only("video")
    assert (finding.status, finding.necessary) == ("problem", True)
    assert "video files need opencv-python and av (PyAV)" in finding.text
    assert only("codecs").status == "problem"


class TestDisplay:
    @pytest.fixture
    def display(self) -> Iterator[str]:
        """A display of our own."""
        if shutil.which("Xvfb") is None:
            pytest.skip("Xvfb is not installed")
        ours, theirs = pipe()
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "640x480x24"], pass_fds=[theirs], stderr=-3
        )
        with fdopen(theirs, "w"), fdopen(ours) as number:
            yield f":{number.readline().strip()}"
        server.terminate()
        server.wait()

    @pytest.fixture(autouse=True)
    def nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "QT_QPA_PLATFORM"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
    @pytest.mark.parametrize(
        ("variables", "text", "remedy"),
        [
            ({}, "there is no display (DISPLAY is not set)", "-o FILE, --json or --records FILE"),
            ({"WAYLAND_DISPLAY": "wayland-0"}, "there is no display", "XWayland"),
            ({"SSH_CONNECTION": "a 1 b 2"}, "there is no display", "ssh -X"),
            ({"DISPLAY": ":987"}, "the display :987 does not answer", "-o FILE"),
        ],
    )
    def test_none(self, variables: dict[str, str], text: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        finding = only("display")
        assert finding.status == "warning"
        assert text in finding.text
        assert remedy in finding.remedy

    def test_one(self, display: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", display)
        assert only("display") == ok("display", "a window opens on a screen of 640x480")

    def test_one_that_qt_cannot_use(self, display: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It ends the process, as it does where a library of its own is missing."""
        import cv2

        if not cv2.currentUIFramework().startswith("QT"):
            pytest.skip("this OpenCV's windows are not Qt's")
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.setenv("QT_QPA_PLATFORM", "nosuch")
        finding = only("display")
        assert finding.status == "problem"
        assert finding.text.startswith("dies: SIGABRT: ")
        assert "nosuch" in finding.text
        assert "libxcb-cursor0" in finding.remedy


class TestRunning:
    def test_in_their_order(self) -> None:
        some = [CHECKS[name] for name in ("memory", "cpu", "cache", "network")]
        assert [finding.name for finding in run_checks(some)] == ["memory", "CPU", "cache", "network"]

    def test_what_was_found_before_the_end_is_kept(self, fake: Fake) -> None:
        fake("cv2.py", "__version__ = '4.0'")
        names = {finding.name for finding in run_check(replace(CHECKS["installation"], needs=()))}
        assert {"Python", "ssdcam"} <= names

    def test_a_stop_ends_what_runs(self, fake: Fake) -> None:
        fake("cv2.py", "import time\ntime.sleep(1000)")
        stop = threading.Event()
        stop.set()
        assert [finding.status for finding in run_check(CHECKS["OpenCV"], stop)] == ["problem"]

    def test_ctrl_c_that_wakes_nobody(self, fake: Fake, tmp_path: Path) -> None:
        """As it comes when it comes just before the main thread waits; here, another thread is the one that gets it."""
        over, pid = tmp_path / "over", tmp_path / "pid"
        fake(
            "cv2.py",
            f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
            f"while not os.path.exists({str(over)!r}): time.sleep(0.1)",
        )

        def interrupt() -> None:
            wait_until(lambda: pid.exists() and pid.read_text())
            os.kill(os.getpid(), signal.SIGINT)

        watchdog = threading.Timer(60, over.touch)  # what is not woken by Ctrl-C wakes when the check is over
        watchdog.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        interrupter = threading.Thread(target=interrupt)
        other = threading.Event()
        receiver = threading.Thread(target=_unblocked, args=(other,))
        receiver.start()
        try:
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                list(run_checks([CHECKS["OpenCV"]]))
        finally:
            watchdog.cancel()
            other.set()
            receiver.join()
            interrupter.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        assert not over.exists()
        assert not Path(f"/proc/{pid.read_text()}").exists()

    def test_no_further_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nosuch/python")
        finding = only("OpenCV")
        assert (finding.status, finding.text) == ("problem", "cannot be checked: No such file or directory")

    def test_every_check_is_there(self) -> None:
        """Each function exists, and none but torch's and the detector's loads torch by being found."""
        from importlib import import_module

        for check in CHECKS.values():
            module, _, function = check.function.partition(":")
            assert callable(getattr(import_module(f"ssdcam.diagnosis.{module}"), function))

    def test_the_current_folder_is_not_looked_into(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cv2.py").write_text("raise ImportError('of the current folder')")
        monkeypatch.chdir(tmp_path)
        assert only("OpenCV").status == "ok"


def test_only_what_is_necessary_counts() -> None:
    assert all_necessary_works([ok("a", ""), problem("b", "", "")])
    assert not all_necessary_works([ok("a", ""), problem("b", "", "", necessary=True)])


def test_a_check_that_is_named_by_nothing_is_a_problem() -> None:
    [finding] = run_check(Check("lost", "system:check_nosuch", remedy="find it"))
    assert (finding.status, finding.remedy) == ("problem", "find it")
    assert "AttributeError" in finding.text
