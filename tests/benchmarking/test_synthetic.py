"""Load made on the spot: the same each time, moving, and such as detectors meet and give."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ssdcam.benchmarking.random_weights import random_checkpoint
from ssdcam.benchmarking.synthetic import detector_like, scenes, write_scene
from ssdcam.detection.detector import Detector, choose
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.media.av import av
from ssdcam.media.sources import FileSource
from ssdcam.ssd import host
from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.default_boxes import default_boxes


@pytest.mark.parametrize("size", [(160, 90), (90, 160), (33, 21)])
def test_scenes_move_and_repeat(size: tuple[int, int]) -> None:
    width, height = size
    pictures = list(scenes(5, width, height))
    for picture, again in zip(pictures, scenes(5, width, height), strict=True):
        assert (picture.shape, picture.dtype) == ((height, width, 3), np.uint8)
        np.testing.assert_array_equal(picture, again)
        assert picture.std() > 10
    for picture, following in itertools.pairwise(pictures):
        assert 0.005 < np.abs(picture.astype(int) - following).mean() / 255 < 0.3
    assert (next(scenes(1, width, height, seed=1)) != pictures[0]).any()


def test_a_scene_as_a_video(tmp_path: Path) -> None:
    path = tmp_path / "scene.mp4"
    write_scene(path, 96, 64, seconds=0.5)
    with FileSource(path) as source:
        frames = list(iter(source.read, None))
        assert (source.width, source.height, source.rate) == (96, 64, 30)
    assert [round(frame.pts * 30) for frame in frames] == list(range(15))
    made = list(scenes(15, 96, 64))
    assert np.abs(frames[7].image.astype(int) - made[7]).mean() < 20
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("architecture", ["ssd300-vgg16", "ssd300-mobilenet-v1"])
def test_scores_like_a_detectors(architecture: str) -> None:
    spec = new_spec(architecture, [f"class {i}" for i in range(20)])
    locations, raw = detector_like(spec, 4)
    defaults = default_boxes(spec.boxes)
    assert (locations.dtype, raw.dtype) == (np.float32, np.float32)
    assert raw.shape == (4, len(defaults), 21)
    counts = {}
    for score in (0.5, 0.01):
        selection = choose(spec, score=score, iou=1.0, max_det=100_000)
        found = host.postprocess(locations, raw, defaults, spec, selection)
        counts[score] = len(found.boxes) / 4
        assert set(found.images.tolist()) == {0, 1, 2, 3}
    assert 10 < counts[0.5] < 60
    assert 700 < counts[0.01] < 4000
    kept = host.postprocess(locations, raw, defaults, spec, choose(spec))
    assert len(kept.boxes) / 4 < 0.9 * counts[0.5], "boxes of an object overlap, and NMS has something to do"


@pytest.mark.parametrize("options", [{"width": 0.25}, {}])
def test_random_weights_find_nothing(options: dict[str, float]) -> None:
    name = "ssd300-mobilenet-v1" if options else "ssdlite320-mobilenet-v3-large"  # sigmoid and softmax
    spec = new_spec(name, ("ant", "bee"), input_size=(128, 128), options=options)
    checkpoint, again = random_checkpoint(spec), random_checkpoint(spec)
    for layer, weights in checkpoint.weights.items():
        np.testing.assert_array_equal(weights, again.weights[layer])
    detector = Detector(TorchEngine(checkpoint, "cpu"), spec, choose(spec, score=0.05))
    assert len(detector.detect(next(scenes(1, 200, 100)))) == 0
    locations, raw = detector.infer(detector.prepare(list(scenes(2, 200, 100))))
    assert locations.isfinite().all()
    assert raw.isfinite().all()
    assert not locations[0].equal(locations[1]), "the picture makes a difference"
