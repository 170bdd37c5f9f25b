"""The machine that figures are of."""

from __future__ import annotations

import json
import os

import cv2
import psutil
import pytest
import torch

from ssdcam.benchmarking import machine as module
from ssdcam.benchmarking.machine import machine


def test_this_machine() -> None:
    facts = json.loads(json.dumps(machine()))
    assert facts["cpu"]
    assert facts["cores"] == os.cpu_count()
    assert 0 < facts["usable_cores"] <= facts["cores"]
    assert facts["memory_gb"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["versions"]["opencv-python"].startswith(cv2.__version__)
    assert {"os", "python", "governor", "load", "gpu", "cpu_features", "ssdcam"} <= facts.keys()


def test_without_any_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_text", lambda path: "")
    monkeypatch.setattr(module, "_output", lambda *command: "")
    facts = machine()
    assert facts["cpu"]
    assert facts["governor"] == "unknown"
    assert facts["gpu"] == []
