"""VGG-16 as SSD300 and SSD512 read it (paper, section 3 and figure 2; layer names of the paper's Caffe release)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Name, output channels; "pool" halves the map.
_VGG16 = (
    *(("conv1_1", 64), ("conv1_2", 64), ("pool1", 0)),
    *(("conv2_1", 128), ("conv2_2", 128), ("pool2", 0)),
    *(("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256), ("pool3", 0)),
    *(("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512), ("pool4", 0)),
    *(("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512)),
)

BASE = tuple(name for name, channels in _VGG16 if channels)
"""VGG-16's own convolutions, conv1_1 to conv5_3."""

# For each stage: channels of its 1x1 convolution; channels, kernel, stride and padding of the convolution behind it.
Stage = tuple[int, int, int, int, int]
_STRIDED: tuple[Stage, ...] = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1))
SSD300_EXTRAS = (*_STRIDED, (128, 256, 3, 1, 0), (128, 256, 3, 1, 0))
SSD512_EXTRAS = (*_STRIDED, *[_STRIDED[1]] * 2, (128, 256, 4, 1, 1))


class ChannelNorm(nn.Module):
    """L2 normalisation over the channels of each cell, then a learned scale a channel (Liu et al., ParseNet).

    conv4_3's activations are far larger than the later maps'; the paper starts the scale at 20 (section 3.1).
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` in and out."""
        norm = x.float().square().sum(dim=1, keepdim=True).sqrt() + 1e-10
        return (x.float() / norm).to(x.dtype) * self.weight[:, None, None]


class ChannelScale(nn.Module):
    """A factor and an offset a channel: what is left of a batch norm that stands before several layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` in and out."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class VGG16(nn.Module):
    """VGG-16 up to conv5_3, fc6 and fc7 as convolutions, and SSD's extra layers: six feature maps or seven.

    The maps are conv4_3 (normalised), fc7, conv6_2, conv7_2, ...; 38, 19, 10, 5, 3 and 1 cells a side for SSD300's
    input of 300x300, 64, 32, 16, 8, 4, 2 and 1 for SSD512's of 512x512.

    Args:
        batch_norm: 1 where conv4_3 has a batch norm in place of its L2 norm, as in qfgaohao/pytorch-ssd.
        stages: the extra layers.

    Attributes:
        channels: channels of the maps.
    """

    def __init__(self, batch_norm: float = 0, stages: tuple[Stage, ...] = SSD300_EXTRAS) -> None:
        super().__init__()
        if batch_norm not in (0, 1):
            raise ValueError(f"conv4_3 has a batch norm or has none, 1 or 0, not {batch_norm:g}")
        self.stages = stages
        self.channels = (512, 1024, *(stage[1] for stage in stages))
        channels = 3
        for name, outputs in _VGG16:
            if not name.startswith("pool"):
                self.add_module(name, nn.Conv2d(channels, outputs, 3, padding=1))
                channels = outputs
        self.conv4_3_norm = ChannelScale(512) if batch_norm else ChannelNorm(512)
        # A trous: pool5 no longer halves the map, so fc6 reaches six cells apart (section 3).
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        channels = 1024
        for stage, (narrow, wide, kernel, stride, padding) in enumerate(stages, 6):
            self.add_module(f"conv{stage}_1", nn.Conv2d(channels, narrow, 1))
            self.add_module(f"conv{stage}_2", nn.Conv2d(narrow, wide, kernel, stride, padding))
            channels = wide

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to ``(B, C, H', W')`` maps, finest first."""
        return self.maps(*self.base(x))

    def base(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to what VGG-16 itself has of them: conv4_3 and conv5_3, behind their ReLUs."""
        conv4_3 = x
        for name, _ in _VGG16:
            if name.startswith("pool"):
                x = F.max_pool2d(x, 2, 2, ceil_mode=name == "pool3")  # 75 cells become 38, not 37
            else:
                x = F.relu(self.get_submodule(name)(x))
            if name == "conv4_3":
                conv4_3 = x
        return conv4_3, x

    def maps(self, conv4_3: Tensor, conv5_3: Tensor) -> list[Tensor]:
        """What :meth:`base` gives to the maps."""
        maps = [self.conv4_3_norm(conv4_3)]
        x = F.max_pool2d(conv5_3, 3, 1, 1)
        x = F.relu(self.fc7(F.relu(self.fc6(x))))
        maps.append(x)
        for stage in range(6, 6 + len(self.stages)):
            x = F.relu(self.get_submodule(f"conv{stage}_1")(x))
            x = F.relu(self.get_submodule(f"conv{stage}_2")(x))
            maps.append(x)
        return maps
