"""OpenVINO IR: a description (``.xml``) and its weights (``.bin``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssdcam.detection.int8 import quantise
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.openvino_conversion import from_torch
from ssdcam.detection.openvino_core import openvino_core
from ssdcam.errors import UnavailableError
from ssdcam.exporting.formats import Format, Quantised, Run, as_half, to_planes
from ssdcam.exporting.network import DecodedAndRaw, DecodedSSD
from ssdcam.exporting.onnx_nms import nms_graph
from ssdcam.ssd.spec import ModelSpec, Selection

_OPSET, _IR_VERSION = 18, 10  # of the NMS graph, which OpenVINO takes over from ONNX


def _require() -> None:
    try:
        import_quietly("openvino")
    except ImportError as error:
        raise UnavailableError(
            f"exporting to OpenVINO needs the openvino package: pip install 'ssdcam[openvino]' ({error})"
        ) from error


def _build(network: DecodedSSD, opset: int | None, half: bool) -> Any:
    model = _convert(network, network.spec)
    _name(model.outputs, "boxes", "scores")
    if half:
        _store_as_half(model)
    return model


def _quantise(network: DecodedSSD, opset: int | None, pictures: NDArray[np.uint8]) -> Quantised:
    openvino = import_quietly("openvino")
    whole = _convert(DecodedAndRaw(network), network.spec)
    decoded, in_float = whole.get_results()[:2], whole.get_results()[2:]
    raw = quantise(openvino.Model(in_float, whole.get_parameters()).clone(), pictures, to_planes)
    run = _run(raw.clone())
    for old, new in zip(in_float, raw.get_results(), strict=True):
        old.input_value(0).replace(new.input_value(0))
    model = openvino.Model(decoded, raw.get_parameters(), "ssdcam")
    _name(model.outputs, "boxes", "scores")
    return Quantised(model, run)


def _convert(module: torch.nn.Module, spec: ModelSpec) -> Any:
    height, width = spec.input_size
    model = from_torch(module, torch.zeros(2, 3, height, width), shape=[-1, 3, height, width])
    _name(model.inputs, "images")
    return model


def _with_nms(model: Any, spec: ModelSpec, selection: Selection) -> Any:
    try:
        graph = nms_graph(spec, selection, _OPSET, _IR_VERSION, suppresses_equal=True)
    except ImportError as error:
        raise UnavailableError(
            f"NMS inside an OpenVINO file needs the onnx package: pip install 'ssdcam[onnx]' ({error})"
        ) from error
    openvino = import_quietly("openvino")
    before = model.clone()
    behind = openvino_core().read_model(graph.SerializeToString(), b"")
    _keep_order(behind)
    for parameter, result in zip(behind.get_parameters(), before.get_results(), strict=True):
        parameter.output(0).replace(result.input_value(0))
    joined = openvino.Model(behind.get_results(), before.get_parameters(), "ssdcam")
    _name(joined.outputs, "boxes", "scores", "class_ids", "counts")
    return joined


def _keep_order(model: Any) -> None:
    """Of equal scores the first is taken first: ONNX promises it, and OpenVINO forgets it on the way."""
    opset13 = import_quietly("openvino.opset13")
    for node in model.get_ops():
        if node.get_type_name() == "TopK":
            wanted = {name: value for name, value in node.get_attributes().items() if name != "stable"}
            again = opset13.topk(node.input_value(0), node.input_value(1), **wanted, stable=True)
            for old, new in zip(node.outputs(), again.outputs(), strict=True):
                old.replace(new)


def _name(ports: Any, *names: str) -> None:
    for port, name in zip(ports, names, strict=True):
        port.get_tensor().set_names({name})


def _save(model: Any, path: Path, facts: Mapping[str, str]) -> None:
    openvino = import_quietly("openvino")
    written = model.clone()
    for name, value in facts.items():
        written.set_rt_info(value, ["ssdcam", name])
    openvino.save_model(written, path, compress_to_fp16=False)


def _store_as_half(model: Any) -> None:
    """Weights become 16-bit floats, which OpenVINO widens when it loads the file; default boxes would lose by it."""
    openvino, opset13 = import_quietly("openvino"), import_quietly("openvino.opset13")
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        if (narrow := as_half(node.data)) is not None:
            widened = opset13.convert(opset13.constant(narrow), openvino.Type.f32)
            node.output(0).replace(widened.output(0))


def _run(model: Any) -> Run:
    # Otherwise a CPU that has 16-bit arithmetic uses it.
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: tuple(compiled([images])[port] for port in compiled.outputs)


FORMAT = Format(
    require=_require,
    build=_build,
    with_nms=_with_nms,
    save=_save,
    load=_run,
    quantise=_quantise,
)
