"""The installed ``ssdcam`` script, run as a user runs it."""

from __future__ import annotations

import ctypes
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..waiting import GUARD

SCRIPT = Path(sys.executable).with_name("ssdcam")
TIMEOUT = GUARD

Argument = str | Path


@dataclass(frozen=True)
class Run:
    """How a run ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr, but for what an engine says of a network's first use."""
        return [line for line in self.err.splitlines() if "preparing this network" not in line]

    @property
    def records(self) -> list[Any]:
        """What ``--json`` wrote."""
        assert not self.out or self.out.endswith("\n")
        return [json.loads(line) for line in self.out.splitlines()]


def ssdcam(
    *arguments: Argument,
    cwd: Path | None = None,
    stdin: bytes = b"",
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Run:
    """Run the script to its end.

    Args:
        arguments: of the script.
        cwd: where to run it.
        stdin: what it reads.
        before: a command that runs it in turn, such as ``bash -c '...' --``.
        env: additional environment.
    """
    done = subprocess.run(
        [*before, SCRIPT, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT,
        env={**os.environ, **(env or {})},
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def start(*arguments: Argument, **options: Any) -> subprocess.Popen[bytes]:
    """Start the script with pipes for what it says; stdin is empty unless given."""
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([SCRIPT, *arguments], **{**defaults, **options})


# For python -c, before a command: root without its power to pass over the modes of files; anybody else as they are.
UNPRIVILEGED = """
import ctypes, os, sys
if not os.geteuid():
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def unprivileged() -> list[str] | None:
    """What to put before a command so that modes of files count for it; None where root cannot give that up."""
    prefix = [sys.executable, "-c", UNPRIVILEGED]
    if os.name != "posix":
        return None
    if not os.geteuid() and (sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "prctl")):
        return None
    return prefix if subprocess.run([*prefix, "/bin/true"]).returncode == 0 else None


class Terminal:
    """A script whose stdin and stderr are a terminal; stdout is one too, or a file.

    Args:
        arguments: of the script.
        stdout: where results go; None is the terminal.
        cwd: where to run it.
        command: what stands for the script.
    """

    def __init__(
        self,
        *arguments: Argument,
        stdout: Path | None = None,
        cwd: Path | None = None,
        command: Sequence[Argument] = (SCRIPT,),
    ) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.seen = b""
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        out = stdout.open("wb") if stdout else None
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=out or slave,
            stderr=slave,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        if out:
            out.close()

    def read_until(self, text: bytes) -> bytes:
        """Wait for a text to appear; everything seen so far."""
        while text not in self.seen and self._read():
            pass
        assert text in self.seen, self.seen
        return self.seen

    def type(self, text: bytes) -> None:
        """Press keys."""
        os.write(self._master, text)

    def end(self) -> int:
        """Wait for the script's end; its exit code."""
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait(TIMEOUT)

    def _read(self) -> bool:
        assert select.select([self._master], [], [], TIMEOUT)[0], f"nothing more came after {self.seen!r}"
        try:
            more = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += more
        return bool(more)
