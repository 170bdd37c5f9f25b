"""Exported files run as their users run them, without ssdcam."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.detection.openvino_core import openvino_core
from ssdcam.detections import Detections
from ssdcam.ssd.spec import ModelSpec

Outputs = dict[str, NDArray[Any]]
Run = Callable[[NDArray[np.float32]], Outputs]

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt"}

# Whoever imports ssdcam there fails.
_TORCHSCRIPT = """
import sys
sys.modules["ssdcam"] = None
import numpy, torch
model = torch.jit.load(sys.argv[1])
with torch.inference_mode():
    outputs = model(torch.from_numpy(numpy.load(sys.argv[2])))
numpy.savez(sys.argv[3], *(output.numpy() for output in outputs))
"""


def to_input(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """A BGR picture as an exported file takes it: ``(3, height, width)``, RGB, 0 to 255."""
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[..., ::-1].transpose(2, 0, 1), np.float32)


def detections(outputs: Outputs, place: int, spec: ModelSpec, width: int, height: int) -> Detections:
    """A row of the outputs of a file with NMS as detections in a picture."""
    count = outputs["counts"][place]
    boxes = outputs["boxes"][place, :count] * np.array([width, height] * 2, np.float32)
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= 0.02).all(axis=1)  # the detector leaves slivers out
    scores, class_ids = outputs["scores"][place, :count], outputs["class_ids"][place, :count]
    return Detections.named(boxes[wide], scores[wide], class_ids[wide], spec.labels)


def open_file(path: Path) -> Run:
    """What runs a file, by its suffix."""
    return {".onnx": _onnx, ".xml": _openvino, ".pt": _torchscript}[path.suffix](path)


def _names(outputs: Any) -> list[str]:
    return ["boxes", "scores", "class_ids", "counts"][: len(outputs)]


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert [given.name for given in session.get_inputs()] == ["images"]
    return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))


def _openvino(path: Path) -> Run:
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.any_name for output in compiled.outputs]

    def run(images: NDArray[np.float32]) -> Outputs:
        results = compiled({"images": images})
        return {name: results[name] for name in names}

    return run


def _torchscript(path: Path) -> Run:
    def run(images: NDArray[np.float32]) -> Outputs:
        given, result = path.with_suffix(".images.npy"), path.with_suffix(".outputs.npz")
        np.save(given, images)
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([sys.executable, "-c", _TORCHSCRIPT, path, given, result], env=env, check=True)
        with np.load(result) as arrays:
            outputs = [arrays[name] for name in arrays.files]
        return dict(zip(_names(outputs), outputs, strict=True))

    return run


def read_facts(path: Path) -> dict[str, str]:
    """What a file says about itself, read with its own runtime."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return dict(session.get_modelmeta().custom_metadata_map)
    if path.suffix == ".xml":
        facts = openvino_core().read_model(path).get_rt_info("ssdcam")
        return {name: value.astype(str) for name, value in facts.astype(dict).items()}
    import torch

    extra = {"ssdcam.json": ""}
    torch.jit.load(path, _extra_files=extra)
    facts: dict[str, str] = json.loads(extra["ssdcam.json"])
    return facts
