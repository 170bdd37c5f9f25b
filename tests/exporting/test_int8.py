"""Exported files in 8-bit integers: the network alone is quantised, and a file that lost too much is not kept."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.datasets import open_dataset, read_picture
from ssdcam.detection.detector import choose
from ssdcam.detection.openvino_core import openvino_core
from ssdcam.errors import ExportError, UnavailableError, WrongUsageError
from ssdcam.evaluation import evaluate, pair
from ssdcam.exporting.export import export_checkpoint, output_files
from ssdcam.exporting.network import DecodedSSD

from .. import pictures
from ..cli.commands import ssdcam as run_ssdcam
from .runtimes import SUFFIXES, detections, open_file, read_facts, to_input

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "onnx")}


# PyTorch and NNCF take long for ONNX; what is done with its int8 in the engine is tested in tests/detection.
@pytest.fixture(scope="module", params=["openvino", pytest.param("onnx", marks=pytest.mark.slow)])
def format_name(request: pytest.FixtureRequest) -> str:
    for package in [*NEEDS[request.param], "nncf"]:
        pytest.importorskip(package, reason="needs a runtime and NNCF: pip install 'ssdcam[onnx,openvino,int8]'")
    return request.param


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [pictures.noise(300, 300, seed) for seed in range(6)]


@pytest.fixture(scope="module")
def files(format_name, tiny_checkpoint, photos, tmp_path_factory):
    """The tiny detector in a format: without NMS in float, without and with NMS in integers, and what was said."""
    folder = tmp_path_factory.mktemp("int8")
    made = {}
    newest = {"opset": 23} if format_name == "onnx" else {}
    for name, options in {
        "float": {},
        "plain": {"precision": "int8", "calibrate": photos},
        "nms": {
            "precision": "int8",
            "calibrate": iter(photos),
            "nms": choose(tiny_checkpoint.spec, score=0.3),
            **newest,
        },
    }.items():
        path = folder / f"{name}{SUFFIXES[format_name]}"
        made[name] = path, export_checkpoint(tiny_checkpoint, path, format_name, **options)
    return made


def test_another_arithmetic_of_the_same_network(files, photos):
    images = np.stack([to_input(photo, 300, 300) for photo in photos])
    exact, found = (open_file(files[name][0]) for name in ("float", "plain"))
    for batch in (images[:1], images[:3]):
        for ours, theirs in zip(exact(batch).values(), found(batch).values(), strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() > 1e-3
            assert np.abs(ours - theirs).mean() < 0.15 * ours.std()


def test_what_was_checked(files):
    for name in ("plain", "nms"):
        exported = files[name][1]
        assert exported.difference < 1e-3
        assert exported.agreement.pictures == 6
        assert 0.85 < exported.agreement.overlap < 1
        assert 0 < exported.agreement.apart < 0.1
    assert files["float"][1].agreement is None
    assert files["nms"][1].detections > 100


def test_nms_behind_it(files, photos):
    images = np.stack([to_input(photo, 300, 300) for photo in photos[:2]])
    plain, nms = (open_file(files[name][0])(images) for name in ("plain", "nms"))
    for place in range(2):
        count = nms["counts"][place]
        assert count > 0
        boxes, scores, ids = (nms[name][place, :count] for name in ("boxes", "scores", "class_ids"))
        assert (scores >= 0.3).all()
        # Every detection is one of the boxes that the file without NMS gives, with its score.
        apart = np.abs(plain["boxes"][place][:, None] - boxes).max(axis=2)
        apart = np.maximum(apart, np.abs(plain["scores"][place][:, ids] - scores))
        assert apart.min(axis=0).max() < 1e-4


def test_what_a_file_says_of_itself(files):
    facts = read_facts(files["nms"][0])
    assert facts["precision"] == "int8"
    assert json.loads(facts["nms"])["score"] == 0.3


def test_an_opset_that_was_asked_for(files, format_name):
    if format_name == "openvino":
        pytest.skip("OpenVINO's files have none")
    onnx = pytest.importorskip("onnx")
    versions = [[one.version for one in onnx.load(files[name][0]).opset_import] for name in ("float", "plain", "nms")]
    assert versions[0] == versions[1]
    assert versions[2] == [23]


def test_a_smaller_file(files, format_name, tiny_checkpoint):
    weights = [array.size for array in tiny_checkpoint.weights.values() if array.ndim == 4]
    sizes = [sum(file.stat().st_size for file in output_files(files[n][0], format_name)) for n in ("float", "plain")]
    if format_name == "openvino":  # of its two files, the one with the weights
        sizes = [files[n][0].with_suffix(".bin").stat().st_size for n in ("float", "plain")]
    assert sizes[0] - sizes[1] > 2 * sum(weights)


def test_decoding_stays_in_float(files):
    """What stands behind the network's own output is neither quantised nor has quantised inputs."""
    path = files["plain"][0]
    if path.suffix == ".xml":
        nodes = {node.get_friendly_name(): node for node in openvino_core().read_model(path).get_ops()}
        waiting = [node for node in nodes.values() if node.get_type_name() == "Exp"]
        kinds = [waiting[0].get_type_name()]
        while waiting:
            behind = [port.get_node() for output in waiting.pop().outputs() for port in output.get_target_inputs()]
            kinds += [node.get_type_name() for node in behind]
            waiting += behind
        assert sum(node.get_type_name() == "FakeQuantize" for node in nodes.values()) > 10
        assert "FakeQuantize" not in kinds
    else:
        onnx = pytest.importorskip("onnx")
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [one.domain for one in model.opset_import] == [""]
        kinds = [node.op_type for node in model.graph.node]
        assert kinds.count("QuantizeLinear") > 10
        assert not {"QuantizeLinear", "DequantizeLinear"} & set(kinds[kinds.index("Exp") - 8 :])
    assert kinds


