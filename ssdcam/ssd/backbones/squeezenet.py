"""SqueezeNet 1.1 (Iandola et al., arXiv 1602.07360) with SSDLite's extra layers, as qfgaohao/pytorch-ssd has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdcam.ssd.backbones.blocks import conv, each_output

# Channels between and behind the convolutions of each extra stage; padding of the strided one.
_EXTRAS = ((256, 512, 2), (256, 512, 1), (128, 256, 1), (128, 256, 1), (128, 256, 1))


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side, half of the output each."""

    def __init__(self, inputs: int, narrow: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, outputs // 2, 1)
        self.expand3x3 = nn.Conv2d(narrow, outputs // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


class SqueezeNet(nn.Module):
    """SqueezeNet and five extra stages: six feature maps, 17, 10, 5, 3, 2 and 1 cells a side for a 300x300 input."""

    channels = (512, 512, 512, 256, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            *(Fire(64, 16, 128), Fire(128, 16, 128)),
            nn.MaxPool2d(3, 2),
            *(Fire(128, 32, 256), Fire(256, 32, 256)),
            nn.MaxPool2d(3, 2),
            *(Fire(256, 48, 384), Fire(384, 48, 384), Fire(384, 64, 512), Fire(512, 64, 512)),
        )
        self.extras = nn.ModuleList()
        for inputs, (narrow, outputs, padding) in zip(self.channels, _EXTRAS, strict=False):
            depthwise = conv(narrow, narrow, 3, 2, padding=padding, groups=narrow)
            strided = nn.Sequential(depthwise, conv(narrow, outputs, activation=None))
            self.extras.append(nn.Sequential(conv(inputs, narrow), strided))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        first, *others = self.extras
        second = nn.Sequential(self.features[12], first)  # the last layer of SqueezeNet is no source itself
        return each_output((self.features[:12], second, *others), x)
