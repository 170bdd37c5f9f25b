"""Every number of the command line at the top of its range, where memory is short: it does, or a line says why not.

Options are found in the commands themselves; a new one is tried as it comes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from ssdcam.cli.options import Seconds

from .command_lines import commands
from .conftest import Count
from .running import Said, check
from .test_command_lines import furnished, here  # noqa: F401  # fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits a process' memory as Linux does"),
]

# What a process may take, in bytes: enough for every engine on small inputs.
MEMORY = 4 * 2**30

# Seconds after which being still at work counts as fine, and how long it may take to stop then.
LONG, GUARD = 30.0, 300.0

LARGEST_WHOLE = 10**9
LARGEST = sys.float_info.max

LINES = {
    "image": "photo.jpg -m tiny.safetensors --score 0 -o out --json",
    "video": "video.mp4 -m tiny.safetensors --score 0 -o out.mp4",
    "webcam": "video.mp4 -m tiny.safetensors --score 0 --no-window -o out.mp4",
    "eval": "voc -m tiny.safetensors",
    "bench": "--arch ssd300-mobilenet-v1 --arch-option width=0.1 --input-size 64 --engines torch --rounds 1",
    "boxes": "voc --arch ssd300-mobilenet-v1",
    "train": "voc -m tiny.safetensors --epochs 1 --batch 2 --device cpu",
    "export": "-m tiny.safetensors --format onnx --nms -o out.onnx",
}

# Options of texts that hold numbers, at the top of what is taken; None is for texts of other kinds.
TEXTS = {
    ("webcam", "size"): "16384x16384",
    ("webcam", "reconnect"): str(LARGEST),
    ("bench", "batch"): "4096",
    ("train", "arch_options"): None,
    ("bench", "arch_options"): None,
    ("boxes", "arch_options"): None,
}


def top(parameter: click.Parameter) -> str | None:
    """The largest number that an option takes; None if it takes none."""
    kind = parameter.type
    if isinstance(kind, click.IntRange):
        return str(LARGEST_WHOLE if kind.max is None else kind.max)
    if isinstance(kind, click.FloatRange):
        if kind.max is None:
            return str(LARGEST)
        return str(kind.max * (1 - 2**-50)) if kind.max_open else str(kind.max)
    if isinstance(kind, Seconds):
        return str(LARGEST_WHOLE)
    if isinstance(kind, click.types.IntParamType):
        return str(LARGEST_WHOLE)
    return str(LARGEST) if isinstance(kind, click.types.FloatParamType) else None


def cases() -> Iterator[tuple[str, str, str]]:
    """Command, option, value."""
    for name, command in commands():
        for parameter in command.params:
            if not isinstance(parameter, click.Option) or parameter.is_flag or parameter.count:
                continue
            value = TEXTS.get((name, parameter.name or ""), top(parameter))
            if value is not None:
                yield name, parameter.opts[-1], value


CASES = list(cases())


def test_every_command_that_takes_numbers_has_a_line() -> None:
    assert {name for name, *_ in CASES} <= LINES.keys()
    assert len(CASES) > 60
    known = {(name, parameter.name) for name, command in commands() for parameter in command.params}
    assert TEXTS.keys() <= known


def limited() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_limited(arguments: list[str], folder: Path) -> Said | None:
    """How a command line ended; None if it was still at work and then stopped as it should."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ssdcam", *arguments],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "2"}, preexec_fn=limited, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        try:
            out, err = process.communicate(timeout=LONG)
            return Said(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=GUARD)
        if process.returncode != 130:  # it ended just then
            return Said(process.returncode, out, err)
        assert "Traceback" not in err
        assert "a bug in ssdcam" not in err
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(("name", "option", "value"), CASES, ids=[f"{name} {option}" for name, option, _ in CASES])
def test_the_top_of_a_range(name: str, option: str, value: str, furnished: Path, here: Path, count: Count) -> None:  # noqa: F811
    shutil.copytree(furnished, here)
    arguments = [name, *LINES[name].split(), option, value]
    said = run_limited(arguments, here)
    count("numbers at the top of their range", 1)
    print(f"{name} {option} {value}: {said or 'still at work'}")
    if said is not None:
        check(arguments, said)
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == bool(said.code), said.err
