"""The OpenVINO engine against torch, and what it keeps between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.cli import console
from ssdcam.detection import openvino_engine
from ssdcam.detection.openvino_engine import OpenVinoEngine
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.notes import NOTE
from ssdcam.ssd.spec import Normalisation, Selection

from .. import pictures

pytest.importorskip("openvino", reason="needs openvino: pip install 'ssdcam[openvino]'")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.stack([pictures.noise(300, 300, seed) for seed in range(3)])


def assert_close(ours: tuple, theirs: tuple) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_the_same_numbers_as_torch(tiny_checkpoint, batch, colour):
    normalisation = Normalisation(colour, (104, 117, 123), (58, 57, 56))
    checkpoint = Checkpoint(replace(tiny_checkpoint.spec, normalisation=normalisation), tiny_checkpoint.weights)
    ours, theirs = OpenVinoEngine(checkpoint), TorchEngine(checkpoint, "cpu", "fp32")
    assert (ours.name, ours.device, ours.precision) == ("openvino", "cpu", "fp32")
    assert_close(ours.infer(batch), theirs.infer(batch))
    assert_close(ours.infer(batch[:1]), theirs.infer(batch[:1]))
    selection = Selection(0.3, checkpoint.spec.nms)
    found = ours.decode(*ours.infer(batch), selection), theirs.decode(*theirs.infer(batch), selection)
    assert len(found[0].scores) > 0
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_detections_on_a_photo(coco_tflite, cats_photo):
    image = cv2.imread(str(cats_photo))
    ours, theirs = (ssdcam.load(coco_tflite, score=0.3, engine=name).detect(image) for name in ("openvino", "torch"))
    assert {"cat", "dog"} <= set(ours.labels)
    np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.5)


def test_empty_batches_have_no_rows(tiny_checkpoint, batch):
    locations, raw_scores = OpenVinoEngine(tiny_checkpoint).infer(batch[:0])
    assert locations.shape == (0, 1917, 4)
    assert raw_scores.shape[:2] == (0, 1917)


def test_several_threads_get_their_own_pictures(tiny_checkpoint, batch):
    engine = OpenVinoEngine(tiny_checkpoint, threads=1)
    expected = [engine.infer(batch[i : i + 1]) for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        turns = [i % 3 for i in range(24)]
        for i, found in zip(turns, pool.map(lambda i: engine.infer(batch[i : i + 1]), turns), strict=True):
            for a, b in zip(found, expected[i], strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_network_is_prepared_once_and_told_of(tiny_checkpoint, batch, cache, caplog, monkeypatch):
    caplog.set_level(NOTE, "ssdcam")
    monkeypatch.setattr(console.log, "propagate", True)
    first = OpenVinoEngine(tiny_checkpoint).infer(batch)
    assert "openvino: preparing this network" in caplog.text
    caplog.clear()
    monkeypatch.setattr(openvino_engine, "_convert", None)
    again = OpenVinoEngine(tiny_checkpoint).infer(batch)
    assert not caplog.text
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(cache.glob("**/*.*.xml"))  # nothing half-written


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@pytest.mark.parametrize("content", [b"", b"<?xml", None])
def test_what_was_kept_and_damaged_is_made_again(tiny_checkpoint, batch, cache, suffix, content):
    expected = OpenVinoEngine(tiny_checkpoint).infer(batch[:1])
    [kept] = (cache / "openvino").glob(f"*{suffix}")
    kept.unlink() if content is None else kept.write_bytes(content)
    for a, b in zip(OpenVinoEngine(tiny_checkpoint).infer(batch[:1]), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_weights_and_settings_are_other_networks(tiny_checkpoint, batch):
    other = {name: array * 1.01 for name, array in tiny_checkpoint.weights.items()}
    flipped = replace(tiny_checkpoint.spec, normalisation=replace(tiny_checkpoint.spec.normalisation, colour="bgr"))
    variants = [tiny_checkpoint, Checkpoint(tiny_checkpoint.spec, other), Checkpoint(flipped, tiny_checkpoint.weights)]
    found = [OpenVinoEngine(variant).infer(batch[:1])[1] for variant in variants]
    assert not np.allclose(found[0], found[1], atol=1e-4)
    assert not np.allclose(found[0], found[2], atol=1e-4)


def test_a_cache_that_cannot_be_written_does_no_harm(tiny_checkpoint, batch, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "file"))
    assert len(OpenVinoEngine(tiny_checkpoint).infer(batch)[0]) == 3


def test_no_torch_once_it_is_prepared(tiny_checkpoint, tmp_path):
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny.safetensors")
    OpenVinoEngine(tiny_checkpoint)
    cv2.imwrite(str(tmp_path / "a.png"), pictures.noise(90, 120, 1))
    code = "import sys; from ssdcam.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    arguments = ["image", "a.png", "-m", "tiny.safetensors", "--engine", "openvino", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    record, torch_there = done.stdout.splitlines()
    assert record.startswith('{"source": "a.png"')
    assert torch_there == "False"


@pytest.mark.parametrize(
    ("options", "kind", "complaint"),
    [
        ({"device": "cuda"}, WrongUsageError, "runs on the CPU"),
        ({"precision": "int4"}, WrongUsageError, "none of auto, fp32"),
    ],
)
def test_what_it_refuses(tiny_checkpoint, options, kind, complaint):
    with pytest.raises(kind, match=complaint):
        OpenVinoEngine(tiny_checkpoint, **options)


def test_a_precision_that_this_cpu_lacks(tiny_checkpoint, monkeypatch):
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "_core", Core)
    with pytest.raises(UnavailableError, match="this CPU computes in FP32, INT8; use fp32"):
        OpenVinoEngine(tiny_checkpoint, precision="bf16")


def test_without_openvino(tiny_checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match=r"pip install 'ssdcam\[openvino\]'"):
        OpenVinoEngine(tiny_checkpoint)


def test_a_layout_of_other_boxes_is_refused(tiny_checkpoint):
    maps = tiny_checkpoint.spec.boxes.maps
    boxes = replace(tiny_checkpoint.spec.boxes, maps=(replace(maps[0], rows=20), *maps[1:]))
    with pytest.raises(CheckpointError, match=r"1,?974 default boxes, but its network predicts 1,?917"):
        OpenVinoEngine(Checkpoint(replace(tiny_checkpoint.spec, boxes=boxes), tiny_checkpoint.weights))
