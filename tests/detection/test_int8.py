"""int8: chosen on pictures once, kept, and close to fp32."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.cli import console
from ssdcam.detection import int8, onnxruntime_engine, openvino_conversion, openvino_networks
from ssdcam.detection.detector import calibration_batch
from ssdcam.detection.engine import Engine
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.int8 import Calibration
from ssdcam.errors import UnavailableError, WrongUsageError
from ssdcam.notes import NOTE
from ssdcam.ssd.spec import Normalisation

from .. import pictures
from ..cli.running import INSTALLED, one_line, run

NEEDED = {"openvino": ["openvino"], "onnxruntime": ["onnxruntime", "onnxscript"]}


@pytest.fixture(params=["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def name(request: pytest.FixtureRequest) -> str:
    for package in [*NEEDED[request.param], "nncf"]:
        pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[{request.param},int8]'")
    return request.param


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.stack([pictures.noise(300, 300, seed) for seed in range(8)])


def start(name: str, checkpoint: Checkpoint, calibration: Calibration | None = None) -> Engine:
    return ENGINES[name].start(checkpoint, "cpu", "int8", calibration=calibration)


def test_weights_take_seven_bits(tiny_checkpoint, batch):
    """On CPUs without VNNI sums of two products do not fit into 16 bits otherwise; depthwise ones are not summed so."""
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[openvino,int8]'")
    model = int8.quantise(openvino_conversion.convert(tiny_checkpoint), batch)
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    weights = [node.data for node in constants if node.get_element_type().get_type_name() == "i8"]
    plain, depthwise = ([np.abs(w.astype(int)).max() for w in weights if w.ndim == sides] for sides in (4, 5))
    assert len(plain) > 10
    assert max(plain) in (63, 64)
    assert depthwise
    assert max(depthwise) == 127


def test_the_input_holds_all_that_a_picture_can(tiny_checkpoint):
    """Whatever the pictures were that ranges were chosen on: these have neither black nor white."""
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[openvino,int8]'")
    grey = np.random.default_rng(0).integers(60, 200, (2, 300, 300, 3), np.uint8)
    for colour, mean, std, lowest, highest in (
        ("rgb", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5), -1, 1),
        ("bgr", (104, 117, 123), (1, 1, 1), -123, 151),
    ):
        spec = replace(tiny_checkpoint.spec, normalisation=Normalisation(colour, mean, std))
        model = int8.quantise(openvino_conversion.convert(Checkpoint(spec, tiny_checkpoint.weights)), grey)
        first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize")
        ends = [first.input_value(place).get_node().data.item() for place in range(1, 5)]
        assert ends == [pytest.approx(end) for end in (lowest, highest, lowest, highest)]


def test_from_pictures_once_and_without_them_from_then_on(name, home, tiny_checkpoint, batch, monkeypatch, capfd):
    with pytest.raises(WrongUsageError, match=f"int8: {name} needs pictures the first time; give --calibrate DIR"):
        start(name, tiny_checkpoint)
    # Pictures that are made up change nothing for those who give none.
    made_up = start(name, tiny_checkpoint, Calibration(batch[:1], only_if_needed=True)).infer(batch[:3])
    with pytest.raises(WrongUsageError, match="needs pictures"):
        start(name, tiny_checkpoint)

    first = start(name, tiny_checkpoint, Calibration(batch))
    assert (first.name, first.device, first.precision) == (name, "cpu", "int8")
    expected = first.infer(batch[:3])
    exact = ENGINES[name].start(tiny_checkpoint, "cpu", "fp32").infer(batch[:3])
    for ours, theirs in zip(expected, exact, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() > 0.001  # it is another arithmetic
        assert np.abs(ours - theirs).mean() < 0.15 * theirs.std()  # of the same network

    # Neither NNCF nor torch has anything to do any more, with the same pictures or without.
    monkeypatch.setattr(int8, "quantise_by", None)
    for calibration in (None, Calibration(batch), Calibration(batch[:1], only_if_needed=True)):
        for ours, theirs in zip(start(name, tiny_checkpoint, calibration).infer(batch[:3]), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert capfd.readouterr().out == ""

    # The last ones count.
    other = start(name, tiny_checkpoint, Calibration(batch[:1])).infer(batch[:3])
    np.testing.assert_array_equal(other[1], made_up[1])
    assert not np.array_equal(other[1], expected[1])
    np.testing.assert_array_equal(start(name, tiny_checkpoint).infer(batch[:3])[1], other[1])

    # What was kept and is damaged cannot be made again without pictures.
    for kept in (home / name).glob("*-*.*"):
        kept.write_bytes(b"")
    with pytest.raises(WrongUsageError, match="needs pictures again, as what was kept is gone or damaged; give --cal"):
        start(name, tiny_checkpoint)


@pytest.mark.parametrize("name", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)], indirect=True)
def test_in_the_command_line(name, tmp_path, tiny_model):
    """Nothing but the result on stdout, nothing left in the home folder, no report to NNCF's makers."""
    for seed in range(3):
        pictures.photo(tmp_path / f"{seed}.jpg", seed=seed)
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('it phones home')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from ssdcam.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sorted({'torch', 'nncf', 'openvino_telemetry'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "HOME": str(tmp_path / "user"), "SSDCAM_HOME": str(tmp_path / "home")}
    (tmp_path / "user").mkdir()
    options = ["-m", str(tiny_model), "--engine", name, "--precision", "int8", "--device", "cpu", "--json"]

    def image(*more: str) -> tuple[list[str], str]:
        command = [sys.executable, "-c", code, "image", str(tmp_path / "0.jpg"), *options, *more]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines(), done.stderr

    (record, modules), said = image("--calibrate", str(tmp_path))
    assert record.startswith('{"source"')
    assert modules == "nncf torch"
    assert "damaged.jpg: is damaged" in said
    assert "note: precision int8: its ranges may be poor, chosen on 3 pictures only: some hundred are best\n" in said
    for how in ("", " in int8, by 3 pictures"):
        assert f"note: {name}: preparing this network{how}, to be kept in " in said
    assert "nncf" not in said.lower()
    assert image() == ([record, ""], "")
    assert not list((tmp_path / "user").rglob("*"))


def test_few_pictures_are_told_of(tiny_model, caplog, monkeypatch):
    """From 32 on they are taken as they are."""
    monkeypatch.setattr(console.log, "propagate", True)
    spec = ssdcam.load(tiny_model, device="cpu").spec
    for count, said in ((1, "on 1 picture only"), (31, "on 31 pictures only"), (32, None)):
        caplog.clear()
        with caplog.at_level(NOTE, console.log.name):
            calibration_batch([pictures.noise(30, 30, 1)] * count, spec)
        assert said in one_line(caplog.text) if said else not caplog.text


def test_what_is_refused(tmp_path, tiny_model):
    with pytest.raises(WrongUsageError, match="calibration is for precision int8, not for auto"):
        ssdcam.load(tiny_model, calibrate=[pictures.noise(30, 30, 1)])
    with pytest.raises(WrongUsageError, match="no picture to choose its ranges on"):
        ssdcam.load(tiny_model, precision="int8", calibrate=[])
    for folder, complaint in ((tmp_path, "no picture to choose"), (tmp_path / "nosuch", "nosuch' does not exist")):
        done = run("image", tmp_path, "-m", tiny_model, "--precision", "int8", "--calibrate", folder, command=INSTALLED)
        assert (done.returncode, done.stdout) == (2, "")
        assert complaint in done.stderr


def test_without_nncf(name, home, tiny_checkpoint, batch, monkeypatch):
    """It is told before a network is made, which takes a while."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UnavailableError, match=r"pip install 'ssdcam\[int8\]'"):
        start(name, tiny_checkpoint, Calibration(batch))
    assert not (home / name).exists()


@pytest.mark.slow
def test_as_good_as_fp32_on_real_photos(name, home, shared):
    from dataclasses import replace

    from ssdcam.datasets import open_dataset, read_picture
    from ssdcam.evaluation import evaluate, pair

    chosen = open_dataset(shared / "data/voc", "train").samples[::12]
    dataset = open_dataset(shared / "data/voc", "val")
    dataset = replace(dataset, samples=dataset.samples[:150])
    found = {}
    for precision, photos in (("fp32", None), ("int8", map(read_picture, chosen))):
        detector = ssdcam.load(score=0.01, device="cpu", engine=name, precision=precision, calibrate=photos)
        detections = [detector.detect(read_picture(sample)) for sample in dataset.samples]
        found[precision] = evaluate(pair(dataset, detections, detector.labels), "voc07").figures["map"]
    assert found["fp32"] > 0.5
    assert abs(found["int8"] - found["fp32"]) < 0.01


def test_pictures_of_any_size_from_a_generator(name, home, tiny_model, tmp_path):
    photos = (pictures.noise(40 + 10 * seed, 60, seed) for seed in range(3))
    detector = ssdcam.load(tiny_model, device="cpu", engine=name, precision="int8", calibrate=photos)
    cv2.imwrite(str(tmp_path / "a.png"), pictures.noise(90, 120, 1))
    assert len(detector.detect(cv2.imread(str(tmp_path / "a.png")))) > 0


def test_what_it_loses_is_told(name, home, tiny_checkpoint, batch, monkeypatch):
    """Of the same network nothing is said; of one that sees all else, how much it differs."""
    negative = {name: -array if array.ndim == 4 else array for name, array in tiny_checkpoint.weights.items()}
    convert = onnxruntime_engine.to_onnx if name == "onnxruntime" else openvino_conversion.convert
    module = {"openvino": openvino_networks, "onnxruntime": onnxruntime_engine}[name]
    quantise = int8.quantise
    other = convert(Checkpoint(tiny_checkpoint.spec, negative))
    said: list[str] = []
    monkeypatch.setattr(int8, "note", said.append)
    for made_of, calibration, told in (
        (None, Calibration(batch), 0),
        (other, Calibration(batch[1:]), 1),
        (other, Calibration(batch[2:], only_if_needed=True), 1),  # of pictures that are made up it means nothing
    ):
        monkeypatch.setattr(module, "quantise", lambda model, batch, other=made_of: quantise(other or model, batch))
        start(name, tiny_checkpoint, calibration)
        assert len(said) == told
    loss = r"in int8 the boxes of this network overlap those in fp32 by 0\.\d\d and its scores differ by 0\.\d\d: "
    assert re.match(f"{name}: {loss}", said[0])
