"""What is the OpenVINO engine's own; the rest is in ``test_prepared_engines``."""

from __future__ import annotations

import pytest

from ssdcam.detection import openvino_engine
from ssdcam.detection.openvino_engine import OpenVinoEngine
from ssdcam.errors import UnavailableError, WrongUsageError

pytest.importorskip("openvino", reason="needs openvino: pip install 'ssdcam[openvino]'")


def test_a_precision_that_this_cpu_lacks(tiny_checkpoint, monkeypatch):
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "_core", Core)
    with pytest.raises(UnavailableError, match="this CPU computes in FP32, INT8; use fp32"):
        OpenVinoEngine(tiny_checkpoint, precision="bf16")


def test_other_devices_are_refused(tiny_checkpoint):
    with pytest.raises(WrongUsageError, match="the openvino engine runs on cpu; use --engine torch or onnxruntime"):
        OpenVinoEngine(tiny_checkpoint, device="cuda:1")
