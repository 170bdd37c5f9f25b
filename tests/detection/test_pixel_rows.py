"""Pixels normalised row by row are normalised as everywhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from ssdcam.benchmarking.random_weights import random_checkpoint
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.pixel_rows import OfPixelRows
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.ssd.architectures import ARCHITECTURES, new_spec
from ssdcam.ssd.spec import ColourOrder, Normalisation


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "ssd512-vgg16" else []) for name in ARCHITECTURES]
)
def test_every_architecture_sees_the_same(name: str, colour: str) -> None:
    made = random_checkpoint(new_spec(name, ("a", "b")))
    normalisation = Normalisation(cast(ColourOrder, colour), mean=(103.5, 116.3, 123.7), std=(57.0, 58.4, 60.2))
    checkpoint = Checkpoint(replace(made.spec, normalisation=normalisation), made.weights)
    before = {name: array.copy() for name, array in checkpoint.weights.items()}
    planes = nn.Sequential(Normalise(normalisation), load_network(checkpoint))
    rows = OfPixelRows(load_network(checkpoint), checkpoint.spec)
    size = checkpoint.spec.input_size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8))
    with torch.inference_mode():
        for ours, theirs in zip(rows(pixels), planes(pixels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for name, array in checkpoint.weights.items():
        np.testing.assert_array_equal(array, before[name])
