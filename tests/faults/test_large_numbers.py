"""Every number of the command line at the top of its range, and too little memory: it does, or a line says why not.

Options are found in the commands themselves; a new one is tried as it comes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import click
import cv2
import numpy as np
import psutil
import pytest

from ssdcam.cli.parameters import MOST, Number, Seconds

from ..media.sources.videos import make_video
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

# Being still at work counts as fine after so many seconds, of a processor or of the clock; a guard for what follows.
BUSY, LONG, GUARD = 20.0, 150.0, 600.0

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
    ("webcam", "size"): "99999x99999",
    ("webcam", "reconnect"): "999999999",
    ("bench", "batch"): "4096",
    ("train", "arch_options"): None,
    ("bench", "arch_options"): None,
    ("boxes", "arch_options"): None,
}


def top(parameter: click.Parameter) -> str | None:
    """The largest number that an option takes; None if it takes none."""
    kind = parameter.type
    if isinstance(kind, click.IntRange):
        return str(MOST if kind.max is None else kind.max)
    if isinstance(kind, click.FloatRange):
        if kind.max is None:
            return str(MOST if isinstance(kind, Number) else LARGEST)
        return str(kind.max * (1 - 2**-50)) if kind.max_open else str(kind.max)
    if isinstance(kind, Seconds):
        return str(MOST)
    if isinstance(kind, click.types.IntParamType):
        return str(MOST)
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


def run_limited(arguments: list[str], folder: Path, memory: int = MEMORY) -> Said | None:
    """How a command line ended; None if it was still at work and then stopped as it should."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "ssdcam", *arguments],
            cwd=folder, preexec_fn=limit, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        )  # fmt: skip
        try:
            if at_work := not ends(process):
                process.send_signal(signal.SIGINT)
            code = process.wait(GUARD)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        said = Said(code, out.read(), err.read())
    if at_work and code == 130:
        assert "Traceback" not in said.err
        assert "a bug in ssdcam" not in said.err
        return None
    return said


def ends(process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process ends, or has been at work for long."""
    begin, watched = time.monotonic(), psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            if sum(watched.cpu_times()[:4]) > BUSY:
                return False
        if time.monotonic() - begin > LONG:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(("name", "option", "value"), CASES, ids=[f"{name} {option}" for name, option, _ in CASES])
def test_the_top_of_a_range(name: str, option: str, value: str, furnished: Path, here: Path, count: Count) -> None:  # noqa: F811
    shutil.copytree(furnished, here)
    arguments = [name, *LINES[name].split(), option, value]
    look(arguments, run_limited(arguments, here))
    count("numbers at the top of their range", 1)


def look(arguments: list[str], said: Said | None) -> None:
    """That it did what it was told, or said in a line why not."""
    print(f"{' '.join(arguments)}: {f'{said.code} {said.err[:500]!r}' if said else 'still at work'}")
    if said is not None:
        check(arguments, said)
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == bool(said.code), said.err


# More than fits into these, in bytes: what fails first differs.
LITTLE = [2**30, 2**31]
HUNGRY = {
    "image": "large.png -m tiny.safetensors -o out",
    "video": "video.mp4 -m voc --batch 256 --engine torch -o out.mp4",
    "video by OpenVINO": "video.mp4 -m voc --batch 256 --engine openvino -o out.mp4",
    "video by ONNX Runtime": "video.mp4 -m voc --batch 256 --engine onnxruntime -o out.mp4",
    "train": "voc -m tiny.safetensors --input-size 2048 --batch 64 --device cpu --epochs 1",
    "train with processes": "voc -m tiny.safetensors --input-size 2048 --batch 64 --workers 2 --device cpu --epochs 1",
    "bench": "--arch ssd300-vgg16 --input-size 2048 --batch 64 --engines torch --rounds 1 --no-pipeline",
    "boxes": "voc --arch ssd300-mobilenet-v1 --input-size 4096",
    "export": "-m voc --format onnx -o out.onnx",
}


@pytest.mark.parametrize("memory", LITTLE, ids=lambda memory: f"{memory >> 20} MiB")
@pytest.mark.parametrize("name", HUNGRY)
def test_too_little_memory(name: str, memory: int, furnished: Path, here: Path, count: Count) -> None:  # noqa: F811
    shutil.copytree(furnished, here)
    cv2.imwrite(str(here / "large.png"), np.zeros((16000, 16000, 3), np.uint8))
    make_video(here / "video.mp4", range(300))
    arguments = [name.split()[0], *HUNGRY[name].split()]
    look(arguments, run_limited(arguments, here, memory))
    count("commands with too little memory", 1)
