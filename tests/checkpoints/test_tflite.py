"""TensorFlow Lite files: one real SSD, one real network that is none, and what damage does to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ssdcam
from ssdcam.checkpoints import tflite as tflite_module
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.labels import COCO_WITH_GAPS
from ssdcam.checkpoints.tflite import load_tflite
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.errors import CheckpointError, UnavailableError
from ssdcam.ssd.default_boxes import BoxLayout, default_boxes, layout_tensorflow
from ssdcam.ssd.spec import BoxCoding

from .. import pictures


@pytest.fixture(scope="module")
def coco(coco_tflite: Path) -> Checkpoint:
    return load_tflite(coco_tflite)


class TestCoco:
    """SSD300 MobileNet-v1 of width 0.75, 90 classes, 1,917 boxes."""

    def test_spec(self, coco: Checkpoint) -> None:
        spec = coco.spec
        assert (spec.architecture, spec.options) == ("ssd300-mobilenet-v1", {"width": 0.75})
        assert spec.input_size == (300, 300)
        assert spec.labels == COCO_WITH_GAPS
        assert (spec.score_function, spec.background) == ("sigmoid", True)
        assert spec.normalisation.colour == "rgb"
        assert spec.normalisation.mean == spec.normalisation.std == (127.5,) * 3
        assert spec.coding == BoxCoding((0.1, 0.1, 0.2, 0.2))
        assert spec.nms.iou == 0.6
        assert spec.boxes == layout_tensorflow([(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)])
        assert spec.provenance["source"] == "converted from detect.tflite"

    def test_weights(self, coco: Checkpoint) -> None:
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in coco.weights.values())
        assert coco.weights["backbone.Conv2d_0.weight"].shape == (24, 3, 3, 3)
        assert coco.weights["backbone.Conv2d_1_depthwise.weight"].shape == (24, 1, 3, 3)
        assert coco.weights["backbone.Conv2d_13_pointwise.weight"].shape == (768, 768, 1, 1)
        assert coco.weights["loc.0.weight"].shape == (3 * 4, 384, 1, 1)
        assert coco.weights["conf.5.bias"].shape == (6 * 91,)

    def test_fewer_than_256_values_a_layer(self, coco: Checkpoint) -> None:
        # Dequantised, not run: 8 bits are all there is.
        for name, array in coco.weights.items():
            if name.endswith("weight"):
                assert len(np.unique(array)) <= 256

    def test_it_runs(self, coco_tflite: Path) -> None:
        detector = ssdcam.load(coco_tflite, score=0.05, device="cpu")
        assert detector.labels == COCO_WITH_GAPS
        assert detector.detect(pictures.noise(320, 240, 0)) is not None


@pytest.mark.parametrize("random", [False, True])
def test_raw_outputs_against_the_file_s_own_graph(random: bool, coco_tflite: Path, tmp_path: Path) -> None:
    """Operation by operation as the file lays them out, of the published weights and of random ones."""
    from .tflite_graph import evaluate, other_weights

    path = other_weights(coco_tflite, tmp_path / "a.tflite", seed=1) if random else coco_tflite
    checkpoint = load_tflite(path)
    pixels = pictures.noise(300, 300, 1)
    with torch.inference_mode():
        expected_boxes, expected_scores = evaluate(path, pixels[None, ..., ::-1].astype(np.float32) / 127.5 - 1)
        normalise = Normalise(checkpoint.spec.normalisation)
        locations, scores = load_network(checkpoint)(normalise(torch.from_numpy(pixels[None])))
    assert expected_boxes.std() > 0.1
    assert expected_scores.std() > 0.1
    y, x, height, width = np.moveaxis(expected_boxes.reshape(1, -1, 4), -1, 0)
    np.testing.assert_allclose(locations, np.stack([x, y, width, height], -1), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4, rtol=1e-4)


def test_a_network_that_is_no_ssd(shared: Path) -> None:
    pytest.importorskip("tflite", reason="reading TensorFlow Lite files needs the tflite package")
    path = shared / "weights/backbones/tf2_mobilenet_v2_1.0_224_ptq.tflite"
    with pytest.raises(CheckpointError, match=r"ptq\.tflite: is damaged, or no SSD"):
        load_tflite(path)


def test_no_tflite_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(UnavailableError, match=r"needs the tflite package: pip install 'ssdcam\[tflite\]'"):
        load_tflite(tmp_path / "a.tflite")


def test_no_file(tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="reading TensorFlow Lite files needs the tflite package")
    with pytest.raises(CheckpointError, match=r"a\.tflite: cannot be read: No such file"):
        load_tflite(tmp_path / "a.tflite")


@pytest.fixture(scope="module")
def data(coco_tflite: Path) -> bytes:
    """A sound file to damage."""
    return coco_tflite.read_bytes()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to put what is left of it."""
    return tmp_path_factory.mktemp("damage") / "damaged.tflite"


def works_or_is_told_of(path: Path, damaged: bytes) -> None:
    """Raises anything but a CheckpointError; many changes hit weights only, and nothing can tell."""
    path.write_bytes(damaged)
    complaint = None
    try:
        load_tflite(path)
    except CheckpointError as error:
        complaint = str(error)
    assert complaint is None or path.name in complaint


MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def test_default_boxes_of_another_rule_are_read_off_the_table() -> None:
    usual = layout_tensorflow(MAPS)
    longer = [replace(one, shapes=tuple((1.3 * w, 0.8 * h) for w, h in one.shapes)) for one in usual.maps]
    table = default_boxes(BoxLayout(tuple(longer)))
    found = tflite_module._layout(table, 0.0, MAPS)
    np.testing.assert_allclose(default_boxes(found), table, atol=1e-5)
    assert tflite_module._layout(default_boxes(usual), 0.0, MAPS) == usual


