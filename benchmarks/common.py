"""What the programs here share: commands run and timed, things measured in turn, results with the machine named."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ssdcam.benchmarking.machine import machine

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Done:
    """A command that ran: what it printed, and the seconds it took on the clock and of CPU time."""

    out: str
    wall_s: float
    cpu_s: float


def ssdcam(*arguments: object) -> Done:
    """Run a command of ssdcam; one that fails ends the program."""
    return timed([sys.executable, "-m", "ssdcam", *map(str, arguments)])


def timed(command: Sequence[str]) -> Done:
    """Run a command; one that fails ends the program."""
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        sys.exit(f"$ {shlex.join(command)}\n{done.stderr}")
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Done(done.stdout, wall, cpu)


def in_turn(jobs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Do each job once a round, so that whatever slows the machine down slows all of them; results by name."""
    results: dict[str, list[Any]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            results[name].append(job())
    return results


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """How many times the second the first is: the median of the rounds."""
    return median(a / b for a, b in zip(first, second, strict=True))


def report(name: str, figures: Mapping[str, Any], output: Path | None) -> None:
    """Print figures as JSON, and write them with the machine and the command to a file.

    Args:
        name: of the program.
        figures: JSON's own types.
        output: the file; None is ``results/NAME.json``.
    """
    path = output or RESULTS / f"{name}.json"
    command = shlex.join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    path.write_text(json.dumps({"command": command, **figures, "machine": machine()}, indent=1) + "\n", "utf-8")
    print(json.dumps(figures, indent=1))
    print(f"written to {path}", file=sys.stderr)
