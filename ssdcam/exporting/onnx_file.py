"""ONNX, written by torch's exporter and run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssdcam import __version__
from ssdcam.detection.int8 import quantise
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.onnxruntime_engine import quiet_exporter
from ssdcam.errors import UnavailableError
from ssdcam.exporting.formats import Format, Quantised, Run, as_half, to_planes
from ssdcam.exporting.network import DecodedAndRaw, DecodedSSD
from ssdcam.exporting.onnx_nms import nms_graph
from ssdcam.ssd.spec import ModelSpec, Selection

_OUTPUTS, _RAW = ["boxes", "scores"], ["locations", "raw_scores"]


def _require() -> None:
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            import_quietly(name)
    except ImportError as error:
        raise UnavailableError(
            f"exporting to ONNX needs onnx, onnxscript and onnxruntime: pip install 'ssdcam[onnx]' ({error})"
        ) from error


def _build(network: DecodedSSD, opset: int | None, half: bool) -> Any:
    model = _export(network, network.spec, opset, _OUTPUTS)
    if half:
        _store_as_half(model)
    return model


def _quantise(network: DecodedSSD, opset: int | None, pictures: NDArray[np.uint8]) -> Quantised:
    from onnx import compose
    from onnx.utils import Extractor

    whole = Extractor(_export(DecodedAndRaw(network), network.spec, opset, [*_OUTPUTS, *_RAW]))
    raw = quantise(whole.extract_model(["images"], _RAW), pictures, to_planes)
    decode = whole.extract_model(_RAW, _OUTPUTS)
    del decode.graph.value_info[:]  # it names inputs, too, and they would get the prefix with it
    behind = compose.add_prefix(decode, "decode_", rename_inputs=False, rename_outputs=False)
    model = compose.merge_models(raw, behind, io_map=[(name, name) for name in _RAW])
    del model.opset_import[1:]
    return Quantised(model, _run(raw.SerializeToString()))


def _export(module: torch.nn.Module, spec: ModelSpec, opset: int | None, outputs: list[str]) -> Any:
    height, width = spec.input_size
    with quiet_exporter(), torch.inference_mode():
        # Two pictures, because the exporter takes a batch of one for a rule.
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 3, height, width),),
            dynamo=True,
            input_names=["images"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
            verbose=False,
        )
    model: Any = program.model_proto  # type: ignore[union-attr]  # None only for the older exporter
    for node in model.graph.node:  # names of our modules and lines of our code, which mean nothing to others
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def _with_nms(model: Any, spec: ModelSpec, selection: Selection) -> Any:
    import onnx
    from onnx import compose

    [opset] = [one.version for one in model.opset_import if one.domain == ""]
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    compose.add_prefix(
        renamed, "all_", rename_nodes=False, rename_edges=False, rename_inputs=False, rename_initializers=False,
        rename_value_infos=False, inplace=True,
    )  # fmt: skip
    behind = compose.add_prefix(
        nms_graph(spec, selection, opset, model.ir_version), "nms_", rename_inputs=False, rename_outputs=False
    )
    joined = compose.merge_models(renamed, behind, io_map=[("all_boxes", "all_boxes"), ("all_scores", "all_scores")])
    del joined.opset_import[1:]  # both models' own, which is the same
    return joined


def _save(model: Any, path: Path, facts: Mapping[str, str]) -> None:
    import onnx

    written = onnx.ModelProto()
    written.CopyFrom(model)
    written.producer_name, written.producer_version = "ssdcam", __version__
    onnx.helper.set_model_props(written, dict(facts))
    onnx.checker.check_model(written, full_check=True)
    path.write_bytes(written.SerializeToString())


def _store_as_half(model: Any) -> None:
    """Weights become 16-bit floats, which the runtime widens when it loads the file; default boxes would lose by it."""
    from onnx import TensorProto, helper, numpy_helper

    widened = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        if (narrow := as_half(numpy_helper.to_array(tensor))) is not None:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(narrow, f"{name}_half"))
            widened.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _run(model: Path | bytes) -> Run:
    onnxruntime = import_quietly("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {"images": images}))


FORMAT = Format(
    require=_require,
    build=_build,
    with_nms=_with_nms,
    save=_save,
    load=_run,
    quantise=_quantise,
    opsets=range(18, 24),
)
