"""Measuring, in this process: what was measured is what was asked for. Nothing here asks how long it took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssdcam.benchmarking import measure
from ssdcam.benchmarking.eager import EagerEngine
from ssdcam.benchmarking.synthetic import scenes
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.detector import Detector, choose
from ssdcam.detection.engine import Engine
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import SsdcamError, WrongUsageError

from ..cli.stubbed import StubEngine, batches_of, stub_detector
from ..media.sources.videos import decoded_times, make_video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", range(12))


def test_plain_torch_computes_the_same(tiny_checkpoint: Checkpoint) -> None:
    engines: list[Engine] = [EagerEngine(tiny_checkpoint, "cpu"), TorchEngine(tiny_checkpoint, "cpu", "fp32")]
    batch = np.stack([np.resize(picture, (300, 300, 3)) for picture in scenes(2, 300, 300)])
    ours, theirs = (engine.infer(batch) for engine in engines)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-3)
    selection = choose(tiny_checkpoint.spec)
    boxes = [engine.decode(*raw, selection).boxes for engine, raw in zip(engines, (ours, theirs), strict=True)]
    assert len(boxes[0]) > 0
    np.testing.assert_allclose(*boxes, atol=1e-3)
    with pytest.raises(WrongUsageError, match="torch-eager is fp32"):
        EagerEngine(tiny_checkpoint, "cpu", "bf16")


def test_network() -> None:
    detector = stub_detector()
    times = measure.time_network(detector, 4, seconds=0.0, warmup=1)
    assert len(times["latencies_s"]) == 2, "two calls at least"
    assert times["pictures"] == 8
    assert batches_of(detector) == [4] * 3, "the warm-up's and those"
    assert 0 < sum(times["latencies_s"]) <= times["wall_s"]
    assert times["cpu_s"] >= 0


@pytest.mark.parametrize("score", [0.5, 0.01])
def test_decoding_gets_what_a_detector_would_say(tiny_checkpoint: Checkpoint, score: float) -> None:
    engine = TorchEngine(tiny_checkpoint, "cpu")
    found = []

    class Watched:
        name, device, precision = engine.name, engine.device, engine.precision
        infer = staticmethod(engine.infer)

        @staticmethod
        def decode(*arguments: object) -> object:
            found.append(engine.decode(*arguments))
            return found[-1]

    detector = Detector(Watched(), tiny_checkpoint.spec, choose(tiny_checkpoint.spec))
    times = measure.time_decoding(detector, 3, score, seconds=0.0)
    assert len(times["latencies_s"]) == 2
    assert {len(packed.boxes) for packed in found} == {len(found[0].boxes)}
    assert set(found[0].images.tolist()) == {0, 1, 2}
    assert found[0].scores.min() >= score


def test_an_engine_that_gives_something_else_is_not_measured(tiny_checkpoint: Checkpoint) -> None:
    class Odd(StubEngine):
        def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((len(batch), 3, 4)), np.zeros((len(batch), 3, 4))

    detector = Detector(Odd(), tiny_checkpoint.spec, choose(tiny_checkpoint.spec))
    with pytest.raises(SsdcamError, match=r"gives \(1, 3, 4\) where \(1, 1917, 4\) was expected"):
        measure.time_decoding(detector, 1, 0.5, seconds=0.0)


def test_detection() -> None:
    detector = stub_detector()
    times = measure.time_detection(detector, list(scenes(3, 64, 48)), seconds=0.0)
    assert len(times["latencies_s"]) == 2
    assert batches_of(detector) == [1, 1, 1]


def test_pipeline(video: Path, tmp_path: Path) -> None:
    detector, output = stub_detector(), tmp_path / "out.mp4"
    answer = measure.run_pipeline(detector, video, output, frames=7, batch=2)
    stats = answer["stats"]
    assert stats["frames"] == 7
    assert sum(batches_of(detector)) == 7
    assert stats["fps"] == pytest.approx(7 / stats["wall_s"], rel=0.05)
    assert set(stats["stages_ms"]) == {"decode", "preprocess", "inference", "postprocess", "draw", "encode"}
    assert len(decoded_times(output)) == 7
    with pytest.raises(SsdcamError, match="told to fail"):
        measure.run_pipeline(stub_detector(fail_at=3), video, output, frames=7, batch=1)


def test_media_alone(video: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    assert measure.time_video_decoding(video, 5)["frames"] == 5
    assert measure.time_video_decoding(video, 500)["frames"] == 12
    assert measure.time_video_encoding(video, output, 8)["frames"] == 8
    assert len(decoded_times(output)) == 8


def test_frames_held_for_the_encoder_are_bounded(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_MEMORY", 96 * 72 * 3 * 4)
    assert measure.time_video_encoding(video, tmp_path / "out.mp4", 12)["frames"] == 4


def test_memory() -> None:
    before = measure.peak_memory_mb()
    if before is None:
        pytest.skip("this system does not say how much memory a process had")
    held = np.ones(2**25, np.uint8)
    after = measure.peak_memory_mb()
    assert after is not None
    assert after >= before
    assert after > held.nbytes / 2**20
    assert measure.device_memory_mb("cpu") is None