def test_the_input_holds_all_that_a_picture_can(format_name, tiny_checkpoint, tmp_path):
    """Whatever the pictures were that ranges were chosen on: these have neither black nor white."""
    if format_name == "onnx":
        pytest.skip("NNCF's own range is kept there")
    grey = np.random.default_rng(0).integers(60, 200, (2, 300, 300, 3), np.uint8)
    path = tmp_path / "grey.xml"
    export_checkpoint(tiny_checkpoint, path, format_name, precision="int8", calibrate=list(grey))
    normalisation = tiny_checkpoint.spec.normalisation
    figures = [*zip(normalisation.mean, normalisation.std, strict=True)]
    lowest, highest = min(-mean / std for mean, std in figures), max((255 - mean) / std for mean, std in figures)
    nodes = openvino_core().read_model(path).get_ordered_ops()
    first = next(node for node in nodes if node.get_type_name() == "FakeQuantize")
    found = [first.input_value(place).get_node().data.item() for place in (1, 2)]
    assert found == [pytest.approx(lowest), pytest.approx(highest)]


def test_depthwise_weights_have_a_scale_for_each_channel(files, format_name):
    """OpenVINO computes them in other than 8 bits if there are more."""
    if format_name == "onnx":
        pytest.skip("ONNX's weights are as they should be anyway")
    nodes = openvino_core().read_model(files["plain"][0]).get_ops()
    depthwise = [node for node in nodes if node.get_type_name() == "GroupConvolution"]
    assert depthwise
    for node in depthwise:
        scaled = node.input_value(1).get_node()
        assert scaled.get_type_name() == "Multiply"
        assert list(scaled.input_value(1).get_shape())[2:] == [1, 1, 1]


def of_others(good, checkpoint):
    """A format whose file is of another detector, and runs as it should."""
    other = DecodedSSD(checkpoint)
    return replace(good, quantise=lambda network, *more: good.quantise(other, *more))


