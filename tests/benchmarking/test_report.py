"""From what was measured to figures, on known numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ssdcam.benchmarking.combinations import Combination
from ssdcam.benchmarking.figures import Times
from ssdcam.benchmarking.report import Measured, Report

EAGER = Combination("torch-eager", "fp32", "cpu")
FAST = Combination("openvino", "int8", "cpu")
ON_GPU = Combination("torch", "fp16", "cuda:0")


def times(*rates: float, cpu_s: float = 0.01) -> Times:
    return Times([1 / rate for rate in rates], list(rates), [cpu_s] * len(rates))


def start(seconds: float) -> dict[str, Any]:
    return {"start_s": seconds, "import_s": 0.5, "prepare_s": 0.25, "detect_s": 0.125}


def stats(fps: float) -> dict[str, Any]:
    return {"frames": 10, "dropped": 0, "wall_s": 10 / fps, "fps": fps, "latency_ms": {"p50": 5, "p95": 6}}


@pytest.fixture
def report() -> Report:
    fast = Measured(FAST, [start(9.0), start(1.0), start(2.0)])
    fast.network = {1: times(50, 100, 80, cpu_s=0.008), 8: times(200)}
    fast.memory = {1: (100.0, None), 8: (300.0, None)}
    fast.decoding = {1: [0.0001, 0.0002, 0.0003], 8: [0.004]}
    fast.detection = [0.01, 0.02, 0.03]
    fast.pipeline = [stats(90), stats(50), stats(80)]
    fast.pipeline_times = times(90, 50, 80, cpu_s=0.02)
    eager = Measured(EAGER, [start(3.0)], {1: times(10, 25, 20)}, memory={1: (500.0, None)})
    eager.failure = "network, batch 8: its process was killed: is there too little memory?"
    gpu = Measured(ON_GPU, [start(5.0)], {1: times(1000)}, memory={1: (900.0, 64.0)})
    machine = {"usable_cores": 2.0}
    stages = {"decode": times(500, cpu_s=0.002), "encode": times(200, cpu_s=0.006)}
    return Report(machine, {"model": "m"}, [fast, eager, gpu], [(Combination("x", "y", "cpu"), "why")], stages)


def test_network(report: Report) -> None:
    one, eight, eager, gpu = report.to_json()["network"]
    assert (one["engine"], one["precision"], one["device"], one["batch"]) == ("openvino", "int8", "cpu", 1)
    assert one["latency_ms"] == {"p50": 12.5, "p95": pytest.approx(19.25)}
    assert one["per_second"] == 80
    assert one["ratio"] == 4.0  # 5, 4 and 4: plain torch is the baseline wherever it stands
    assert one["cpu_ms"] == 8.0
    assert (one["postprocess_ms"], one["postprocess_share"]) == (0.2, 0.016)
    assert (eight["postprocess_ms"], eight["postprocess_share"]) == (0.5, 0.1)  # a picture, of a batch of eight
    assert (one["peak_memory_mb"], eight["peak_memory_mb"]) == (100, 300)
    assert eight["ratio"] == 1.0, "where plain torch was not measured, the first one is the baseline"
    assert eager["ratio"] == 1.0
    assert gpu["ratio"] == 1.0, "another device is another baseline"
    assert "device_memory_mb" not in one
    assert gpu["device_memory_mb"] == 64


def test_detection_and_startup(report: Report) -> None:
    figures = report.to_json()
    assert figures["detection"] == [{**FAST.to_json(), "latency_ms": {"p50": 20.0, "p95": 29.0}}]
    fast, eager, _ = figures["startup"]
    assert (fast["first_s"], fast["start_s"]) == (9.0, 1.5)
    assert (eager["first_s"], eager["start_s"]) == (3.0, None)
    assert fast["of_which"] == {"import": 0.5, "prepare": 0.25, "detect": 0.125}


def test_pipeline(report: Report) -> None:
    (row,) = report.to_json()["pipeline"]
    assert row["fps"] == 80, "the run of median rate"
    assert (row["model"], row["engine"], row["precision"], row["device"]) == ("m", "openvino", "int8", "cpu")
    assert row["possible_fps"] == 125  # (2 + 8 + 6) ms on two cores
    assert row["share_of_possible"] == 0.64
    assert report.to_json()["stages"] == {"decode": {"ms": 2.0, "cpu_ms": 2.0}, "encode": {"ms": 5.0, "cpu_ms": 6.0}}


def test_a_device_may_be_what_bounds_the_pipeline(report: Report) -> None:
    gpu = report.measured[2]
    gpu.network[1] = times(40, cpu_s=0.001)
    gpu.pipeline, gpu.pipeline_times = [stats(30)], times(30)
    on_cpu, on_gpu = report.to_json()["pipeline"]
    assert (on_gpu["possible_fps"], on_gpu["device_busy"]) == (40, 0.75)
    assert "device_busy" not in on_cpu


def test_what_is_missing_is_named(report: Report) -> None:
    assert report.to_json()["unavailable"] == [
        {"engine": "x", "precision": "y", "device": "cpu", "reason": "why"},
        {**EAGER.to_json(), "reason": "network, batch 8: its process was killed: is there too little memory?"},
    ]
    assert [combination for combination, _ in report.failures] == [EAGER]


def test_half_a_run(report: Report) -> None:
    assert report
    assert report.to_json()["settings"]["complete"] is False
    report.stages.pop("encode")
    report.measured[0].decoding.clear()
    figures = json.loads(json.dumps(report.to_json()))
    assert "possible_fps" not in figures["pipeline"][0]
    assert "postprocess_share" not in figures["network"][0]
    started = Report({"usable_cores": 2.0}, {}, [Measured(FAST, [start(1.0)]), Measured(EAGER)])
    assert [row["engine"] for row in started.to_json()["startup"]] == ["openvino"]
    assert not Report({}, {}, [Measured(FAST)])
