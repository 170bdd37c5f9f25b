"""``ssdcam`` in this process, as ``main`` runs it: its exit code, what it said, and nothing of it left behind."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from ssdcam.cli import console
from ssdcam.cli.command_line import run


@dataclass(frozen=True)
class Said:
    """How a run ended.

    Attributes:
        code: its exit code.
        out, err: what stood on stdout and stderr.
    """

    code: int
    out: str
    err: str


def run_here(arguments: Sequence[str]) -> Said:
    """Run a command line; stdin holds the names of two files."""
    with _texts() as (said, complained):
        code = run(list(arguments))
        for file in (said, complained):
            file.flush()
            file.seek(0)
        return Said(code, said.read(), complained.read())


@contextmanager
def _texts() -> Iterator[tuple[IO[str], IO[str]]]:
    """Files for stdin, stdout and stderr, with ``console``'s handler on the last."""
    before = sys.stdin, sys.stdout, sys.stderr
    handler = console._ToStderr()
    handler.setFormatter(console._OneLine("%(levelname)s: %(message)s"))
    level, propagate = console.log.level, console.log.propagate

    def text() -> IO[str]:
        return TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="")

    with text() as stdin, text() as said, text() as complained:
        stdin.write("photo.jpg\nmissing.jpg\n")
        stdin.seek(0)
        sys.stdin, sys.stdout, sys.stderr = stdin, said, complained  # type: ignore[assignment]
        console.log.addHandler(handler)
        console.log.propagate = False
        console.log.setLevel(console.NOTE)
        try:
            yield said, complained
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
            console.log.removeHandler(handler)
            console.log.propagate = propagate
            console.log.setLevel(level)


def check(arguments: Sequence[str], said: Said, *, most_lines: int = 12) -> None:
    """What holds of every run, whatever it was asked."""
    line = f"ssdcam {' '.join(map(repr, arguments))}\n-> {said.code}\n{said.err}"
    assert said.code in {0, 1, 2}, line
    assert "Traceback" not in said.err or "-vv" in " ".join(arguments) or arguments.count("-v") > 1, line
    assert "a bug in ssdcam" not in said.err, line
    assert "secret" not in said.err + said.out, line
    complaints = said.err.splitlines()
    assert len(complaints) <= most_lines, line
    for text in (*complaints, *said.out.splitlines()):
        assert not _control(text), f"{line}\n{text!r}"
    if said.code == 2:
        assert not said.out, line
    if said.code and "-q" not in " ".join(arguments):
        assert any(complaint.startswith("error: ") for complaint in complaints), line
    for complaint in complaints:
        assert complaint.startswith(("error: ", "warning: ", "note: ", "info: ", "debug: ")), line
        assert len(complaint) <= 2004, line


def _control(text: str) -> list[str]:
    """Characters that steer a terminal."""
    return [c for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0]


def files_below(folder: Path) -> set[Path]:
    """Every file in a folder, as paths from it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


logging.raiseExceptions = True
