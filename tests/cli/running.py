"""``ssdcam`` in processes of its own, as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..waiting import GUARD

INSTALLED = [str(Path(sys.executable).with_name("ssdcam"))]
"""The command as it is installed."""

STUBBED = [sys.executable, str(Path(__file__).with_name("stubbed.py"))]
"""The same with a stub for a detector, which starts at once."""


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without a display, and with changes."""
    without = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    return {**without, **(changes or {})}


def run(
    *arguments: object,
    command: list[str] = STUBBED,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )


def start(
    *arguments: object,
    command: list[str] = STUBBED,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command line whose end the test waits for."""
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def records(text: str) -> list[dict[str, Any]]:
    """The records of ``--json``: every line must be one."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def one_line(text: str) -> str:
    """What stderr says, which must be a single line and no traceback."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]
