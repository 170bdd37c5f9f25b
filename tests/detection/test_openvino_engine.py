"""What is the OpenVINO engine's own; the rest is in ``test_prepared_engines``."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ssdcam.detection import openvino_conversion, openvino_engine
from ssdcam.detection.openvino_engine import OpenVinoEngine
from ssdcam.errors import UnavailableError, WrongUsageError

from ..waiting import GUARD

pytest.importorskip("openvino", reason="needs openvino: pip install 'ssdcam[openvino]'")


def test_a_precision_that_this_cpu_lacks(tiny_checkpoint, monkeypatch):
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "openvino_core", Core)
    with pytest.raises(UnavailableError, match="this CPU computes in fp32, int8; use fp32"):
        OpenVinoEngine(tiny_checkpoint, precision="bf16")


def test_other_devices_are_refused(tiny_checkpoint):
    with pytest.raises(WrongUsageError, match="the openvino engine runs on cpu; use --engine torch or onnxruntime"):
        OpenVinoEngine(tiny_checkpoint, device="cuda:1")


@pytest.mark.parametrize(
    ("size", "pool", "rounding"),
    [
        (75, {"kernel_size": 2}, "ceil"),  # the paper's pool3
        (38, {"kernel_size": 2}, "ceil"),
        (12, {"kernel_size": 3, "stride": 2, "padding": 1}, "ceil"),
        (4, {"kernel_size": 1, "stride": 2}, "ceil_torch"),  # a window that begins behind the picture
    ],
)
def test_pooling_is_rounded_as_int8_has_it(size: int, pool: dict, rounding: str):
    network = torch.nn.MaxPool2d(**pool, ceil_mode=True)
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, size, size)).astype(np.float32))
    model = openvino_conversion.from_torch(network, pixels, shape=[-1, 2, size, size])
    (node,) = (node for node in model.get_ops() if node.get_type_name() == "MaxPool")
    assert node.get_attributes()["rounding_type"] == rounding
    (found,) = openvino_engine.openvino_core().compile_model(model, "CPU")(pixels.numpy()).values()
    np.testing.assert_array_equal(found, network(pixels).numpy())


STOPPED = """
import os, signal, sys
import ssdcam
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
calls = []
asked = TorchScriptPythonDecoder.get_op_type
def stop(self):
    calls.append(self)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGINT)
    return asked(self)
TorchScriptPythonDecoder.get_op_type = stop
try:
    engine = ssdcam.load(sys.argv[1], device="cpu").engine.name
except KeyboardInterrupt:
    engine = "none"
print(engine, len(calls) >= 5)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_a_stop_while_a_network_is_taken_over_is_no_error_of_openvinos(tiny_model, tmp_path):
    """It was taken for one, and another engine ran."""
    environment = {**os.environ, "SSDCAM_HOME": str(tmp_path)}
    command = [sys.executable, "-c", STOPPED, str(tiny_model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "none True\n"), done.stderr


def test_what_the_first_start_compiles_is_what_later_ones_find(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    kept = []
    for _ in range(2):
        OpenVinoEngine(tiny_checkpoint)
        kept.append(sorted(path.name for path in (tmp_path / "openvino").iterdir()))
    assert kept[1] == kept[0]
    assert sum(name.endswith(".blob") for name in kept[0]) == 1


def test_weights_that_are_damaged_are_not_compiled(tiny_checkpoint, tmp_path, monkeypatch):
    """OpenVINO takes any numbers for weights. What it has compiled has a checksum of its own."""
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (1, *tiny_checkpoint.spec.input_size, 3), np.uint8)
    expected = OpenVinoEngine(tiny_checkpoint, precision="fp32").infer(pixels)
    (weights,), (compiled,) = ([*(tmp_path / "openvino").glob(pattern)] for pattern in ("*.bin", "*.blob"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 64
    for damaged in (None, b"", b"nothing that was compiled"):  # None: what was compiled is whole, and taken
        weights.write_bytes(data)
        if damaged is not None:
            compiled.unlink()
            compiled.write_bytes(damaged)
        for ours, theirs in zip(OpenVinoEngine(tiny_checkpoint, precision="fp32").infer(pixels), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert (weights.read_bytes() == data) is (damaged is None)

    # What is compiled in another precision, or by another version, says nothing of them.
    weights.write_bytes(data)
    compiled.rename(compiled.with_name(f"{weights.stem}.0123456789abcdef.blob"))
    for ours, theirs in zip(OpenVinoEngine(tiny_checkpoint, precision="fp32").infer(pixels), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert weights.read_bytes() != data


DROPPED_IN_ORDER = """
import gc, os, signal, sys
import numpy as np
import ssdcam
heard = []
signal.signal(signal.SIGTERM, lambda *what: heard.append(what))
detectors = [ssdcam.load(sys.argv[1], engine="openvino", device="cpu") for _ in range(2)]
while detectors:
    detectors[0].detect(np.zeros((80, 60, 3), np.uint8))
    del detectors[0]
    gc.collect()
    os.kill(os.getpid(), signal.SIGTERM)
print(len(heard))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_signals_are_heard_when_detectors_are_gone(tiny_model):
    command = [sys.executable, "-c", DROPPED_IN_ORDER, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


FORKED = """
import os, sys
import numpy as np
import ssdcam
image = np.zeros((80, 60, 3), np.uint8)
detector = ssdcam.load(sys.argv[1], engine="openvino", device="cpu")
detector.detect(image)
if sys.argv[2] == "load":
    del detector
running = [detector.submit(np.zeros((4, *detector.spec.input_size, 3), np.uint8))] if sys.argv[2] == "drop" else []
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
running.clear()
try:
    if sys.argv[2] == "load":
        ssdcam.load(sys.argv[1], engine="openvino", device="cpu")
    detector.detect(image)
except ssdcam.SsdcamError as error:
    print(error, flush=True)
sys.exit()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("use", ["load", "detect", "drop"])
def test_a_forked_process_is_told_that_it_cannot(tiny_model, use: str):
    command = [sys.executable, "-c", FORKED, str(tiny_model), use]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the openvino engine does not run in a process that was forked from one that has")
