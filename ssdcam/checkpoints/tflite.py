"""SSD on MobileNet-v1 from a TensorFlow Lite file of the TensorFlow Object Detection API.

The graph is not run: its weights are read, dequantised and put under our names. Needs the ``tflite`` package, which
holds the file format's schema.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.labels import COCO_WITH_GAPS
from ssdcam.errors import CheckpointError, UnavailableError
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes, default_boxes, layout_tensorflow
from ssdcam.ssd.spec import BoxCoding, ModelSpec, NmsFigures, Normalisation

FILE_IDENTIFIER = b"TFL3"  # at byte 4 of every TensorFlow Lite file

# What the reader of a damaged flatbuffer can raise: it follows whatever offsets the file holds.
_DAMAGE = (struct.error, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

# The codes of TensorType that weights come in.
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 9: np.int8}

# TensorFlow's layer names and ours.
_LAYERS = (
    (r"/BoxPredictor_(\d)/BoxEncodingPredictor/", r"loc.\1"),
    (r"/BoxPredictor_(\d)/ClassPredictor/", r"conf.\1"),
    (r"_Conv2d_(\d)_(1x1|3x3)_", r"backbone.extra_\1_\2"),
    (r"/(Conv2d_0|Conv2d_\d+_(?:depthwise|pointwise))/", r"backbone.\1"),
)


def load_tflite(path: Path) -> Checkpoint:
    """Read an SSD MobileNet-v1 of the TensorFlow Object Detection API, of any width and number of classes.

    Raises:
        CheckpointError: the file is damaged or holds another network.
        UnavailableError: the ``tflite`` package is not installed.
    """
    try:
        schema = import_module("tflite")
        flexbuffers = import_module("flatbuffers.flexbuffers")
    except ImportError as error:
        raise UnavailableError(
            f"{path}: reading TensorFlow Lite files needs the tflite package: pip install 'ssdcam[tflite]'"
        ) from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        graph = _Graph(schema.Model.GetRootAs(data, 0), schema.BuiltinOperator)
        figures = flexbuffers.Loads(graph.postprocess.CustomOptionsAsNumpy().tobytes())
        return _convert(graph, figures, path)
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: is damaged, or no SSD of the TensorFlow Object Detection API") from error


class _Graph:
    """The parts of a TensorFlow Lite model that matter here: convolutions, and the final decoding."""

    def __init__(self, model: Any, operators: Any) -> None:
        self._model = model
        self._graph = model.Subgraphs(0)
        self.convolutions = []
        self.postprocess: Any = None
        for i in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(i)
            code = model.OperatorCodes(operator.OpcodeIndex())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            if builtin in (operators.CONV_2D, operators.DEPTHWISE_CONV_2D):
                self.convolutions.append((operator, builtin == operators.DEPTHWISE_CONV_2D))
            elif code.CustomCode() == b"TFLite_Detection_PostProcess":
                self.postprocess = operator

    def name(self, index: int) -> str:
        return str(self._graph.Tensors(index).Name().decode())

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(self._graph.Tensors(index).ShapeAsNumpy().tolist())

    def array(self, index: int) -> tuple[NDArray[np.float32], float]:
        """A constant tensor, dequantised, and the largest error that quantisation can have made."""
        tensor = self._graph.Tensors(index)
        stored = np.frombuffer(self._model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), _DTYPES[tensor.Type()])
        values = stored.reshape(self.shape(index)).astype(np.float32)
        quantization = tensor.Quantization()
        if quantization is None or quantization.ScaleLength() == 0:
            return values, 0.0
        scale, offset = quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy()
        axes = [1] * values.ndim
        axes[quantization.QuantizedDimension()] = -1  # one scale, or one a channel
        offset, scale = (part.reshape(axes).astype(np.float32) for part in (offset, scale))
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused when the network is loaded
            return (values - offset) * scale, float(scale.max()) / 2


def _convert(graph: _Graph, figures: Mapping[str, Any], path: Path) -> Checkpoint:
    weights = {}
    map_sizes: dict[int, tuple[int, int]] = {}
    for operator, depthwise in graph.convolutions:
        inputs = operator.InputsAsNumpy().tolist()
        layer = _layer(graph.name(inputs[1]))
        kernel = graph.array(inputs[1])[0]
        # TensorFlow keeps (out, height, width, in), and (1, height, width, out) of depthwise kernels.
        kernel = kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)
        bias = graph.array(inputs[2])[0]
        if layer.startswith("loc."):
            map_sizes[int(layer[4:])] = graph.shape(inputs[0])[1:3]  # type: ignore[assignment]  # two of four axes
            kernel, bias = _xywh(kernel), _xywh(bias)
        weights[f"{layer}.weight"], weights[f"{layer}.bias"] = kernel, bias
    # A table of scores is (default boxes x columns) wide, one of locations (default boxes x 4); column 0 is background.
    num_labels = 4 * len(weights["conf.0.bias"]) // len(weights["loc.0.bias"]) - 1
    labels = COCO_WITH_GAPS if num_labels == len(COCO_WITH_GAPS) else [f"class {i}" for i in range(num_labels)]
    stored, tolerance = graph.array(graph.postprocess.InputsAsNumpy()[2])
    scales = [float(figures[f"{axis}_scale"]) for axis in "xywh"]
    spec = ModelSpec(
        architecture="ssd300-mobilenet-v1",
        options={"width": weights["backbone.Conv2d_13_pointwise.weight"].shape[0] / 1024},
        labels=tuple(labels),
        input_size=graph.shape(graph.convolutions[0][0].InputsAsNumpy()[0])[1:3],  # type: ignore[arg-type]
        normalisation=Normalisation("rgb", mean=(127.5,) * 3, std=(127.5,) * 3),
        boxes=_layout(_xywh(stored.T).T, tolerance, [size for _, size in sorted(map_sizes.items())]),
        coding=BoxCoding((1 / scales[0], 1 / scales[1], 1 / scales[2], 1 / scales[3])),
        score_function="sigmoid",
        # The file's own limit of boxes suits a phone's screen; the family was trained and evaluated with 100.
        nms=NmsFigures(iou=round(float(figures["nms_iou_threshold"]), 6), before=100, after=100),
        provenance={"source": f"converted from {path.name}", "family": "TensorFlow Object Detection API"},
    )
    return Checkpoint(spec, weights)


def _layer(tensor_name: str) -> str:
    for pattern, ours in _LAYERS:
        if match := re.search(pattern, f"/{tensor_name}"):
            return match.expand(ours)
    raise ValueError(f"{tensor_name} is no layer of an SSD MobileNet-v1")


def _xywh(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """From TensorFlow's y, x, h, w to our x, y, w, h along the first axis."""
    quadruples = array.reshape(-1, 4, *array.shape[1:])
    return quadruples[:, [1, 0, 3, 2]].reshape(array.shape)


