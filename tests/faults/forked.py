"""``ssdcam`` many times over from one process that has everything imported: each run is a fork.

It may be killed at its nth operation on files (before it opens one to write, renames, removes, makes a folder), which
is the same moment on every machine, or after a time, which also falls into the midst of what libraries write.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..waiting import GUARD

ROOT = Path(__file__).parents[2]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod"})


@dataclass(frozen=True)
class Round:
    """How a run ended.

    Attributes:
        code: its exit code; -9 if it was killed.
        operations: on files in its folder, if it came to its end.
        out, err: what it said.
    """

    code: int
    operations: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The line on stderr, which must be one."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "bug in ssdcam" not in self.err
        assert "Traceback" not in self.err
        return lines[0]


class Forks:
    """The process that forks; to be used in a ``with`` block.

    Args:
        stub: whether the detector is the stub of ``tests/cli/stubbed.py``.
    """

    def __init__(self, stub: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forked", str(int(stub))],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self, *words: object, folder: Path, kill_at: int | None = None, moment: float | None = None, check: bool = True
    ) -> Round:
        """Run a command line in a folder.

        Args:
            words: its arguments.
            folder: where it runs, and where operations on files are counted.
            kill_at: the operation, counted from 0, before which it is killed.
            moment: seconds after which it is killed, if it still runs.
            check: that it came to its end with exit code 0, unless it was to be killed.
        """
        assert self._process.stdin
        assert self._process.stdout
        request = {"words": [*map(str, words)], "folder": str(folder), "kill_at": kill_at, "moment": moment}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the forking process ended with {self._process.wait()}"
        ended = Round(**json.loads(answer))
        if check and kill_at is None and moment is None:
            assert ended.code == 0, (words, ended)
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()


def _serve(stub: bool) -> None:
    import cv2  # noqa: F401
    import torch.utils.data  # noqa: F401

    from ssdcam.cli import main
    from ssdcam.detection import detector
    from ssdcam.media.av import av  # noqa: F401
    from ssdcam.media.sources import FileSource  # noqa: F401
    from ssdcam.pipeline.run import Pipeline  # noqa: F401

    if stub:
        from tests.cli.stubbed import _load

        detector.load = _load  # type: ignore[assignment]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        answers.write(json.dumps(_one(json.loads(line), main)) + "\n")


def _one(request: dict[str, Any], main: Any) -> dict[str, Any]:
    from tempfile import TemporaryFile

    with TemporaryFile() as out, TemporaryFile() as err, TemporaryFile() as counted:
        child = os.fork()
        if not child:
            _become(request, main, out.fileno(), err.fileno(), counted.fileno())
        code = _wait(child, request["moment"])
        texts = []
        for file in (out, err, counted):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
        return {"code": code, "operations": int(texts[2] or -1), "out": texts[0], "err": texts[1]}


def _wait(child: int, moment: float | None) -> int:
    deadline = time.monotonic() + (GUARD if moment is None else moment)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.002)


def _become(request: dict[str, Any], main: Any, out: int, err: int, counted: int) -> None:
    """Be the run; never returns."""
    code, operations = 70, 0
    folder, kill_at = request["folder"], request["kill_at"]

    def watch(event: str, details: Sequence[Any]) -> None:
        nonlocal operations
        if event == "open":
            path, _, flags = details
            relevant = bool((flags or 0) & _WRITING)
        else:
            path, relevant = details[0] if details else None, event in _CHANGES
        if not relevant or not isinstance(path, str | bytes) or not os.fsdecode(path).startswith(folder):
            return
        if operations == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        operations += 1

    def note() -> None:
        os.pwrite(counted, str(operations).encode(), 0)

    try:
        atexit.register(note)  # a run that ends while threads work leaves by itself
        os.chdir(folder)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            os.environ.pop(name, None)
        for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
            os.dup2(file, number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  # until this process ends
        sys.argv = ["ssdcam", *request["words"]]
        sys.addaudithook(watch)
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 70
    finally:
        sys.stdout.flush()
        note()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1] == "1")
