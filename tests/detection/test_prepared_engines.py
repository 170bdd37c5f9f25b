"""The engines that run without torch, against torch, and what they keep between runs."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.cli import console
from ssdcam.detection.engine import Engine
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.notes import NOTE
from ssdcam.ssd.architectures import ARCHITECTURES, build_network, new_spec
from ssdcam.ssd.spec import NmsFigures, Normalisation, Selection

from .. import pictures
from ..cli.commands import ssdcam as ssdcam_here

NEEDED = {"openvino": ["openvino"], "onnxruntime": ["onnxruntime", "onnxscript"]}
FORMS = {"openvino": (".bin", ".xml"), "onnxruntime": (".onnx",)}
MAKERS = {
    "openvino": "ssdcam.detection.openvino_networks.convert",
    "onnxruntime": "ssdcam.detection.onnxruntime_engine.to_onnx",
}


@pytest.fixture(params=NEEDED)
def name(request: pytest.FixtureRequest) -> str:
    for package in NEEDED[request.param]:
        pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[{request.param}]'")
    return request.param


# What is the same for every engine, and takes long where torch exports to ONNX several times.
mostly_in_one = pytest.mark.parametrize(
    "name", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.stack([pictures.noise(300, 300, seed) for seed in range(5)])


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture
def cache(homes: Path, name: str, tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch) -> Path:
    """A cache of this test's own in which the tiny network is prepared."""
    if not (homes / name).exists():
        monkeypatch.setenv("SSDCAM_HOME", str(homes / name))
        start(name, tiny_checkpoint)
    shutil.copytree(homes / name, tmp_path / "home")
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / name


def start(name: str, checkpoint: Checkpoint, **options) -> Engine:
    """In fp32 unless told otherwise: numbers are compared."""
    return ENGINES[name].start(checkpoint, "cpu", **{"precision": "fp32", **options})


def assert_close(ours: tuple, theirs: tuple) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-4, atol=1e-4)


def assert_same(ours: tuple, theirs: tuple) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_numbers_as_torch(name, cache, tiny_checkpoint, batch):
    ours, theirs = start(name, tiny_checkpoint), TorchEngine(tiny_checkpoint, "cpu", "fp32")
    assert (ours.name, ours.device, ours.precision) == (name, "cpu", "fp32")
    expected = theirs.infer(batch)
    for count in (1, 3, 5, 1):
        assert_close(ours.infer(batch[:count]), tuple(part[:count] for part in expected))
    assert_close(ours.infer(batch[::-1]), tuple(part.flip(0) for part in expected))
    selection = Selection(0.3, tiny_checkpoint.spec.nms)
    found = ours.decode(*ours.infer(batch), selection), theirs.decode(*expected, selection)
    assert len(found[0].scores) > 0
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_colours_and_normalisation_go_along(name, cache, tiny_checkpoint, batch):
    normalisation = Normalisation("bgr", (104, 117, 123), (58, 57, 56))
    checkpoint = Checkpoint(replace(tiny_checkpoint.spec, normalisation=normalisation), tiny_checkpoint.weights)
    found = start(name, checkpoint).infer(batch[:1])
    assert_close(found, TorchEngine(checkpoint, "cpu", "fp32").infer(batch[:1]))
    assert not np.allclose(found[1], start(name, tiny_checkpoint).infer(batch[:1])[1], atol=1e-3)


def test_results_stay_as_they_were(name, cache, tiny_checkpoint, batch):
    engine = start(name, tiny_checkpoint)
    for count in (1, 3):
        first = engine.infer(batch[:count])
        copies = [part.copy() for part in first]
        engine.infer(batch[-count:])
        assert_same(first, tuple(copies))


