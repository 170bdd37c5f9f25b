"""ResNet-50 (He et al., arXiv 1512.03385) up to conv4_x, with extra layers, as NVIDIA's SSD300 has it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssdcam.ssd.backbones.blocks import conv, each_output

# Blocks, channels and stride of conv2_x to conv4_x. NVIDIA's conv4_x keeps the map's size; the stride of a stage is in
# its first 3x3 convolution (ResNet 'v1.5').
_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 1))
_EXTRAS = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))


class Bottleneck(nn.Module):
    """Three convolutions, to few channels and back, added to their input."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1)
        changes = stride != 1 or inputs != 4 * channels
        self.downsample = nn.Conv2d(inputs, 4 * channels, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, 4 * channels, H / stride, W / stride)``."""
        y = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        return (y + self.downsample(x)).relu()  # type: ignore[no-any-return]


class ResNet50(nn.Module):
    """ResNet-50 and five extra stages: six feature maps, 38, 19, 10, 5, 3 and 1 cells a side for a 300x300 input."""

    channels = (1024, 512, 512, 256, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.stages = nn.Sequential()
        inputs = 64
        for blocks, channels, stride in _STAGES:
            stage = nn.Sequential()
            for number in range(blocks):
                stage.append(Bottleneck(inputs, channels, 1 if number else stride))
                inputs = 4 * channels
            self.stages.append(stage)
        self.extras = nn.ModuleList(
            nn.Sequential(conv(inputs, narrow), conv(narrow, outputs, 3, stride, padding=padding))
            for inputs, (narrow, outputs, stride, padding) in zip(self.channels, _EXTRAS, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        x = F.max_pool2d(self.conv1(x).relu(), 3, 2, 1)
        return each_output((self.stages, *self.extras), x)
