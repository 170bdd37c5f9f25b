"""What is the ONNX Runtime engine's own; the rest is in ``test_prepared_engines``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ssdcam.detection import onnxruntime_engine
from ssdcam.detection.onnxruntime_engine import OnnxRuntimeEngine, providers, to_onnx
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import UnavailableError, WrongUsageError

from .. import pictures

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'ssdcam[onnxruntime]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'ssdcam[onnxruntime]'")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("device", "available", "tensorrt", "expected"),
    [
        ("cpu", [TENSORRT, CUDA, CPU], True, [CPU]),
        ("cuda:0", [CUDA, CPU], True, [CUDA, CPU]),
        # Its wheels have TensorRT built in, whose own libraries are another package.
        ("cuda:1", [TENSORRT, CUDA, CPU], False, [CUDA, CPU]),
        ("cuda:1", [TENSORRT, CUDA, CPU], True, [TENSORRT, CUDA, CPU]),
    ],
)
def test_which_providers(device, available, tensorrt, expected, monkeypatch):
    monkeypatch.setattr(onnxruntime_engine, "find_spec", lambda name: object() if tensorrt else None)
    chosen = providers(device, available, "/kept")
    assert [name for name, _ in chosen] == expected
    number = int(device[-1]) if device != "cpu" else None
    assert [settings.get("device_id") for _, settings in chosen] == [*[number] * (len(chosen) - 1), None]
    if tensorrt and expected[0] == TENSORRT:
        assert chosen[0][1]["trt_engine_cache_path"] == "/kept"


def test_no_cuda_in_this_onnxruntime(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(UnavailableError, match="pip install onnxruntime-gpu"):
        OnnxRuntimeEngine(tiny_checkpoint, "cuda")


def test_fp16_is_not_for_cpus(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    for device in ("auto", "cpu"):
        with pytest.raises(WrongUsageError, match="none of auto, fp32, int8, which the onnxruntime engine has on cpu"):
            OnnxRuntimeEngine(tiny_checkpoint, device, "fp16")


def test_the_network_in_fp16(tiny_checkpoint):
    # It is for CUDA, but the CPU can compute it, too.
    batch = np.stack([pictures.noise(300, 300, seed) for seed in range(2)])
    session = onnxruntime.InferenceSession(to_onnx(tiny_checkpoint, half=True).SerializeToString(), providers=[CPU])
    found = session.run(None, {"images": batch})
    for a, b in zip(found, TorchEngine(tiny_checkpoint, "cpu", "fp32").infer(batch), strict=True):
        assert a.dtype == np.float32
        assert 1e-5 < np.abs(a - b.numpy()).max() < 0.05


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_on_cuda(tiny_checkpoint, precision):
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("needs a CUDA device and onnxruntime-gpu")
    batch = np.stack([pictures.noise(300, 300, seed) for seed in range(3)])
    engine = OnnxRuntimeEngine(tiny_checkpoint, "cuda", precision)
    assert (engine.device, engine.precision) == ("cuda:0", precision)
    for a, b in zip(engine.infer(batch), TorchEngine(tiny_checkpoint, "cpu", "fp32").infer(batch), strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=0.05 if precision == "fp16" else 0.01)


def test_without_the_exporter(tiny_model):
    code = (
        "import sys, ssdcam; sys.modules['onnxscript'] = None\n"
        "try: ssdcam.load(sys.argv[1], engine='onnxruntime', device='cpu')\n"
        "except ssdcam.SsdcamError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "UnavailableError networks are exported to ONNX by onnxscript: pip install 'ssdcam[onnx"
    )


def test_exporting_says_nothing(tiny_checkpoint, capfd):
    to_onnx(tiny_checkpoint)
    assert capfd.readouterr() == ("", "")