def decoded_wrongly(good, checkpoint):
    def quantise(*given):
        made = good.quantise(*given)
        return made._replace(raw=lambda images: [output * np.float32(0.9) for output in made.raw(images)])

    return replace(good, quantise=quantise)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (
            of_others,
            r"in int8 its boxes overlap torch's by 0\.\d\d and its scores differ by 0\.\d\d, so it is not kept",
        ),
        (decoded_wrongly, "differs from torch by .*, so it is not kept"),
    ],
)
def test_a_file_that_differs_is_not_kept(wrong, complaint, format_name, tiny_checkpoint, photos, tmp_path, monkeypatch):
    module = import_module(f"ssdcam.exporting.{format_name}_file")
    first = next(name for name, array in tiny_checkpoint.weights.items() if array.ndim == 4)
    other = {**tiny_checkpoint.weights, first: tiny_checkpoint.weights[first][:, ::-1].copy()}  # colours swapped
    monkeypatch.setattr(module, "FORMAT", wrong(module.FORMAT, Checkpoint(tiny_checkpoint.spec, other)))
    path = tmp_path / f"a{SUFFIXES[format_name]}"
    path.write_bytes(b"precious")
    with pytest.raises(ExportError, match=complaint):
        export_checkpoint(tiny_checkpoint, path, format_name, precision="int8", calibrate=photos)
    assert [left.name for left in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"precious"


def test_no_picture(format_name, tiny_checkpoint, tmp_path):
    with pytest.raises(WrongUsageError, match="no picture to choose its ranges on"):
        export_checkpoint(
            tiny_checkpoint, tmp_path / f"a{SUFFIXES[format_name]}", format_name, precision="int8", calibrate=[]
        )
    assert not list(tmp_path.iterdir())


def test_without_nncf(format_name, tiny_checkpoint, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UnavailableError, match=r"pip install 'ssdcam\[int8\]'"):
        export_checkpoint(
            tiny_checkpoint, tmp_path / f"a{SUFFIXES[format_name]}", format_name, precision="int8", calibrate=photos
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["openvino", "onnx"], indirect=True)
def test_in_the_command_line(format_name, tiny_model, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(4):
        pictures.photo(tmp_path / f"photos/{seed}.jpg", seed=seed)
    (tmp_path / "photos/damaged.jpg").write_bytes(b"no picture")
    name = f"a{SUFFIXES[format_name]}"
    options = ["--format", format_name, "--precision", "int8", "--calibrate", "photos", "-o", name]
    done = run_ssdcam("export", "-m", tiny_model, *options, cwd=tmp_path)
    assert done.code == 0
    damaged, few = done.err.splitlines()
    assert "damaged.jpg: is damaged" in damaged
    assert few == "note: precision int8: its ranges may be poor, chosen on 4 pictures only: some hundred are best"
    assert f"{name}: ssd300-mobilenet-v1, 3 labels; checked: on 4 of the pictures boxes overlap torch's by" in done.out
    assert len(done.out.splitlines()) == 1
    assert Path(tmp_path / name).exists()


@pytest.mark.slow
def test_as_good_as_torch_on_real_photos(format_name, shared, tmp_path):
    """mAP of the embedded detector in a hundred photos, its ranges chosen on others."""
    dataset = open_dataset(shared / "data/voc", "val")
    dataset = replace(dataset, samples=dataset.samples[:100])
    chosen = map(read_picture, open_dataset(shared / "data/voc", "train").samples[::12])
    checkpoint = open_checkpoint()
    path = tmp_path / f"voc{SUFFIXES[format_name]}"
    selection = choose(checkpoint.spec, score=0.01)
    exported = export_checkpoint(checkpoint, path, format_name, nms=selection, precision="int8", calibrate=chosen)
    print(exported.agreement)
    run = open_file(path)
    detector = ssdcam.load(score=0.01, device="cpu", engine="torch", precision="fp32")
    ours, theirs = [], []
    for image in map(read_picture, dataset.samples):
        ours.append(detector.detect(image))
        outputs = run(to_input(image, *checkpoint.spec.input_size)[None])
        theirs.append(detections(outputs, 0, checkpoint.spec, image.shape[1], image.shape[0]))
    found = [evaluate(pair(dataset, each, detector.labels), "voc07").figures["map"] for each in (ours, theirs)]
    print(f"{format_name} int8: mAP {found[1]:.5f}, torch fp32 {found[0]:.5f}, on 100 photos")
    assert found[0] > 0.4
    assert found[1] == pytest.approx(found[0], abs=0.015)
