"""Exported files against torch: on photos, in any batch, whole or not at all."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.datasets import open_dataset, read_picture
from ssdcam.detection.detector import Detector, choose
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import CheckpointError, ExportError, UnavailableError, WrongUsageError
from ssdcam.evaluation import evaluate, pair
from ssdcam.exporting import export, torchscript_file
from ssdcam.exporting.export import export_checkpoint
from ssdcam.ssd.spec import Normalisation

from .. import pictures
from .runtimes import SUFFIXES, detections, open_file, read_facts, to_input

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "onnx"), "torchscript": ()}
LOW = 0.01


def needs(format_name: str) -> None:
    for name in NEEDS[format_name]:
        pytest.importorskip(name, reason="needs a runtime: pip install 'ssdcam[onnx,openvino]'")


@pytest.fixture(scope="session")
def softmax_checkpoint(tiny_checkpoint):
    """The tiny detector as if its scores were softmax's, in BGR, with a limit of the coder."""
    spec = replace(
        tiny_checkpoint.spec,
        score_function="softmax",
        normalisation=Normalisation("bgr", (104, 117, 123), (60, 61, 62)),
        coding=replace(tiny_checkpoint.spec.coding, max_log_size=4.0),
    )
    return Checkpoint(spec, tiny_checkpoint.weights)


@pytest.fixture(scope="session")
def embedded_files(tmp_path_factory):
    """Makes the embedded detector's file of a format, with NMS, once."""
    made = {}

    def make(format_name):
        if format_name not in made:
            needs(format_name)
            path = tmp_path_factory.mktemp("embedded") / f"voc{SUFFIXES[format_name]}"
            checkpoint = open_checkpoint()
            export_checkpoint(checkpoint, path, format_name, nms=choose(checkpoint.spec, score=LOW), precision="fp16")
            made[format_name] = path
        return made[format_name]

    return make


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_scores_and_boxes(format_name, softmax_checkpoint, tmp_path):
    needs(format_name)
    path = tmp_path / f"a{SUFFIXES[format_name]}"
    exported = export_checkpoint(softmax_checkpoint, path, format_name)
    assert exported.difference < 1e-3
    assert exported.detections is None
    assert sorted(tmp_path.iterdir()) == sorted(exported.files)

    run = open_file(path)
    engine = TorchEngine(softmax_checkpoint, "cpu", "fp32")
    for batch in (1, 3):
        images = [pictures.noise(300, 300, seed) for seed in range(batch)]
        outputs = run(np.stack([to_input(image, 300, 300) for image in images]))
        assert list(outputs) == ["boxes", "scores"]
        assert outputs["boxes"].shape == (batch, 1917, 4)
        raw_scores = engine.infer(np.stack(images))[1].numpy()
        exponentials = np.exp(raw_scores - raw_scores.max(axis=2, keepdims=True))
        probabilities = (exponentials / exponentials.sum(axis=2, keepdims=True))[..., 1:]
        np.testing.assert_allclose(outputs["scores"], probabilities, atol=1e-4)
        assert 0 <= outputs["boxes"].min() < outputs["boxes"].max() <= 1


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_a_real_photo(format_name, embedded_files, cats_photo):
    path = embedded_files(format_name)
    spec = open_checkpoint().spec
    height, width = spec.input_size
    image = cv2.resize(cv2.imread(str(cats_photo)), (width, height))
    batch = np.stack([to_input(each, height, width) for each in (image, image[:, ::-1].copy(), image)])
    detector = ssdcam.load(score=LOW, device="cpu", engine="torch", precision="fp32")
    run = open_file(path)
    for given in (batch[:1], batch):
        outputs = run(given)
        assert outputs["boxes"].shape == (len(given), spec.nms.after, 4)
        theirs = detections(outputs, 0, spec, width, height)
        ours = detector.detect(image)
        assert {"cat", "dog"} <= set(theirs.labels)
        assert theirs.labels == ours.labels
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-3)
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.1)


