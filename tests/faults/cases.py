"""Many cases in one process of their own: a crash or a hang is laid at the door of the case that was being read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

ROOT = Path(__file__).parents[2]

MOST_MEMORY = 3 * 2**30
"""Bytes that reading any one file may make the process take: docs/RELIABILITY.md states it."""


@dataclass(frozen=True)
class Case:
    """A file to damage and read.

    Attributes:
        reader: a name in ``readers.READERS``.
        original: the whole file, or the folder of files.
        seed: decides the damage.
    """

    reader: str
    original: Path
    seed: str

    @property
    def again(self) -> str:
        """How to see it again, given the same original."""
        return f"python -m tests.faults.worker {self.reader} {self.original} '{self.seed}'"


@dataclass(frozen=True)
class Ended:
    """What came of a case; see ``worker``."""

    case: Case
    outcome: str
    damage: str
    peak: int

    @property
    def trouble(self) -> str | None:
        """What a user may never see, if that is what came."""
        if self.outcome.startswith(("WRONG", "CRASH")):
            return self.outcome
        if self.peak > MOST_MEMORY:
            return f"took {self.peak:,} bytes of memory"
        return None


def cases_for(readers: Sequence[str], originals: Sequence[Path], seeds: range) -> list[Case]:
    """Each reader on each original with each seed."""
    return [
        Case(reader, original, f"{original.name} {seed}")
        for original in originals
        for reader in readers
        for seed in seeds
    ]


def run_cases(cases: Sequence[Case]) -> list[Ended]:
    """Run cases one after another, in a new process after each crash.

    Raises:
        AssertionError: some went wrong; it says which, and how to see them again.
    """
    ended: list[Ended] = []
    while len(ended) < len(cases):
        ended += _run_until_crash(cases[len(ended) :])
    wrong = [f"{one.case.again}\n  {one.damage}: {one.trouble}" for one in ended if one.trouble]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases went wrong:\n" + "\n".join(wrong[:10])
    return ended


def _run_until_crash(cases: Sequence[Case]) -> list[Ended]:
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        with subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
        ) as process:  # fmt: skip
            assert process.stdin
            assert process.stdout
            feeder = Thread(target=_feed, args=(process.stdin, cases))
            feeder.start()
            ended = list(_answers(process.stdout, cases))
            code = process.wait()
            feeder.join()
        if len(ended) < len(cases):
            said.seek(0)
            ended.append(Ended(cases[len(ended)], f"CRASH with {code}: {said.read()[-3000:]}", "", 0))
    return ended


def _feed(pipe: IO[str], cases: Sequence[Case]) -> None:
    try:
        with pipe:
            for case in cases:
                pipe.write(json.dumps([case.reader, str(case.original), case.seed]) + "\n")
    except BrokenPipeError:  # the process is gone, which is told elsewhere
        pass


def _answers(pipe: IO[str], cases: Sequence[Case]) -> Iterator[Ended]:
    waiting = iter(cases)
    for line in pipe:
        kind, *rest = json.loads(line)
        if kind == "end":
            outcome, damage, peak = rest
            yield Ended(next(waiting), outcome, damage, peak)