def test_default_boxes_that_stand_on_no_grid_are_refused() -> None:
    table = default_boxes(layout_tensorflow(MAPS)).copy()
    table[100, 0] += 0.01
    with pytest.raises(ValueError, match="stand on no regular grid"):
        tflite_module._layout(table, 0.0, MAPS)


# The graph lies at the end of the file, behind four megabytes of weights.
STRUCTURE = 60_000


def places(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, size - 1) | st.integers(size - STRUCTURE, size - 1) | st.integers(0, 200)


@given(choose=st.data())
@settings(max_examples=100, derandomize=True)
def test_a_flipped_bit(choose: st.DataObject, data: bytes, victim: Path) -> None:
    damaged = bytearray(data)
    damaged[choose.draw(places(len(data)))] ^= 1 << choose.draw(st.integers(0, 7))
    works_or_is_told_of(victim, bytes(damaged))


@given(choose=st.data())
@settings(max_examples=100, derandomize=True)
def test_words_of_another_value(choose: st.DataObject, data: bytes, victim: Path) -> None:
    # Lengths and offsets are words of 32 bits.
    damaged = bytearray(data)
    for place in choose.draw(st.lists(places(len(data) - 4), min_size=1, max_size=4)):
        damaged[place : place + 4] = choose.draw(st.binary(min_size=4, max_size=4) | st.just(b"\xff\xff\xff\x7f"))
    works_or_is_told_of(victim, bytes(damaged))


@given(choose=st.data())
@settings(max_examples=100, derandomize=True)
def test_a_file_cut_short(choose: st.DataObject, data: bytes, victim: Path) -> None:
    victim.write_bytes(data[: choose.draw(places(len(data)))])
    with pytest.raises(CheckpointError, match=r"damaged\.tflite: is damaged"):
        load_tflite(victim)


class Graph:
    """Where in the file's bytes the numbers of its graph stand."""

    def __init__(self, data: bytes) -> None:
        import tflite

        self.data = bytearray(data)
        self.model = tflite.Model.GetRootAs(self.data, 0)
        self.graph = self.model.Subgraphs(0)

    def operator(self, custom: bool) -> Any:
        """The decoding at the end, or the convolution that predicts the first map's boxes."""
        operators = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        if custom:
            return next(o for o in operators if self.model.OperatorCodes(o.OpcodeIndex()).CustomCode())
        return next(
            o
            for o in operators
            if o.InputsLength() == 3 and b"BoxPredictor_0/BoxEncoding" in self.graph.Tensors(o.Inputs(1)).Name()
        )

    def vector(self, table: Any, field: int) -> int:
        """Where a table's vector begins."""
        return int(table._tab.Vector(table._tab.Offset(field)))

    def set(self, place: int, value: Any) -> None:
        raw = np.asarray(value).tobytes()
        self.data[place : place + len(raw)] = raw


SHAPE, OPTIONS, SCALE, QUANTIZATION = 4, 14, 8, 12  # offsets of fields in TensorFlow Lite's schema


def _huge_map(graph: Graph) -> None:
    tensor = graph.graph.Tensors(graph.operator(custom=False).Inputs(0))
    graph.set(graph.vector(tensor, SHAPE) + 8, np.int32(2**28))


def _negative_map(graph: Graph) -> None:
    tensor = graph.graph.Tensors(graph.operator(custom=False).Inputs(0))
    graph.set(graph.vector(tensor, SHAPE) + 4, np.int32(-19))


def _no_map(graph: Graph) -> None:
    tensor = graph.graph.Tensors(graph.operator(custom=False).Inputs(0))
    graph.set(graph.vector(tensor, SHAPE) + 4, np.int32(0))


def _huge_kernel(graph: Graph) -> None:
    tensor = graph.graph.Tensors(graph.operator(custom=False).Inputs(1))
    graph.set(graph.vector(tensor, SHAPE), np.int32(2**31 - 1))


def _options_of_another_kind(graph: Graph) -> None:
    options = graph.operator(custom=True)
    place, length = graph.vector(options, OPTIONS), options.CustomOptionsLength()
    graph.set(place + length - 2, np.uint8(4 << 2 | 1))  # a key whose characters are two bytes wide


def _scale(value: float) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        quantization = graph.graph.Tensors(graph.operator(custom=False).Inputs(1)).Quantization()
        graph.set(graph.vector(quantization, SCALE), np.float32(value))

    return change


@pytest.mark.parametrize("change", [_huge_map, _negative_map, _no_map, _huge_kernel])
def test_a_graph_that_claims_nonsense(change: Callable[[Graph], None], data: bytes, victim: Path) -> None:
    graph = Graph(data)
    change(graph)
    victim.write_bytes(graph.data)
    with pytest.raises(CheckpointError, match=r"damaged\.tflite: is damaged"):
        load_tflite(victim)


def test_options_of_another_kind(data: bytes, victim: Path) -> None:
    graph = Graph(data)
    _options_of_another_kind(graph)
    works_or_is_told_of(victim, bytes(graph.data))


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -1.0,
        3e38,
        np.inf,
        np.nan,
    ],
)
def test_a_scale_that_is_none(value: float, data: bytes, victim: Path) -> None:
    graph = Graph(data)
    _scale(value)(graph)
    works_or_is_told_of(victim, bytes(graph.data))