@pytest.fixture(scope="module")
def hundred(shared):
    """Photos with their ground truth, and what torch sees in them."""
    dataset = open_dataset(shared / "data/voc", "val")
    dataset = replace(dataset, samples=dataset.samples[:100])
    detector = ssdcam.load(score=LOW, device="cpu", engine="torch", precision="fp32")
    return dataset, [detector.detect(read_picture(sample)) for sample in dataset.samples]


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_a_hundred_photos(format_name, embedded_files, hundred):
    """The same detections as torch's, and the same mAP by the same evaluation."""
    dataset, ours = hundred
    run, spec = open_file(embedded_files(format_name)), open_checkpoint().spec
    theirs = []
    for sample in dataset.samples:
        image = read_picture(sample)
        outputs = run(to_input(image, *spec.input_size)[None])
        theirs.append(detections(outputs, 0, spec, image.shape[1], image.shape[0]))
    alike = sum(
        a.labels == b.labels and np.allclose(a.boxes, b.boxes, atol=0.1) and np.allclose(a.scores, b.scores, atol=1e-3)
        for a, b in zip(ours, theirs, strict=True)
    )
    found = [evaluate(pair(dataset, each, spec.labels), "voc07").figures["map"] for each in (ours, theirs)]
    print(f"{format_name}: mAP {found[1]:.5f}, torch {found[0]:.5f}; the same detections in {alike} of 100 photos")
    print(f"{sum(map(len, theirs))} detections, torch {sum(map(len, ours))}")
    assert found[0] > 0.4
    assert found[1] == pytest.approx(found[0], abs=0.002)
    assert alike >= 95  # boxes of nearly equal scores may change places


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_what_a_file_says_of_itself(format_name, embedded_files):
    facts = read_facts(embedded_files(format_name))
    spec = open_checkpoint().spec
    assert json.loads(facts["labels"]) == list(spec.labels)
    assert json.loads(facts["input_size"]) == list(spec.input_size)
    assert facts["colour"] == "rgb"
    assert facts["architecture"] == spec.architecture
    assert facts["ssdcam_version"] == ssdcam.__version__
    assert facts["precision"] == "fp16"
    assert "float32, RGB, 0 to 255" in facts["input"]
    assert "counts (B)" in facts["outputs"]
    nms = json.loads(facts["nms"])
    assert (nms["score"], nms["iou"], nms["after"]) == (LOW, spec.nms.iou, spec.nms.after)
    assert json.loads(facts["provenance"])["licence"] == "Apache-2.0"


