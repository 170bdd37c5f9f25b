"""The programs behind this project's figures, with as little to do as possible: they run, and say what they should."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..media.sources.videos import make_video

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, *arguments: object, output: Path) -> dict[str, Any]:
    command = [sys.executable, PROGRAMS / f"{name}.py", *arguments, "-o", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(output.read_text("utf-8"))
    assert written["machine"]["cpu"]
    assert written["command"].startswith(f"python benchmarks/{name}.py")
    printed = json.loads(done.stdout)
    assert printed.items() <= written.items()
    return dict(printed)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "result.json"


def test_video_loop(tiny_model: Path, tmp_path: Path, output: Path) -> None:
    video = make_video(tmp_path / "in.mp4", range(30))
    figures = run("video_loop", video, "-m", tiny_model, "--engine", "torch", "--rounds", 1, output=output)
    assert figures["frames"] == 30
    assert figures["ratio"] == pytest.approx(figures["ssdcam"]["fps"][0] / figures["loop"]["fps"][0], rel=0.01)
    assert figures["cpu_ms_alone"].keys() == {"decode", "network", "encode"}
    assert figures["reached"].keys() == {"pipeline", "command"}


def test_cold_start(tiny_model: Path, cats_photo: Path, output: Path) -> None:
    how = ("-m", tiny_model, "--engines", "torch,torch", "--rounds", 1)
    figures = run("cold_start", cats_photo, *how, output=output)
    assert figures["seconds"].keys() == {"torch", "--help"}
    assert figures["ratio_to_torch"] == {"torch": 1.0}


def test_accuracy(tiny_model: Path, shared: Path, tmp_path: Path, output: Path) -> None:
    data = tmp_path / "voc"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (data / folder).mkdir(parents=True)
    names = (shared / "data/voc/ImageSets/Main/val.txt").read_text().split()[:3]
    (data / "ImageSets/Main/val.txt").write_text("\n".join(names))
    for name in names:
        shutil.copy(shared / f"data/voc/JPEGImages/{name}.jpg", data / "JPEGImages")
        shutil.copy(shared / f"data/voc/Annotations/{name}.xml", data / "Annotations")
    figures = run("accuracy", data, "--with", "torch:fp32,torch:fp32,torch:int8", output=output)
    first, again, missing = figures["rows"]
    assert (first["map"], first["difference"], first["images"]) == (again["map"], 0.0, 3)
    assert "int8" in missing["reason"]


def test_large_frames(tiny_model: Path, output: Path) -> None:
    how = ("-m", tiny_model, "--engine", "torch", "--frames", 3, "--rounds", 1)
    figures = run("large_frames", *how, output=output)
    assert figures["ratio_4k_to_1080p"].keys() == {"beyond_decoding", "with_drawing"}
    assert len(figures["ms_a_frame"]) == 6


def test_nms(output: Path) -> None:
    how = ("--arch", "ultralight-faces", "--engines", "torch", "--precisions", "fp32", "--device", "cpu")
    figures = run("nms", *how, "--batch", 2, "--rounds", 1, "--seconds", 0.1, output=output)
    assert [(row["score"], row["batch"]) for row in figures["rows"]] == [(0.5, 2), (0.01, 2)]
    assert all(row["postprocess_share"] > 0 for row in figures["rows"])
