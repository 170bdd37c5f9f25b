"""Waiting for what threads and processes bring about, on machines that may be many times slower than usual."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from threading import Thread, Timer
from typing import Any

GUARD = 600.0
"""Seconds until a wait counts as a hang: a limit that is there to be an error in the end, never to be reached."""


def wait_until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until a condition holds.

    Args:
        condition: is looked at again and again.
        process: what is to bring it about; its end is an error.
    """
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended with {process.returncode}: {finish(process)}")
        time.sleep(0.005)


def finish(process: subprocess.Popen[Any]) -> tuple[Any, Any]:
    """Everything that a process still says on stdout and stderr until it ends; one that hangs is killed.

    ``communicate`` would lose what lies in the pipes' buffers once something was read from them line by line.
    """
    said = {}
    readers = [
        Thread(target=lambda name=name, pipe=pipe: said.update({name: pipe.read()}))
        for name, pipe in (("out", process.stdout), ("err", process.stderr))
        if pipe is not None and not pipe.closed
    ]
    watchdog = Timer(GUARD, process.kill)
    watchdog.start()
    with process:  # closes the pipes behind it
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        process.wait()
    watchdog.cancel()
    watchdog.join()
    return said.get("out"), said.get("err")
