"""``ssdcam bench`` from outside: all that this machine has is measured. How fast it is, is nobody's business here."""

from __future__ import annotations

import io
import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from ssdcam.benchmarking.report import Report
from ssdcam.cli import bench_tables
from ssdcam.detection.engines import ENGINES

from ..faults.running import run_here
from ..media.sources.videos import make_video
from ..waiting import GUARD
from .commands import Terminal, ssdcam, start

TINY = ("--arch", "ssd300-mobilenet-v1", "--arch-option", "width=.1", "--input-size", "96")
QUICK = ("--rounds", "1", "--seconds", "0.01", "--threads", "1")
FIGURES = {"engine", "precision", "device", "batch", "latency_ms", "per_second"}
STATS = {
    "frames", "dropped", "wall_s", "fps", "latency_ms", "stages_ms", "model", "engine", "precision", "device",
}  # fmt: skip


def names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(f"{row['engine']} {row['precision']}" for row in rows))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All precisions of two engines; each has to start, and a few first prepare the network, so this takes a while."""
    video = make_video(tmp_path_factory.mktemp("bench") / "in.mp4", range(12))
    process = start(
        "bench",
        str(video),
        *TINY,
        *QUICK,
        "--engines",
        "torch-eager,torch,openvino",
        "--device",
        "cpu",
        "--batch",
        "2,1",
        "--json",
    )
    out, err = process.communicate(timeout=10 * GUARD)
    assert process.returncode == 0, err
    figures: dict[str, Any] = json.loads(out)
    return figures


def test_the_schema(everything: dict[str, Any]) -> None:
    figures = everything
    assert {"network", "pipeline", "machine"} <= figures.keys()
    for row in figures["network"]:
        assert row.keys() >= FIGURES
        assert row["latency_ms"].keys() == {"p50", "p95"}
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
        assert row["per_second"] > 0
    for row in figures["pipeline"]:
        assert row.keys() >= STATS
        assert row["frames"] == 12
        assert row["possible_fps"] > 0
        assert row["share_of_possible"] == pytest.approx(row["fps"] / row["possible_fps"], rel=0.01)
    assert figures["machine"]["cpu"]
    assert figures["machine"]["versions"].keys() >= {"torch", "av", "opencv-python"}
    assert figures["settings"]["complete"] is True
    assert figures["settings"]["model"] == "ssd300-mobilenet-v1, random weights"


def test_every_combination_is_there_or_named(everything: dict[str, Any]) -> None:
    figures = everything
    rows = figures["network"]
    assert names(rows)[0] == "torch-eager fp32"
    assert "torch fp32" in names(rows)
    if find_spec("openvino"):
        assert "openvino fp32" in names(rows)
    assert sorted(row["batch"] for row in rows) == [1] * len(names(rows)) + [2] * len(names(rows))
    for part in ("pipeline", "startup", "detection"):
        assert names(figures[part]) == names(rows)
    for row in figures["unavailable"]:
        assert f"{row['engine']} {row['precision']}" not in names(rows)
        assert row["reason"]
    every = names(rows) + names(figures["unavailable"])
    assert len(set(every)) == len(every)
    here = {"torch-eager": {"fp32"}} | {name: set(ENGINES[name].precisions["cpu"]) for name in ("torch", "openvino")}
    assert set(every) == {f"{name} {one}" for name, own in here.items() for one in own} - {"torch fp16"}


def test_ratios_and_shares(everything: dict[str, Any]) -> None:
    figures = everything
    assert all(row["ratio"] == 1 for part in ("network", "pipeline") for row in figures[part][:1])
    assert all(row["ratio"] > 0 for part in ("network", "pipeline") for row in figures[part])
    for row in figures["network"]:
        assert row["postprocess_share"] == pytest.approx(row["postprocess_ms"] * row["per_second"] / 1e3, abs=2e-3)
    for row in figures["startup"]:
        assert sum(row["of_which"].values()) <= row["first_s"] + 0.01
        assert row["start_s"] is None, "it was started once"


def test_a_video_a_table_and_a_plot(tmp_path: Path) -> None:
    video, plot = make_video(tmp_path / "in.mp4", range(10)), tmp_path / "bars.png"
    done = ssdcam(
        "bench", video, *TINY, *QUICK, "--engines", "torch", "--precisions", "fp32,int8", "--batch", "1", "--device",
        "cpu", "--plot", plot,
    )  # fmt: skip
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("ssd300-mobilenet-v1, random weights")
    assert (
        sum(line.startswith("torch ") and " fp32 " in line for line in lines) == 4
    )  # network, detection, start, video
    assert any(str(video) in line for line in lines)
    assert any(line.startswith("not here: torch int8 cpu: precision 'int8' is none of") for line in lines)
    assert cv2.imread(str(plot)) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.png", "in.mp4"]
    again = ssdcam("bench", video, *TINY, "--plot", plot)
    assert (again.code, again.out) == (2, "")
    assert "pass -y to overwrite" in again.err


@pytest.mark.slow
def test_a_synthetic_video_and_a_second_start() -> None:
    how = ("--engines", "torch-eager", "--batch", "1", "--device", "cpu", "--seconds", "0.01", "--rounds", "2")
    done = ssdcam("bench", *TINY, *how, "--json")
    assert done.code == 0
    (figures,) = done.records
    assert figures["settings"]["video"] == "synthetic"
    assert figures["pipeline"][0]["frames"] == 15  # half a second, as little is asked for
    assert figures["pipeline"][0]["ratio"] == 1
    (started,) = figures["startup"]
    assert sum(started["of_which"].values()) <= started["start_s"] + 0.01


def test_a_checkpoint_without_the_pipeline(tiny_model: Path, tmp_path: Path) -> None:
    done = ssdcam(
        "bench", "-m", tiny_model, *QUICK, "--engine", "torch-eager", "--batch", "3", "--no-pipeline", "--json",
        "--device", "cpu", env={"SSDCAM_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.code == 0
    (figures,) = done.records
    assert figures["pipeline"] == []
    assert [(row["engine"], row["batch"]) for row in figures["network"]] == [("torch-eager", 3)]
    assert figures["settings"]["model"] == str(tiny_model)
    assert not (tmp_path / "home").exists(), "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nosuch.mp4", *TINY], 1, "nosuch.mp4"),
        (["video.mp4", *TINY], 1, "video.mp4"),  # is none
        (["nosuch.mp4", "--no-pipeline"], 2, "--no-pipeline"),
        (["--engines", "torch,tensorrt"], 2, "engine 'tensorrt' is none of torch-eager, torch"),
        (["--engines", ","], 2, "names nothing"),
        (["--precisions", "fp32,fp13"], 2, "precision 'fp13' is none of auto, fp32, fp16, bf16, int8"),
        (["--arch", "yolo"], 2, "'yolo' is none of ssd300-vgg16"),
        (["--arch", "ssd300-vgg16", "-m", "video.mp4"], 2, "either it or -m"),
        (["--input-size", "96"], 2, "for --arch"),
        (["-m", "nosuch.pth"], 2, "nosuch.pth: no such checkpoint file"),
        (["--batch", "0"], 2, "is no list such as 1,8"),
        (["--batch", "1,x"], 2, "is no list such as 1,8"),
        (["--plot", "bars.jpg"], 2, "must end in .png"),
        (["--device", "tpu"], 2, "device 'tpu' is none of"),
    ],
)
def test_wrong_usage(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    done = run_here(["bench", *arguments])
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.count("\n") == 1
    assert said in done.err


def test_a_reader_that_leaves_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich would make exit code 1 of it."""

    class NobodyReads(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    machine = {"cpu": "c", "cores": 1, "usable_cores": 1, "memory_gb": None, "os": "o", "gpu": [], "versions": {}}
    report = Report(machine, {"model": "m", "network": "n", "video": None})
    monkeypatch.setattr("sys.stdout", NobodyReads())
    with pytest.raises(BrokenPipeError):
        bench_tables.show(report.to_json())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    done = ssdcam("bench", *TINY, "--device", "cuda")
    assert (done.code, done.out) == (1, "")
    assert "device cuda" in done.err


@pytest.mark.skipif(os.name != "posix", reason="terminals and signals are POSIX's")
def test_ctrl_c_shows_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    how = ("--engines", "torch-eager", "--batch", "1,2", "--rounds", "1", "--seconds", "3600", "--no-pipeline")
    terminal = Terminal("bench", *TINY, *how, "--device", "cpu", "--json", stdout=out)
    terminal.read_until(b"network, batch 1")
    os.kill(terminal._process.pid, signal.SIGINT)
    assert terminal.end() == 130
    figures = json.loads(out.read_text())
    assert [row["engine"] for row in figures["startup"]] == ["torch-eager"]
    assert figures["network"] == []
    assert figures["settings"]["complete"] is False
