"""Pixels normalised as they lie in memory are normalised as everywhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssdcam.benchmarking.random_weights import random_checkpoint
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.pixel_network import PixelNetwork
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.ssd.architectures import ARCHITECTURES, new_spec
from ssdcam.ssd.spec import ColourOrder, Normalisation


class _Seen(Exception):  # noqa: N818  # what is wanted, no error
    """What the first convolution that runs gives: further on, random weights forget the picture."""


def seen_by(network: nn.Module, pixels: Tensor) -> Tensor:
    def stop(module: nn.Module, given: Any, output: Tensor) -> None:
        raise _Seen(output)

    hooks = [module.register_forward_hook(stop) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.inference_mode(), pytest.raises(_Seen) as seen:
        network(pixels)
    for hook in hooks:
        hook.remove()
    output: Tensor = seen.value.args[0]
    return output


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_sees_the_same(name: str, colour: str) -> None:
    normalisation = Normalisation(cast(ColourOrder, colour), mean=(103.5, 116.3, 123.7), std=(57.0, 58.4, 70.2))
    spec = replace(new_spec(name, ("a", "b")), normalisation=normalisation)
    checkpoint = Checkpoint(spec, random_checkpoint(spec).weights)
    before = {name: array.copy() for name, array in checkpoint.weights.items()}
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, *spec.input_size, 3), np.uint8))
    theirs = seen_by(nn.Sequential(Normalise(normalisation), load_network(checkpoint)), pixels)
    assert theirs.std() > 0.1
    torch.testing.assert_close(seen_by(PixelNetwork(checkpoint), pixels), theirs, rtol=0, atol=1e-5)
    for name, array in checkpoint.weights.items():
        np.testing.assert_array_equal(array, before[name])