def test_onnx_by_its_own_rules(embedded_files):
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'ssdcam[onnx]'")
    model = onnx.load(embedded_files("onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [one.domain for one in model.opset_import] == [""]
    # ONNX Runtime would tell the file's users of constants that nothing reads.
    used = {name for node in model.graph.node for name in node.input}
    assert {constant.name for constant in model.graph.initializer} <= used
    assert (model.producer_name, model.producer_version) == ("ssdcam", ssdcam.__version__)
    sizes = [
        [side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim] for one in model.graph.output
    ]
    after = open_checkpoint().spec.nms.after
    assert sizes == [["batch", after, 4], ["batch", after], ["batch", after], ["batch"]]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_weights_in_half_the_room(format_name, embedded_files):
    path = embedded_files(format_name)
    files = export.output_files(path, format_name)
    parameters = sum(array.size for array in open_checkpoint().weights.values())
    assert 2 * parameters < sum(file.stat().st_size for file in files) < 2.3 * parameters


def test_figures_of_nms(tiny_checkpoint, tmp_path):
    selection = choose(tiny_checkpoint.spec, score=0.4, iou=0.2, max_det=9)
    exported = export_checkpoint(tiny_checkpoint, tmp_path / "a.pt", "torchscript", nms=selection)
    assert exported.detections > 9
    images = [pictures.noise(300, 300, seed) for seed in range(2)]
    outputs = open_file(tmp_path / "a.pt")(np.stack([to_input(image, 300, 300) for image in images]))
    detector = Detector(TorchEngine(tiny_checkpoint, "cpu", "fp32"), tiny_checkpoint.spec, selection)
    for place, ours in enumerate(detector.detect(images)):
        theirs = detections(outputs, place, tiny_checkpoint.spec, 300, 300)
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.05)


def shifted(outputs):
    """Outputs of a file that does something slightly else."""
    return (outputs[0] * 0.97, *outputs[1:])


def unsure(outputs):
    return (outputs[0], outputs[1] * np.float32(np.nan), *outputs[2:])


def cut(outputs):
    return tuple(output[:, :-1] for output in outputs)


@pytest.mark.parametrize(
    ("wrong", "with_nms"), [(shifted, False), (unsure, False), (cut, False), (shifted, True), (unsure, True)]
)
def test_a_file_that_differs_is_not_kept(wrong, with_nms, tiny_checkpoint, tmp_path, monkeypatch):
    good = torchscript_file.FORMAT

    def load(path):
        run = good.load(path)

        def run_wrong(images):
            outputs = run(images)
            return wrong(outputs) if with_nms == (len(outputs) == 4) else outputs

        return run_wrong

    monkeypatch.setattr(torchscript_file, "FORMAT", replace(good, load=load))
    (tmp_path / "a.pt").write_bytes(b"precious")
    nms = choose(tiny_checkpoint.spec) if with_nms else None
    with pytest.raises(ExportError, match=r"a\.pt: .*torch.*, so it is not kept"):
        export_checkpoint(tiny_checkpoint, tmp_path / "a.pt", "torchscript", nms=nms)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("format_name", "missing", "extra"),
    [
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxscript", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_without_its_packages(format_name, missing, extra, tiny_checkpoint, tmp_path, monkeypatch):
    needs(format_name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnavailableError, match=rf"pip install 'ssdcam\[{extra}\]'"):
        export_checkpoint(tiny_checkpoint, tmp_path / f"a{SUFFIXES[format_name]}", format_name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("a.pt", {"format_name": "onnx"}, "must end in .onnx"),
        ("a.bin", {"format_name": "openvino"}, "must end in .xml"),
        ("a", {"format_name": "torchscript"}, "must end in .pt or .torchscript"),
        ("a.pt", {"precision": "bf16"}, "none of fp32, fp16, int8"),
        ("a.pt", {"precision": "int8", "calibrate": []}, "not in torchscript; use --format onnx or openvino"),
        ("a.onnx", {"format_name": "onnx", "precision": "int8"}, "give --calibrate DIR, a folder of some hundred"),
        ("a.onnx", {"format_name": "onnx", "calibrate": []}, "calibration is for precision int8, not for fp32"),
        ("a.pt", {"opset": 20}, "torchscript has none"),
        ("a.onnx", {"format_name": "onnx", "opset": 7}, "ssdcam writes 18 to"),
    ],
)
def test_what_it_refuses(name, options, complaint, tiny_checkpoint, tmp_path):
    with pytest.raises(WrongUsageError, match=complaint):
        export_checkpoint(tiny_checkpoint, tmp_path / name, **{"format_name": "torchscript", **options})
    assert not list(tmp_path.iterdir())


def test_a_choice_of_classes_is_refused(tiny_checkpoint, tmp_path):
    selection = choose(tiny_checkpoint.spec, classes=["bee"])
    with pytest.raises(WrongUsageError, match="knows all classes"):
        export_checkpoint(tiny_checkpoint, tmp_path / "a.pt", "torchscript", nms=selection)


def test_weights_that_fp16_cannot_hold(tiny_checkpoint, tmp_path):
    name = next(iter(tiny_checkpoint.weights))
    weights = {**tiny_checkpoint.weights, name: tiny_checkpoint.weights[name] + 1e6}
    with pytest.raises(CheckpointError, match=f"{name} holds weights that are too large for fp16"):
        export_checkpoint(Checkpoint(tiny_checkpoint.spec, weights), tmp_path / "a.pt", "torchscript", precision="fp16")


def test_a_layout_of_other_boxes_is_refused(tiny_checkpoint, tmp_path):
    maps = tiny_checkpoint.spec.boxes.maps
    boxes = replace(tiny_checkpoint.spec.boxes, maps=(replace(maps[0], rows=20), *maps[1:]))
    wrong = Checkpoint(replace(tiny_checkpoint.spec, boxes=boxes), tiny_checkpoint.weights)
    with pytest.raises(CheckpointError, match="1974 default boxes, but its network predicts 1917"):
        export_checkpoint(wrong, tmp_path / "a.pt", "torchscript")


def write_new(files: tuple[Path, Path], error: type[BaseException] | None = None) -> None:
    """Write both files, and fail in the end."""
    with export._replacing(files) as parts:
        for part in parts:
            part.write_text("new")
        if error:
            raise error


class TestTwoFiles:
    """OpenVINO's two files belong together: there is never a new one beside an old one."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        files = (tmp_path / "a.xml", tmp_path / "a.bin")
        for file in files:
            file.write_text("old")
        return files

    def test_replaced(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        with export._replacing(files) as parts:
            assert [part.suffix for part in parts] == [".xml", ".bin"]
            assert len({part.stem for part in parts}) == 1
            for part in parts:
                part.write_text("new")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.xml": "new", "a.bin": "new"}

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_left_alone(self, files: tuple[Path, Path], tmp_path: Path, error: type[BaseException]) -> None:
        with pytest.raises(error):
            write_new(files, error)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.xml": "old", "a.bin": "old"}

    @pytest.mark.parametrize(
        ("fails", "left"), [(".bin", {"a.xml": "old", "a.bin": "old"}), (".xml", {"a.bin": "new"})]
    )
    def test_when_a_name_cannot_be_given(
        self,
        fails: str,
        left: dict[str, str],
        files: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        replace_file = Path.replace

        def refuse(self: Path, target: Path) -> Path:
            if target.name == f"a{fails}" and self.suffix == fails:
                raise OSError(5, "Input/output error")
            return replace_file(self, target)

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(ExportError, match=r"a\.xml: cannot be written: Input/output error"):
            write_new(files)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left

    def test_a_folder_in_the_way(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        files[1].unlink()
        files[1].mkdir()
        with pytest.raises(ExportError, match=r"a\.bin: cannot be written: is no file"), export._replacing(files):
            raise AssertionError("no work is to be done")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
