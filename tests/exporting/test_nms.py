"""NMS inside of exported files, on boxes and scores of any kind, against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdcam.detection.openvino_core import openvino_core
from ssdcam.exporting import openvino_file, torchscript_file
from ssdcam.exporting.onnx_nms import nms_graph
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes
from ssdcam.ssd.spec import NmsFigures, Selection

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'ssdcam[onnx]'")

BOXES, LABELS = 120, 3
OPSETS = (18, 20, 23)


class Given(torch.nn.Module):
    """Stands for a network: the pictures are its output."""

    def forward(self, images):
        return images[..., :4], images[..., 4:]


def in_onnxruntime(spec, selection, opset=20):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'ssdcam[onnx]'")
    model = nms_graph(spec, selection, opset, 10)
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda boxes, scores: session.run(None, {"all_boxes": boxes, "all_scores": scores})


def in_openvino(spec, selection):
    openvino = pytest.importorskip("openvino", reason="needs openvino: pip install 'ssdcam[openvino]'")
    parameters = [openvino.opset13.parameter([-1, BOXES, values], openvino.Type.f32) for values in (4, LABELS)]
    given = openvino.Model([openvino.opset13.result(parameter) for parameter in parameters], parameters)
    model = openvino_file.FORMAT.with_nms(given, spec, selection)
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda boxes, scores: [compiled([boxes, scores])[port] for port in compiled.outputs]


def in_torchscript(spec, selection):
    model = torchscript_file.FORMAT.with_nms(torch.jit.script(Given()), spec, selection)
    return lambda boxes, scores: [
        output.numpy() for output in model(torch.from_numpy(np.concatenate([boxes, scores], axis=2)))
    ]


RUNTIMES = [in_onnxruntime, in_openvino, in_torchscript]


@pytest.fixture(scope="module")
def spec(tiny_checkpoint):
    """Of a network with few boxes."""
    maps = (FeatureMapBoxes(6, 5, ((0.1, 0.1),) * 4, (0.1, 0.1)),)
    return replace(tiny_checkpoint.spec, boxes=BoxLayout(maps))


def crowd(batch, seed=0):
    """Boxes that overlap a lot, some of no area, and scores of which many are equal."""
    rng = np.random.default_rng(seed)
    low = rng.random((batch, BOXES, 2)) * 0.7
    sides = rng.choice([0, 0.1, 0.3], (batch, BOXES, 2)) * rng.uniform(0.8, 1.0, (batch, BOXES, 2))
    boxes = np.concatenate([low, low + sides], axis=2)
    scores = rng.integers(0, 11, (batch, BOXES, LABELS)) / 10
    return boxes.astype(np.float32), scores.astype(np.float32)


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if min(sides) <= 0:
        return 0.0
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return float(sides[0] * sides[1]) / (sum(areas) - float(sides[0] * sides[1]))


def expected(boxes, scores, selection):
    """One picture, the slow way: boxes, scores and class ids of what is left, in order."""
    nms = selection.nms
    entries = [
        (float(scores[place, label]), place, label)
        for place in range(BOXES)
        for label in range(LABELS)
        if scores[place, label] >= np.float32(selection.score)
    ]
    groups = [entries] if nms.class_agnostic else [[e for e in entries if e[2] == label] for label in range(LABELS)]
    left = []
    for group in groups:
        kept = []
        for entry in sorted(group, key=lambda e: -e[0])[: nms.before]:
            if all(overlap(boxes[entry[1]], boxes[other[1]]) <= nms.iou for other in kept):
                kept.append(entry)
        left += kept
    left = sorted(left, key=lambda e: -e[0])[: nms.after]
    return boxes[[e[1] for e in left]], np.array([e[0] for e in left]), np.array([e[2] for e in left])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.3, NmsFigures(0.45, 400, 200)),
        Selection(0.7, NmsFigures(0.2, 400, 200)),  # of what scores exactly the threshold, all is kept
        Selection(0.0, NmsFigures(0.45, 400, 1000)),
        Selection(0.3, NmsFigures(0.45, 10, 200)),  # few enter
        Selection(0.3, NmsFigures(0.45, 400, 7)),  # few are left
        Selection(0.3, NmsFigures(0.45, 400, 200, class_agnostic=True)),
        Selection(0.3, NmsFigures(0.45, 50, 20, class_agnostic=True)),
        Selection(0.3, NmsFigures(1.0, 400, 200)),
        Selection(0.3, NmsFigures(0.0, 400, 200)),
    ],
)
def test_what_is_left(runtime, selection, spec):
    run = runtime(spec, selection)
    for batch in (1, 3):
        boxes, scores = crowd(batch)
        outputs = run(boxes, scores)
        room = outputs[0].shape[1]
        assert [output.shape for output in outputs] == [(batch, room, 4), (batch, room), (batch, room), (batch,)]
        assert room == min(selection.nms.after, LABELS * min(BOXES, selection.nms.before))
        for place in range(batch):
            wanted = expected(boxes[place], scores[place], selection)
            count = outputs[3][place]
            assert count == len(wanted[1]) > 0
            for output, values in zip(outputs[:3], wanted, strict=True):
                np.testing.assert_allclose(output[place, :count], values, rtol=0, atol=1e-7)
            assert not outputs[0][place, count:].any()
            assert not outputs[1][place, count:].any()
            assert (outputs[2][place, count:] == -1).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("iou", "left"), [(0.0, 2), (0.25, 2), (0.5, 3), (1.0, 3)])
def test_an_overlap_of_exactly_the_threshold(runtime, iou, left, spec):
    """A half, which floating-point numbers hold: above the threshold suppresses, equal does not."""
    boxes, scores = np.zeros((1, BOXES, 4), np.float32), np.zeros((1, BOXES, LABELS), np.float32)
    boxes[0, :3] = [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25], [0.5, 0.5, 1, 1]]
    scores[0, :3, 1] = [0.9, 0.8, 0.7]
    assert runtime(spec, Selection(0.5, NmsFigures(iou)))(boxes, scores)[3] == [left]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_is_left(runtime, spec):
    boxes, scores = crowd(3)
    scores[0] = scores[2] = 0
    outputs = runtime(spec, Selection(0.5, NmsFigures()))(boxes, scores)
    assert outputs[3].tolist()[::2] == [0, 0]
    assert outputs[3][1] == len(expected(boxes[1], scores[1], Selection(0.5, NmsFigures()))[1])
    boxes_of_none = runtime(spec, Selection(0.5, NmsFigures()))(boxes, np.zeros_like(scores))
    assert not boxes_of_none[3].any()
    assert (boxes_of_none[2] == -1).all()


@pytest.mark.parametrize("opset", OPSETS)
def test_of_any_opset(opset, spec):
    selection = Selection(0.3, NmsFigures())
    boxes, scores = crowd(2)
    found, usual = (in_onnxruntime(spec, selection, n)(boxes, scores) for n in (opset, 20))
    for ours, theirs in zip(found, usual, strict=True):
        np.testing.assert_array_equal(ours, theirs)
