"""Normalisation where pixels lie channels-last and are to stay so, as OpenVINO's convolutions take them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import Normalise, load_network


class PixelNetwork(nn.Module):
    """A network with its normalisation, which takes pixels in the order in which they lie in memory.

    A whole row of them is normalised as one vector: a pixel alone is one of three numbers, too short for a CPU's. The
    first convolution takes blue, green and red in the order in which they come. As planes, the colours would be taken
    apart, put in order, normalised and put together again: a twentieth of an embedded detector's time in int8.

    Args:
        checkpoint: the spec and weights.

    Raises:
        CheckpointError: the weights do not fit the spec.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = load_network(checkpoint)
        normalise = Normalise(checkpoint.spec.normalisation)
        mean, scale = normalise.mean.flatten(), normalise.scale.flatten()
        if normalise.flip:
            mean, scale = mean.flip(0), scale.flip(0)
            first = next(module for module in self.network.backbone.modules() if isinstance(module, nn.Conv2d))
            first.weight = nn.Parameter(first.weight.flip(1), requires_grad=False)
        width = checkpoint.spec.input_size[1]
        self.register_buffer("mean", mean.repeat(width))
        self.register_buffer("scale", scale.repeat(width))
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(B, H, W, 3)``, BGR, to locations and raw scores, as :class:`ssdcam.ssd.network.SSD` has them."""
        outputs: tuple[Tensor, Tensor] = self.network(self.normalised(pixels))
        return outputs

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the network itself takes, ``(B, 3, H, W)``, channels-last in memory."""
        rows = (pixels.flatten(2).to(torch.float32) - self.mean) * self.scale
        return rows.view(pixels.shape).permute(0, 3, 1, 2)
