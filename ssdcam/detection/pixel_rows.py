"""Normalisation where pixels lie channels-last and are to stay so, as OpenVINO's convolutions take them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdcam.detection.torch_engine import Normalise
from ssdcam.ssd.network import SSD
from ssdcam.ssd.spec import ModelSpec


class OfPixelRows(nn.Module):
    """A network with its normalisation, in the order in which pixels lie in memory.

    A row of pixels is one vector here, for means and scales a channel would be vectors of three, and the first
    convolution takes blue, green and red in the order they come. As planes, the colours would be taken apart, put in
    order, normalised and put together again, which is a twentieth of SSDLite's time in int8.

    Args:
        network: its first convolution changes with the order of colours.
        spec: the checkpoint's.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: SSD, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        normalise = Normalise(spec.normalisation)
        mean, scale = normalise.mean.flatten(), normalise.scale.flatten()
        if normalise.flip:
            mean, scale = mean.flip(0), scale.flip(0)
            first = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
            first.weight = nn.Parameter(first.weight.flip(1), requires_grad=False)
        width = spec.input_size[1]
        self.register_buffer("mean", mean.repeat(width))
        self.register_buffer("scale", scale.repeat(width))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(B, H, W, 3)``, BGR, to what the network gives."""
        rows = (pixels.flatten(2).to(torch.float32) - self.mean) * self.scale
        outputs: tuple[Tensor, Tensor] = self.network(rows.view(pixels.shape).permute(0, 3, 1, 2))
        return outputs
