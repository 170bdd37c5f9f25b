"""The workers, as seen from the process that leads them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import ssdcam
from ssdcam.errors import BenchmarkError

_LINE = 200  # characters of a reason


class Worker:
    """A process that measures; see :mod:`ssdcam.benchmarking.worker`. As a context manager it ends with the block.

    Args:
        complaints: a file that takes what the process and its libraries say on stderr.
        environment: of the process, in addition to ours.
    """

    def __init__(self, complaints: Path, environment: Mapping[str, str]) -> None:
        root = str(Path(ssdcam.__file__).parents[1])
        script = f"import sys; sys.path.insert(0, {root!r}); from ssdcam.benchmarking.worker import main; main()"
        self._complaints = complaints
        with complaints.open("wb") as stderr:
            # A session of its own: Ctrl-C is ours to handle, and closes its stdin.
            self._process = subprocess.Popen(  # noqa: S603  # our own code
                [sys.executable, "-P", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._requests: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have something done, and wait for the answer.

        Raises:
            BenchmarkError: it failed; the message is the worker's, or says how it ended.
        """
        line = ""
        with suppress(BrokenPipeError):
            self._requests.write(json.dumps({"do": do, **arguments}) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        if not line:
            raise BenchmarkError(self._how_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(" ".join(answer["error"].split())[:_LINE])
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with suppress(BrokenPipeError):
            self._requests.close()
        self._process.kill()
        self._process.wait()
        self._answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        lines = self._complaints.read_text("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if code == -9:
            return "its process was killed: is there too little memory?"
        how = f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        return f"{how}: {last[:_LINE]}" if last else how


def start_timed(complaints: Path, environment: Mapping[str, str], **job: Any) -> tuple[Worker, dict[str, Any]]:
    """Start a worker with an engine in it.

    Returns:
        The worker, and its answer with ``start_s``: from the start of the process to the end of its first detection.

    Raises:
        BenchmarkError: the engine does not start.
    """
    begin = time.perf_counter()
    worker = Worker(complaints, environment)
    try:
        answer = worker.ask("engine", **job)
    except BaseException:
        worker.close()
        raise
    return worker, {**answer, "start_s": time.perf_counter() - begin}
