"""SIGKILL at any moment: what was there before is there or replaced by something whole, and the next run succeeds."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import Count
from .forked import Forks
from .writers import WRITERS, visible, words

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks, and counts operations on files as Linux has them"
)

# Kills a command in every run, of those that each has; more in a slow run, and as many at random moments.
KILLS = 5
MANY = 60


def contents(out: Path) -> dict[Path, bytes]:
    """All but TensorBoard's files, whose names tell the time."""
    return {path.relative_to(out): path.read_bytes() for path in visible(out) if "tensorboard" not in path.parts}


def kill_and_look(name: str, forks: Forks, folder: Path, kills: list[tuple[int | None, float | None]]) -> int:
    """Kill a command over an earlier output and over none, and look at what is left; how many were killed."""
    out, writer = folder / "out", WRITERS[name]
    line = words(name, str(out))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    forks.run(*line, folder=folder)
    whole = contents(out)
    assert whole
    killed = 0
    for number, (kill_at, moment) in enumerate(kills):
        over = number % 2 == 0 and name != "train"
        shutil.rmtree(out)
        out.mkdir()
        if over:
            for path, data in whole.items():
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (out / path).write_bytes(data)
        ended = forks.run(*line, folder=folder, kill_at=kill_at, moment=moment)
        try:
            assert ended.code in {0, -9}, ended
            killed += ended.code == -9
            writer.look(out)
            if over and writer.keeps:
                assert contents(out).keys() >= whole.keys()
            left = {path for path in out.rglob("*") if path.is_file()} - set(visible(out))
            assert all(path.name.startswith(".ssdcam-") for path in left), left
            if number % 3 == 0:  # whatever is left, the next run makes what it should
                forks.run(*line, folder=folder)
                assert contents(out).keys() >= whole.keys()
                writer.look(out)
        except BaseException as error:
            error.add_note(
                f"{' '.join(line)} killed at operation {kill_at}, after {moment} s, over an old output: {over}"
            )
            raise
    return killed


def operations(name: str, forks: Forks, folder: Path) -> int:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return forks.run(*words(name, str(out)), folder=folder).operations


@pytest.mark.parametrize(
    "name", [name if name != "train" else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS]
)
def test_killed_at_an_operation_on_a_file(name: str, forks: Forks, furnished: Path, count: Count) -> None:
    every = range(operations(name, forks, furnished))
    assert every
    chosen = sorted(random.Random(name).sample(every, min(KILLS, len(every))))
    count("SIGKILLs", kill_and_look(name, forks, furnished, [(at, None) for at in chosen]))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_killed_at_every_operation_and_at_any_moment(name: str, forks: Forks, furnished: Path, count: Count) -> None:
    dice = random.Random(f"moments {name}")
    every = range(operations(name, forks, furnished))
    kills: list[tuple[int | None, float | None]] = [(at, None) for at in dice.sample(every, min(MANY, len(every)))]
    kills += [(None, dice.uniform(0, 3.0 if name == "train" else 0.6)) for _ in range(MANY)]
    count("SIGKILLs", kill_and_look(name, forks, furnished, kills))