LARGE = ("ssd300-vgg16", "ssd512-vgg16", "ssd300-resnet50")
QUICK = {
    "openvino": ARCHITECTURES.keys() - LARGE,
    "onnxruntime": {"ultralight-faces"},  # PyTorch takes seconds to write a file
}


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        pytest.param(name, one, marks=[pytest.mark.slow] * (one not in QUICK[name]))
        for name in NEEDED
        for one in ARCHITECTURES
    ],
    indirect=["name"],
)
def test_every_architecture(name, architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    spec = new_spec(architecture, ("ant", "bee"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(spec)
    checkpoint = Checkpoint(spec, {key: tensor.numpy() for key, tensor in network.state_dict().items()})
    height, width = spec.input_size
    photos = np.stack([pictures.noise(width, height, seed) for seed in range(2)])
    assert_close(start(name, checkpoint).infer(photos), TorchEngine(checkpoint, "cpu", "fp32").infer(photos))


def test_detections_of_a_foreign_checkpoint_on_a_photo(name, coco_tflite, cats_photo, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    image = cv2.imread(str(cats_photo))
    ours, theirs = (
        ssdcam.load(coco_tflite, score=0.3, device="cpu", engine=one, precision="fp32").detect(image)
        for one in (name, "torch")
    )
    assert {"cat", "dog"} <= set(ours.labels)
    np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.5)


def test_detections_of_the_embedded_detector_on_a_photo(name, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    photos = [cv2.imread(str(path)) for path in sorted((shared / "data/voc/JPEGImages").glob("*.jpg"))[:4]]
    ours, theirs = (
        ssdcam.load(score=0.3, device="cpu", engine=one, precision="fp32").detect(photos) for one in (name, "torch")
    )
    assert sum(map(len, ours)) > 3
    for a, b in zip(ours, theirs, strict=True):
        assert a.labels == b.labels
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.5)


def test_empty_batches_have_no_rows(name, cache, tiny_checkpoint, batch):
    locations, raw_scores = start(name, tiny_checkpoint).infer(batch[:0])
    assert locations.shape == (0, 1917, 4)
    assert raw_scores.shape == (0, 1917, tiny_checkpoint.spec.num_columns)


def test_several_threads_get_their_own_pictures(name, cache, tiny_checkpoint, batch):
    engine = start(name, tiny_checkpoint, threads=1)
    parts = [batch[:1], batch[1:2], batch[2:4], batch[1:4]]
    expected = [engine.infer(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        turns = [i % 4 for i in range(24)]
        for i, found in zip(turns, pool.map(lambda i: engine.infer(parts[i]), turns), strict=True):
            assert_same(found, expected[i])


def test_batches_that_are_on_their_way_together_are_kept_apart(name, cache, tiny_checkpoint, batch):
    engine = start(name, tiny_checkpoint)
    parts = [batch[:1], batch[1:4], batch[2:3], batch[:2], batch[:0]]
    expected = [engine.infer(part) for part in parts]
    for _ in range(3):
        results = [engine.submit(part) for part in parts]
        engine.submit(batch)  # nobody asks for it
        for at in (3, 0, 2, 4, 1):
            assert_same(results[at](), expected[at])


def test_a_network_is_prepared_once_and_told_of(name, tiny_checkpoint, batch, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    caplog.set_level(NOTE, "ssdcam")
    monkeypatch.setattr(console.log, "propagate", True)
    first = start(name, tiny_checkpoint).infer(batch)
    assert f"{name}: preparing this network" in caplog.text
    caplog.clear()
    monkeypatch.setattr(MAKERS[name], None)
    again = start(name, tiny_checkpoint).infer(batch)
    assert not caplog.text
    assert_same(first, again)
    assert not [*tmp_path.glob("**/*.*.xml"), *tmp_path.glob("**/*.*.onnx")]  # nothing half-written


@pytest.mark.slow
@mostly_in_one
@pytest.mark.skipif(os.name != "posix", reason="nobody is killed so on Windows")
def test_what_a_killed_process_was_writing_is_removed(name, tiny_model, tmp_path):
    """By a later run of the command line that prepares a network, once it is a day old."""
    code = (
        "import os, signal, sys, ssdcam\n"
        f"from {MAKERS[name].rpartition('.')[0]} import _write as write\n"
        f"import {MAKERS[name].rpartition('.')[0]} as module\n"
        "def dying(*what): write(*what); os.kill(os.getpid(), signal.SIGKILL)\n"
        "module._write = dying\n"
        "ssdcam.load(sys.argv[1], engine=sys.argv[2], device='cpu')"
    )
    environment = {**os.environ, "SSDCAM_HOME": str(tmp_path)}

    def killed() -> set[Path]:
        before = set(tmp_path.rglob("*"))
        done = subprocess.run([sys.executable, "-c", code, str(tiny_model), name], env=environment)
        assert done.returncode == -signal.SIGKILL
        return {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}

    young = killed()
    assert len(young) == len(FORMS[name])
    old = {path.with_name(f"{path.name.partition('.')[0]}.01234567{path.suffix}") for path in young}
    for path in (*old, tmp_path / name / ".ssdcam-0123456789abcdef.part"):
        path.touch()
        os.utime(path, times=(time.time() - 2 * 24 * 3600,) * 2)

    cv2.imwrite(str(tmp_path / "a.png"), pictures.noise(90, 120, 1))
    line = ("image", tmp_path / "a.png", "-m", tiny_model, "--engine", name, "--device", "cpu", "--json")
    done = ssdcam_here(*line, env={"SSDCAM_HOME": str(tmp_path)})
    assert (done.code, done.complaints) == (0, [])
    assert not [path for path in old if path.exists()]
    assert not [*tmp_path.rglob(".ssdcam-*.part")]
    assert all(path.exists() for path in young), "they may be another process'"
    assert len([path for path in (tmp_path / name).iterdir() if path.suffix in FORMS[name]]) == 2 * len(young)


@mostly_in_one
def test_what_was_kept_and_damaged_is_made_again(name, cache, tiny_checkpoint, batch):
    expected = start(name, tiny_checkpoint).infer(batch[:1])
    files = [path for path in cache.iterdir() if path.suffix in (".xml", ".bin", ".onnx")]
    for kept, content in itertools.product(files, [b"", b"<?xml", None, "zeros"]):
        for compiled in cache.glob("*.blob"):  # which would be taken in its place
            compiled.unlink()
        if content == "zeros":
            whole = kept.read_bytes()
            content = whole[: len(whole) // 2] + bytes(1000) + whole[len(whole) // 2 + 1000 :]
            assert content != whole
        kept.unlink() if content is None else kept.write_bytes(content)
        assert_same(start(name, tiny_checkpoint).infer(batch[:1]), expected)
        assert kept.stat().st_size > 10_000 or kept.suffix == ".xml"


def test_other_weights_are_another_network(name, cache, tiny_checkpoint, batch):
    other = Checkpoint(tiny_checkpoint.spec, {key: array * 1.01 for key, array in tiny_checkpoint.weights.items()})
    found = [start(name, one).infer(batch[:1])[1] for one in (tiny_checkpoint, other)]
    assert not np.allclose(*found, atol=1e-4)


@pytest.mark.parametrize("home", ["file", 300 * "x"])
def test_a_cache_that_can_be_neither_written_nor_looked_at_does_no_harm(
    home, name, tiny_checkpoint, batch, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / home))
    assert len(start(name, tiny_checkpoint).infer(batch)[0]) == 5


def test_once_prepared_it_needs_no_torch_and_reports_to_nobody(name, cache, tiny_model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), pictures.noise(90, 120, 1))
    (tmp_path / "user").mkdir()
    code = (
        "import sys; from ssdcam.cli.main import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'openvino_telemetry'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "image",
            "a.png",
            "-m",
            str(tiny_model),
            "--engine",
            name,
            "--device",
            "cpu",
            "--json",
        ],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path / "user")},
        capture_output=True,
        text=True,
        check=True,
    )
    record, modules = done.stdout.splitlines()
    assert record.startswith('{"source": "a.png"')
    assert modules == ""
    assert done.stderr == ""
    assert not list((tmp_path / "user").iterdir())


def test_other_names_and_figures_are_the_same_network(name, cache, tiny_checkpoint, batch, monkeypatch):
    monkeypatch.setattr(MAKERS[name], None)
    spec = replace(tiny_checkpoint.spec, labels=("fly", "wasp", "tiger"), nms=NmsFigures(iou=0.2))
    assert len(start(name, Checkpoint(spec, tiny_checkpoint.weights)).infer(batch[:1])[0]) == 1


@mostly_in_one
def test_two_processes_prepare_the_same_network(name, tiny_model, tmp_path):
    code = (
        "import sys, numpy as np, ssdcam\n"
        "found = ssdcam.load(sys.argv[1], engine=sys.argv[2], device='cpu').detect(np.zeros((9, 9, 3), np.uint8))\n"
        "print(found.scores.tolist())"
    )
    environment = {**os.environ, "SSDCAM_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tiny_model), name]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert found[0] == found[1] != ""
    [kept] = [*tmp_path.glob("*/*.xml"), *tmp_path.glob("*/*.onnx")]
    assert kept.parent.name == name


def test_without_its_package(name, tiny_checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnavailableError, match=rf"pip install 'ssdcam\[{name}\]'"):
        start(name, tiny_checkpoint)


def test_what_it_refuses(name, tiny_checkpoint):
    with pytest.raises(WrongUsageError, match=f"device 'mps': the {name} engine runs on cpu.*use --engine torch"):
        ENGINES[name].start(tiny_checkpoint, "mps")
    module, _, kind = ENGINES[name].home.partition(":")
    with pytest.raises(WrongUsageError, match="precision 'int4' is none of auto, fp32"):
        getattr(import_module(module), kind)(tiny_checkpoint, precision="int4")


def test_a_layout_of_other_boxes_is_refused(name, cache, tiny_checkpoint):
    maps = tiny_checkpoint.spec.boxes.maps
    boxes = replace(tiny_checkpoint.spec.boxes, maps=(replace(maps[0], rows=20), *maps[1:]))
    with pytest.raises(CheckpointError, match=r"1,?974 default boxes, but its network predicts 1,?917"):
        start(name, Checkpoint(replace(tiny_checkpoint.spec, boxes=boxes), tiny_checkpoint.weights))
