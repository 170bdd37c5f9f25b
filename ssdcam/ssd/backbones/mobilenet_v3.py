"""MobileNetV3-Large (Howard et al., arXiv 1905.02244, table 1) as torchvision builds SSDLite on it (section 6.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssdcam.ssd.backbones.blocks import Activation, Residual, conv, each_output

# Kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride of the blocks before C4.
_BLOCKS: tuple[tuple[int, int, int, bool, Activation, int], ...] = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
)
_EXTRA_CHANNELS = (512, 256, 256, 128)


class SqueezeExcitation(nn.Module):
    """Channels weighted by what their means over the map say (Hu et al., arXiv 1709.01507), with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = _divisible(channels / 4)
        self.fc1 = nn.Conv2d(channels, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` in and out."""
        weights = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(weights)


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large and SSDLite's extra layers: six feature maps.

    The maps are C4's expansion (before its stride), the last convolution of the backbone, and four extra stages; 20,
    10, 5, 3, 2 and 1 cells a side for a 320x320 input.

    Args:
        tail: part of the channels that the last stage keeps: 0.5 for networks trained from scratch, as torchvision's
            for COCO was (table 6 of the paper), 1 where it began with ImageNet's weights.

    Attributes:
        channels: channels of the six maps.
    """

    def __init__(self, tail: float = 0.5) -> None:
        super().__init__()
        if tail not in (0.5, 1):
            raise ValueError(f"MobileNetV3 has a tail of 0.5 or 1, not {tail:g}")
        last, expanded = int(160 * tail), int(960 * tail)
        layers: list[nn.Module] = [conv(3, 16, 3, 2, activation=nn.Hardswish)]
        channels = 16
        for kernel, wide, outputs, excites, activation, stride in _BLOCKS:
            layers.append(_block(channels, kernel, wide, outputs, excites, activation, stride))
            channels = outputs
        c4 = _block(channels, 5, 672, last, True, nn.Hardswish, 2)
        blocks = [_block(last, 5, expanded, last, True, nn.Hardswish, 1) for _ in range(2)]
        self.features = nn.ModuleList(
            [
                nn.Sequential(*layers, c4[0]),
                nn.Sequential(c4[1:], *blocks, conv(last, 6 * last, activation=nn.Hardswish)),
            ]
        )
        self.channels = (672, 6 * last, *_EXTRA_CHANNELS)
        self.extra = nn.ModuleList(
            nn.Sequential(
                conv(inputs, outputs // 2, activation=nn.ReLU6),
                conv(outputs // 2, outputs // 2, 3, 2, groups=outputs // 2, activation=nn.ReLU6),
                conv(outputs // 2, outputs, activation=nn.ReLU6),
            )
            for inputs, outputs in zip(self.channels[1:], _EXTRA_CHANNELS, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        return each_output((*self.features, *self.extra), x)


def _block(
    inputs: int, kernel: int, wide: int, outputs: int, excites: bool, activation: Activation, stride: int
) -> nn.Sequential:
    """An inverted residual: expand (if it does), filter, excite (if it does), project."""
    layers: list[nn.Module] = [] if wide == inputs else [conv(inputs, wide, activation=activation)]
    layers.append(conv(wide, wide, kernel, stride, groups=wide, activation=activation))
    if excites:
        layers.append(SqueezeExcitation(wide))
    layers.append(conv(wide, outputs, activation=None))
    return (Residual if stride == 1 and inputs == outputs else nn.Sequential)(*layers)


def _divisible(channels: float) -> int:
    """The nearest multiple of eight that takes away no more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
