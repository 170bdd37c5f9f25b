"""What a step takes at the very least, against what one takes, and the line that it ends in where that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ssdcam.cli import train_setup
from ssdcam.errors import WrongUsageError
from ssdcam.memory import Memory
from ssdcam.ssd.architectures import new_spec
from ssdcam.training.memory import least_memory
from ssdcam.training.settings import Settings

# Says how much the way forward and the way back of 4 photos took at most, in bytes, with the first layers frozen.
STEP = """
import sys
import torch
from ssdcam.ssd.architectures import build_network, new_spec
from ssdcam.training.optimizer import freeze
def status(name):
    return int(open("/proc/self/status").read().split(f"{name}:")[1].split()[0]) * 1024
spec = new_spec(sys.argv[1], ("a", "b"))
network = build_network(spec).requires_grad_(True).train()
freeze(network.backbone, int(sys.argv[2]))
images = torch.zeros(4, 3, *spec.input_size)
before = status("VmRSS")
locations, scores = network(images)
(locations.sum() + scores.sum()).backward()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        pytest.param("ssd300-mobilenet-v1", 0, marks=pytest.mark.slow),
        ("ssd300-mobilenet-v1", 6),
        pytest.param("ssdlite320-mobilenet-v3-large", 0, marks=pytest.mark.slow),
    ],
)
def test_a_step_takes_more_but_not_far_more(name: str, frozen: int) -> None:
    arguments = [sys.executable, "-c", STEP, name, str(frozen)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other are slow on a busy machine
    taken = int(subprocess.run(arguments, env=alone, capture_output=True, text=True, check=True).stdout)
    least = 4 * least_memory(new_spec(name, ("a", "b")), frozen)
    assert least < taken < 3 * least


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 GB."""
    monkeypatch.setattr("ssdcam.memory.memory", lambda: Memory(6 * 10**9, 10**9, 2 * 10**9))


SPEC = new_spec("ssd300-vgg16", ("a",))
CPU = Settings(device="cpu", precision="fp32")


def test_a_batch_that_cannot_fit(machine: None) -> None:
    one = least_memory(SPEC)
    with pytest.raises(WrongUsageError, match=r"--batch 200: takes 29 GB .* of 8 GB: pass --batch 41 or less"):
        train_setup.check_memory(SPEC, replace(CPU, batch=200), 1)
    assert 41 * one <= 6 * 10**9 < 42 * one


def test_processes_of_one_machine_share_its_memory(machine: None) -> None:
    with pytest.raises(WrongUsageError, match=r"--batch 160: takes 23 GB .* of 8 GB: pass --batch 40 or less"):
        train_setup.check_memory(SPEC, replace(CPU, batch=160), 4)


def test_one_photo_that_cannot_fit(machine: None) -> None:
    large = new_spec("ssd300-vgg16", ("a",), input_size=(3072, 3072))
    with pytest.raises(WrongUsageError, match=r"--batch 1: takes .* a smaller --input-size takes less"):
        train_setup.check_memory(large, replace(CPU, batch=1), 1)


def test_what_may_fit_is_tried(
    machine: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssdcam.cli.console.log.propagate", True)
    train_setup.check_memory(SPEC, replace(CPU, batch=41), 1)
    train_setup.check_memory(SPEC, replace(CPU, batch=80, precision="bf16"), 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    train_setup.check_memory(SPEC, replace(CPU, batch=160), 4)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert not caplog.messages
    train_setup.check_memory(SPEC, replace(CPU, batch=50), 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--batch 50: takes 7 GB of memory or more, of 8 GB: pass --batch 41 or less" in caplog.messages[0]


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssdcam.memory.memory", lambda: None)
    train_setup.check_memory(SPEC, replace(CPU, batch=10**6), 1)