def _layout(stored: NDArray[np.float32], tolerance: float, map_sizes: list[tuple[int, int]]) -> BoxLayout:
    """The layout behind a table of centre-form boxes that quantisation may have rounded by ``tolerance``.

    TensorFlow's default rule is taken wherever the table agrees with it, because it is what the network was trained
    with; else the shapes are read off the table.
    """
    layout = layout_tensorflow(map_sizes)
    if not _agree(layout, stored, tolerance):
        first = 0
        maps = []
        for (rows, columns), map_boxes in zip(map_sizes, layout.maps, strict=True):
            last = first + map_boxes.num_boxes
            cells = stored[first:last].reshape(rows * columns, -1, 4)
            shapes = tuple((float(w), float(h)) for w, h in cells[:, :, 2:].mean(axis=0))
            maps.append(FeatureMapBoxes(rows, columns, shapes, (1 / columns, 1 / rows)))
            first = last
        layout = BoxLayout(tuple(maps))
        if not _agree(layout, stored, tolerance):
            raise ValueError("its default boxes stand on no regular grid")
    return layout


def _agree(layout: BoxLayout, stored: NDArray[np.float32], tolerance: float) -> bool:
    boxes = default_boxes(layout)
    return boxes.shape == stored.shape and bool(np.allclose(boxes, stored, rtol=0, atol=tolerance + 1e-5))
