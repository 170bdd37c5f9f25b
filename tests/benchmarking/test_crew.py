"""Workers in processes of their own: what they answer, and how it is told that one cannot, or is no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssdcam.benchmarking.crew import Worker, start_timed
from ssdcam.errors import BenchmarkError

from ..media.sources.videos import make_video


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path / "complaints.txt", {}) as worker:
        yield worker


def test_answers_and_goes_on_after_errors(worker: Worker, tmp_path: Path) -> None:
    worker.ask("media")
    with pytest.raises(BenchmarkError, match=r"nosuch\.mp4"):
        worker.ask("decode", video=str(tmp_path / "nosuch.mp4"), frames=3)
    with pytest.raises(BenchmarkError, match="TypeError"):
        worker.ask("decode")
    video = make_video(tmp_path / "in.mp4", range(5))
    assert worker.ask("decode", video=str(video), frames=3)["frames"] == 3


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "was killed: is there too little memory"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_one_that_is_no_more(worker: Worker, number: int, said: str) -> None:
    worker.ask("media")
    os.kill(worker._process.pid, number)
    worker._process.wait()
    with pytest.raises(BenchmarkError, match=said):
        worker.ask("decode", video="x", frames=1)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"checkpoint": "nosuch.safetensors"}, "nosuch.safetensors: cannot be read"),
        ({"precision": "fp13"}, "precision 'fp13' is none of"),
        ({"device": "cuda:77"}, "device cuda:77"),
    ],
)
def test_an_engine_that_does_not_start(job: dict[str, str], said: str, tiny_model: Path, tmp_path: Path) -> None:
    asked = {"checkpoint": str(tiny_model), "engine": "torch", "precision": "fp32", "device": "cpu", "threads": 1}
    with pytest.raises(BenchmarkError, match=said):
        start_timed(tmp_path / "complaints.txt", {}, **{**asked, **job}, width=64, height=48)
