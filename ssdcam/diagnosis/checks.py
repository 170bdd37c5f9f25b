"""All checks as data, and each of them run in a process of its own: whatever a library does there, it is reported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from tempfile import TemporaryFile
from threading import Event
from typing import IO

from ssdcam.cpu import usable_threads
from ssdcam.diagnosis.finding import Finding, problem

_LOOK = 0.1  # seconds between looks at whether the run is to stop, or was interrupted
_TOGETHER = 4  # checks at once, at most: several of them load torch

# The child sees the modules that this process sees, and nothing of the current folder that this one would not see.
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from ssdcam.diagnosis import alone; alone.main()"


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: what its findings are called where it comes to none.
        function: what looks, as ``module:function`` below this package; it yields findings.
        needs: packages that it makes no sense without.
        remedy: what to do if it dies on the way.
        necessary: see :class:`~ssdcam.diagnosis.finding.Finding`.
        arguments: of the function.
        patience: seconds until it counts as hung: many times what a slow machine needs.
    """

    name: str
    function: str
    needs: tuple[str, ...] = ()
    remedy: str = "reinstall it in an empty virtual environment, as README.md says"
    necessary: bool = False
    arguments: tuple[str, ...] = ()
    patience: float = 180.0


_OPENCV = "pip install --force-reinstall --no-deps opencv-python, or opencv-python-headless where there is no screen"


def checks(engines: Sequence[str]) -> list[Check]:
    """Everything that ``ssdcam doctor`` looks at.

    Args:
        engines: names of the engines other than torch.
    """
    return [
        Check("installation", "installation:check_installation", necessary=True),
        Check("extras", "installation:check_extras", arguments=tuple(engines)),
        Check("cpu", "system:check_cpu"),
        Check("memory", "system:check_memory"),
        Check(
            "torch",
            "compute:check_torch",
            remedy="pip install --force-reinstall torch, or the build for this machine from https://pytorch.org",
            necessary=True,
        ),
        Check("OpenCV", "pictures:check_opencv", remedy=_OPENCV, necessary=True),
        Check(
            "detector",
            "compute:check_detector",
            needs=("cv2",),
            remedy="try --device cpu; if that dies, too, reinstall torch and ssdcam",
            necessary=True,
        ),
        *(
            Check(
                f"engine {name}",
                "compute:check_engine",
                needs=("cv2",),
                remedy=f"use --engine torch, or pip install --upgrade --force-reinstall {name}",
                arguments=(name,),
            )
            for name in engines
        ),
        Check(
            "video",
            "video:check_video",
            needs=("cv2",),
            remedy="pip install --force-reinstall --no-deps av",
            necessary=True,
        ),
        Check("codecs", "video:check_codecs", needs=("cv2",), remedy="use --codec h264"),
        Check(
            "display",
            "pictures:check_display",
            needs=("cv2",),
            remedy="work without a window (-o FILE, --json or --records FILE); on Debian and Ubuntu, what Qt misses is "
            "mostly in: sudo apt install "
            "libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-xinerama0 libxkbcommon-x11-0",
        ),
        Check(
            "cameras",
            "cameras:check_cameras",
            needs=("cv2",),
            remedy="unplug the camera and plug it in again; ssdcam image and video work without one",
        ),
        Check("cache", "system:check_cache"),
        Check("network", "system:check_network"),
    ]


def run_checks(checks: Sequence[Check]) -> Iterator[Finding]:
    """Run checks, several at once, each in its own process.

    Yields:
        What they find, in the order of the checks.
    """
    stop = Event()
    with ThreadPoolExecutor(min(_TOGETHER, usable_threads()), "ssdcam-check") as pool:
        try:
            for running in [pool.submit(run_check, check, stop) for check in checks]:
                while not running.done():  # a Ctrl-C just before an endless wait would not be noticed until its end
                    wait([running], _LOOK)
                yield from running.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def run_check(check: Check, stop: Event | None = None) -> list[Finding]:
    """Run a check in a process of its own; one that dies or hangs is a problem like others."""
    arguments = [check.function, ",".join(check.needs), *check.arguments, json.dumps(sys.path)]
    with TemporaryFile() as complaints:
        try:
            child = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-P", "-c", _CHILD, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except OSError as error:  # no memory, no more processes
            return [_died(check, f"cannot be checked: {error.strerror}")]
        with child:
            told, hung = _listen(child, check.patience, stop or Event())
        findings = [_read(line, check) for line in told.splitlines() if line.endswith(b"}")]
        if hung:
            findings.append(_died(check, f"hangs: no answer within {check.patience:g} s"))
        elif child.returncode:
            findings.append(_died(check, f"dies: {_how(child.returncode)}{_last_words(complaints)}"))
        return findings


def _listen(child: subprocess.Popen[bytes], patience: float, stop: Event) -> tuple[bytes, bool]:
    """What a child says until it ends, and whether it had to be ended for taking too long."""
    left = patience
    while True:
        try:
            return child.communicate(timeout=_LOOK)[0], False
        except subprocess.TimeoutExpired:
            left -= _LOOK
        if left <= 0 or stop.is_set():
            child.kill()
            return child.communicate()[0], left <= 0


def _read(line: bytes, check: Check) -> Finding:
    """A finding from the child; what it raised is told with the check's own remedy."""
    fields = json.loads(line)
    if "raised" in fields:
        return _died(check, fields["raised"])
    return Finding(**fields)


def _died(check: Check, text: str) -> Finding:
    return problem(check.name, text, check.remedy, necessary=check.necessary)


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code if code < 256 else hex(code)}"


def _last_words(complaints: IO[bytes]) -> str:
    """The line of stderr that says most: the first one, which names the trouble, not where in the code it was met."""
    complaints.seek(0)
    lines = [line.strip() for line in complaints.read(65536).decode("utf-8", "replace").splitlines()]
    first = next((line for line in lines if line), "")
    return f": {first[:300]}" if first else ""
