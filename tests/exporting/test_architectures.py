"""Every architecture in every format, with and without NMS: for any number of classes, and for other input sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.detector import choose, prepare
from ssdcam.detection.torch_engine import Normalise
from ssdcam.errors import ExportError
from ssdcam.exporting.export import export_checkpoint
from ssdcam.ssd.architectures import ARCHITECTURES, build_network, new_spec

from .. import pictures
from .runtimes import SUFFIXES

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "onnx"), "torchscript": ()}

# Architecture, labels, side of the input where it is not its own, options of the backbone.
Case = tuple[str, int, int | None, dict[str, float]]
QUICK: dict[str, Case] = {
    "mobilenet-v1": ("ssd300-mobilenet-v1", 90, None, {"width": 0.25}),
    "mobilenet-v1 at 512": ("ssd300-mobilenet-v1", 1, 512, {"width": 0.25}),
    "mobilenet-v1-relu": ("ssd300-mobilenet-v1-relu", 1, None, {}),
    "mobilenet-v2": ("ssdlite300-mobilenet-v2", 20, None, {"width": 0.5}),
    "mobilenet-v3": ("ssdlite320-mobilenet-v3-large", 3, None, {}),
    "squeezenet": ("ssdlite300-squeezenet", 7, None, {}),
    "faces": ("ultralight-faces", 1, None, {"branches": 1}),
}
HEAVY: dict[str, Case] = {
    "vgg16": ("ssd300-vgg16", 20, None, {}),
    "vgg16 for 80": ("ssd300-vgg16", 80, None, {}),
    "vgg16 at 512": ("ssd512-vgg16", 2, None, {}),
    "resnet50": ("ssd300-resnet50", 80, None, {}),
    "mobilenet-v2 at 512": ("ssdlite300-mobilenet-v2", 80, 512, {}),
    "mobilenet-v3 at 512": ("ssdlite320-mobilenet-v3-large", 90, 512, {}),
    "faces, plain": ("ultralight-faces", 2, None, {}),
}


def lively(case: Case) -> Checkpoint:
    """A checkpoint with random weights of such a size that what every layer gives depends on the picture.

    As torch draws them, pictures are lost on the way through the layers, and a file of another network would do.
    """
    name, labels, side, options = case
    spec = new_spec(
        name, [f"label {n}" for n in range(labels)], input_size=(side, side) if side else None, options=options
    )

    def as_wide_as_noise(layer: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        scale = output.std(dim=(0, 2, 3)).mean().clamp(min=1e-3)
        for parameter in layer.parameters(recurse=False):
            parameter.div_(scale)
        return output / scale

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(spec).eval()
        convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        hooks = [layer.register_forward_hook(as_wide_as_noise) for layer in convolutions]
        pixels = prepare([pictures.noise(300, 300, seed) for seed in range(4)], spec.input_size)
        network(Normalise(spec.normalisation)(torch.from_numpy(pixels)))
        for hook in hooks:
            hook.remove()
    return Checkpoint(spec, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def test_no_architecture_is_left_out() -> None:
    assert {case[0] for case in (*QUICK.values(), *HEAVY.values())} == set(ARCHITECTURES)


def export(case, format_name, folder, **options):
    for package in NEEDS[format_name]:
        pytest.importorskip(package, reason="needs a runtime: pip install 'ssdcam[onnx,openvino]'")
    checkpoint = lively(case)
    path = folder / f"a{SUFFIXES[format_name]}"
    exported = export_checkpoint(
        checkpoint, path, format_name, nms=choose(checkpoint.spec, score=0.5, max_det=50), **options
    )
    print(exported)
    return exported


# One architecture in all formats, and the one that differs most from it once more; the rest is slow.
ALWAYS = {*(("mobilenet-v1", name) for name in SUFFIXES), ("faces", "onnx")}


@pytest.mark.parametrize(
    ("case", "format_name"),
    [
        pytest.param(case, name, marks=() if (case, name) in ALWAYS else pytest.mark.slow)
        for case in (*QUICK, *HEAVY)
        for name in SUFFIXES
    ],
)
def test_does_what_torch_does(case, format_name, tmp_path):
    """The export compares boxes and probabilities without NMS, and detections with it, or refuses to write the file."""
    exported = export({**QUICK, **HEAVY}[case], format_name, tmp_path)
    assert exported.difference < 1e-3
    assert exported.detections > 50
    assert exported.unpaired <= 0.02 * exported.detections


INTEGERS = [(case, name) for case in (*QUICK, *HEAVY) for name in ("onnx", "openvino")]

# Random weights lose more than trained ones, and these so much, on some CPUs, that an export is refused.
MAY_LOSE_TOO_MUCH = "mobilenet-v2 at 512"


@pytest.mark.slow
@pytest.mark.parametrize(("case", "format_name"), INTEGERS)
def test_in_8_bit_integers(case, format_name, tmp_path):
    pytest.importorskip("nncf", reason="needs NNCF: pip install 'ssdcam[int8]'")
    photos = [pictures.noise(300, 300, seed) for seed in range(4)]
    try:
        exported = export({**QUICK, **HEAVY}[case], format_name, tmp_path, precision="int8", calibrate=photos)
    except ExportError:
        if case != MAY_LOSE_TOO_MUCH:
            raise
        assert not list(tmp_path.iterdir())
        return
    assert exported.difference < 1e-3
    assert exported.agreement.overlap > 0.85


def test_random_weights_that_see_the_picture():
    """What the comparisons above stand on."""
    checkpoint = lively(QUICK["mobilenet-v2"])
    network = build_network(checkpoint.spec).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    pixels = np.stack([pictures.noise(300, 300, seed) for seed in (5, 6)])
    with torch.inference_mode():
        locations, raw_scores = network(Normalise(checkpoint.spec.normalisation)(torch.from_numpy(pixels)))
    for output in (locations, raw_scores):
        assert (output[0] - output[1]).abs().mean() > 0.1
