"""A whole run, led from here: what fails ends neither the run nor what was measured before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssdcam.benchmarking import bench
from ssdcam.benchmarking.bench import Plan, run
from ssdcam.benchmarking.combinations import Combination
from ssdcam.benchmarking.report import Report
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.errors import BenchmarkError

from ..media.sources.videos import make_video

SLOW, FAST, BROKEN = (Combination(name, "fp32", "cpu") for name in ("slow", "fast", "broken"))


class FakeWorker:
    """Answers at once; every call is noted."""

    calls: list[tuple[str, str, int]]

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        batch = arguments.get("batch", 0)
        self.calls.append((self.name, do, batch))
        if self.name == "broken" and batch == 8:
            raise BenchmarkError("out of memory")
        if do == "pipeline":
            frames = arguments["frames"]
            return {"stats": {"frames": frames, "wall_s": frames / 50, "fps": 50.0}, "cpu_s": 0.1}
        times = {"latencies_s": [0.01], "pictures": batch, "wall_s": 0.01, "cpu_s": 0.02, "frames": 12}
        return {**times, "peak_memory_mb": 10.0 * len(self.calls), "device_memory_mb": None}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    FakeWorker.calls = []

    def start(complaints: Path, environment: object, **job: Any) -> tuple[FakeWorker, dict[str, Any]]:
        FakeWorker.calls.append((job["engine"], "start", 0))
        if job["engine"] == "missing":
            raise BenchmarkError("is not installed")
        return FakeWorker(job["engine"]), {"start_s": 1.0, "import_s": 0.5, "prepare_s": 0.3, "detect_s": 0.2}

    monkeypatch.setattr(bench, "start_timed", start)
    monkeypatch.setattr(bench, "Worker", lambda complaints, environment: FakeWorker("media"))
    return FakeWorker.calls


@pytest.fixture
def plan(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Plan:
    video = make_video(tmp_path / "in.mp4", range(12))
    return Plan(tiny_checkpoint, [SLOW, FAST], (1, 8), rounds=3, seconds=0.3, score=0.5, video=video)


def empty() -> Report:
    return Report({"usable_cores": 2.0}, {"model": "tiny"})


def run_through(plan: Plan, tell: Callable[[str, int, int], None] = lambda what, done, total: None) -> Report:
    report = empty()
    run(plan, report, tell)
    return report


def test_everything_in_turn(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    told = []
    report = run_through(plan, lambda what, done, total: told.append((done, total)))
    starts = [name for name, do, _ in calls if do == "start"]
    assert starts == ["slow", "fast"] * 2
    network = [(name, batch) for name, do, batch in calls if do == "network"]
    assert network == [("slow", 1), ("fast", 1), ("slow", 8), ("fast", 8)] * 3
    assert [name for name, do, _ in calls if do == "detection"] == ["slow", "fast"] * 3
    pipeline = [(name, do) for name, do, _ in calls if do in ("decode", "encode", "pipeline")]
    a_round = [("media", "decode"), ("media", "encode"), ("slow", "pipeline"), ("fast", "pipeline")]
    assert pipeline == a_round * 3
    assert [done for done, _ in told] == list(range(len(told))), "each step is told, once"
    assert {total for _, total in told} == {len(told)}
    assert report.complete
    assert not report.failures


def test_what_does_not_start_is_named(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    missing = Combination("missing", "int8", "cpu")
    report = run_through(replace(plan, combinations=[SLOW, missing]))
    assert report.unavailable == [(missing, "is not installed")]
    assert calls.count(("missing", "start", 0)) == 1, "once is enough"
    assert [row["engine"] for row in report.to_json()["pipeline"]] == ["slow"]
    assert report.complete
    with pytest.raises(BenchmarkError, match=r"none of .* runs here: missing int8 cpu: is not installed"):
        run_through(replace(plan, combinations=[missing]))


def test_what_fails_on_the_way_ends_alone(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    report = run_through(replace(plan, combinations=[BROKEN, FAST]))
    assert report.failures == [(BROKEN, "network, batch 8: out of memory")]
    assert calls.count(("broken", "network", 8)) == 1
    rows = [(row["engine"], row["batch"]) for row in report.to_json()["network"]]
    assert rows == [("broken", 1), ("fast", 1), ("fast", 8)]
    assert [row["engine"] for row in report.to_json()["pipeline"]] == ["fast"]
    assert report.complete


def test_ctrl_c_keeps_what_there_is(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "network, batch 8: fast fp32 cpu":
            raise KeyboardInterrupt

    report = empty()
    with pytest.raises(KeyboardInterrupt):
        run(plan, report, stop)
    assert report
    assert not report.complete
    rows = [(row["engine"], row["batch"]) for row in report.to_json()["network"]]
    assert rows == [("slow", 1), ("slow", 8), ("fast", 1)]


def test_memory_is_that_of_the_first_round(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    rows = run_through(replace(plan, combinations=[SLOW], batches=(1, 2), pipeline=False, video=None)).to_json()
    memory = [row["peak_memory_mb"] for row in rows["network"]]
    assert memory == sorted(memory), "later rounds would give both the larger batch's"
    assert memory[0] < memory[1]
    assert rows["pipeline"] == []
    assert rows["stages"] == {}


def test_the_pipelines_batch(plan: Plan, calls: list[tuple[str, str, int]]) -> None:
    run_through(replace(plan, rounds=1))
    run_through(replace(plan, rounds=1, combinations=[Combination("fast", "fp16", "cuda:0")]))
    run_through(replace(plan, rounds=1, batches=(4,)))
    batches = [batch for _, do, batch in calls if do == "pipeline"]
    assert batches == [8, 8, 8, 4, 4], "four on a CPU, eight on a GPU, or the nearest above that was measured"
