"""What many tests need: the real media and weights beside the checkout, and a tiny detector of our own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

# Several processes share the cores: OpenMP's threads shall sleep while they wait, not spin. Torch reads it when loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

import ssdcam
from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.ssd.architectures import build_network, new_spec

# The time that examples take says nothing on a machine that others use too.
settings.register_profile("ssdcam", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutation", settings.get_profile("ssdcam"), derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ssdcam")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What engines prepare is kept for this run of the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSDCAM_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def levels_of_logs() -> None:
    """Command lines that a test runs in its own process set them; the next test shall not inherit that."""
    logging.getLogger("ssdcam").setLevel(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)


TINY_LABELS = ("ant", "bee", "cat")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media and weights; a clone elsewhere has none."""
    path = Path(__file__).parents[1].parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs real media and weights, and {path} is missing")
    return path


@pytest.fixture(scope="session")
def coco_tflite(shared: Path) -> Path:
    """SSD300 MobileNet-v1 at width 0.75, uint8, 90 COCO classes."""
    pytest.importorskip("tflite", reason="reading TensorFlow Lite files needs the tflite package")
    return shared / "weights/coco_ssd_mobilenet_v1/detect.tflite"


@pytest.fixture(scope="session")
def cats_photo(shared: Path) -> Path:
    """1200x600 pixels with three dogs and two cats, more or less."""
    return shared / "weights/coco_ssd_mobilenet_v1/cats_and_dogs.jpg"


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """An untrained MobileNet of a tenth of the width: 300 KB, a few milliseconds a picture, sees things everywhere.

    As torch initialises them, the layers would let nothing of the picture through to the last one; three times as
    strong, they make boxes and scores (0 to 0.99) that depend on it.
    """
    spec = new_spec("ssd300-mobilenet-v1", TINY_LABELS, options={"width": 0.1})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(spec)
        for parameter in network.backbone.parameters():
            if parameter.ndim == 4:
                parameter.mul_(3)
    return Checkpoint(spec, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: None) -> Path:
    """The tiny detector as a file, which the engine that is ``auto`` here has prepared: nothing is said of that."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint, path)
    ssdcam.load(path, device="cpu")
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test."""
    return np.random.default_rng(0)
