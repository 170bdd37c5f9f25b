"""A TensorFlow Lite graph run operation by operation in float, as the file lays it out; independent of our reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

RELU6 = 3
DTYPES = {0: np.float32, 2: np.int32, 3: np.uint8}


def other_weights(source: Path, target: Path, seed: int) -> Path:
    """A copy of a quantised file in which the values of every kernel have changed places."""
    data = bytearray(source.read_bytes())
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    rng = np.random.default_rng(seed)
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        if _kind(model, operator) in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
            kernel = model.Buffers(graph.Tensors(operator.Inputs(1)).Buffer()).DataAsNumpy()  # a view of the data
            kernel[:] = rng.permutation(kernel)
    target.write_bytes(data)
    return target


def evaluate(path: Path, images: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What goes into the file's own decoding: box encodings, and scores before the sigmoid.

    Args:
        path: a file whose last operations are LOGISTIC and TFLite_Detection_PostProcess.
        images: float32 ``(1, H, W, 3)``, RGB, -1 to 1.
    """
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    values = {graph.Inputs(0): torch.from_numpy(images)}

    def tensor(index: int) -> torch.Tensor:
        if index not in values:
            values[index] = torch.from_numpy(_constant(model, graph.Tensors(index)))
        return values[index]

    before_sigmoid = None
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind, given = _kind(model, operator), operator.InputsAsNumpy().tolist()
        if kind == tflite.BuiltinOperator.CONV_2D:
            options = _options(tflite.Conv2DOptions(), operator)
            output = _convolve(tensor(given[0]), tensor(given[1]).permute(0, 3, 1, 2), tensor(given[2]), options, 1)
            output = _activate(output, options, graph.Tensors(operator.Outputs(0)))
        elif kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D:
            options = _options(tflite.DepthwiseConv2DOptions(), operator)
            kernel = tensor(given[1]).permute(3, 0, 1, 2)
            output = _convolve(tensor(given[0]), kernel, tensor(given[2]), options, len(kernel))
            output = _activate(output, options, graph.Tensors(operator.Outputs(0)))
        elif kind == tflite.BuiltinOperator.RESHAPE:
            output = tensor(given[0]).reshape(graph.Tensors(operator.Outputs(0)).ShapeAsNumpy().tolist())
        elif kind == tflite.BuiltinOperator.CONCATENATION:
            axis = _options(tflite.ConcatenationOptions(), operator).Axis()
            output = torch.cat([tensor(index) for index in given], dim=axis)
        elif kind == tflite.BuiltinOperator.LOGISTIC:
            before_sigmoid = tensor(given[0])
            output = before_sigmoid.sigmoid()
        else:
            assert kind == tflite.BuiltinOperator.CUSTOM
            return tensor(given[0]).numpy(), before_sigmoid.numpy()
        values[operator.Outputs(0)] = output
    raise AssertionError("the file does not end in its own decoding")


def _kind(model: Any, operator: Any) -> int:
    code = model.OperatorCodes(operator.OpcodeIndex())
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def _options(options: Any, operator: Any) -> Any:
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _constant(model: Any, tensor: Any) -> NDArray[np.float32]:
    """Real value = scale * (stored - zero point), by TensorFlow Lite's quantisation specification."""
    stored = model.Buffers(tensor.Buffer()).DataAsNumpy().view(DTYPES[tensor.Type()])
    quantisation = tensor.Quantization()
    real = quantisation.Scale(0) * (stored.astype(np.float64) - quantisation.ZeroPoint(0))
    return real.reshape(tensor.ShapeAsNumpy()).astype(np.float32)


def _convolve(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, options: Any, groups: int) -> torch.Tensor:
    """NHWC; what SAME padding lacks of an even share goes to the right and below."""
    x = x.permute(0, 3, 1, 2)
    strides = (options.StrideH(), options.StrideW())
    if options.Padding() == tflite.Padding.SAME:
        missing = [
            max((-(-side // stride) - 1) * stride + width - side, 0)
            for side, stride, width in zip(x.shape[2:], strides, kernel.shape[2:], strict=True)
        ]
        x = F.pad(x, (missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2))
    return F.conv2d(x, kernel, bias, strides, groups=groups).permute(0, 2, 3, 1)


def _activate(output: torch.Tensor, options: Any, tensor: Any) -> torch.Tensor:
    """A quantised graph may name ReLU6, or say with the range of what it can store that there is one: 0 to 6."""
    quantisation = tensor.Quantization()
    to_six = quantisation.ZeroPoint(0) == 0 and abs(255 * quantisation.Scale(0) - 6) < 0.01
    assert options.FusedActivationFunction() in (0, RELU6)
    return output.clamp(0, 6) if to_six or options.FusedActivationFunction() == RELU6 else output
