"""MobileNet-v1 (Howard et al., arXiv 1704.04861) as TensorFlow's Object Detection API builds SSD on it.

Batch normalisation is folded into the convolutions, as it is in every frozen graph of that family. Layer names are
TensorFlow's: ``Conv2d_1_depthwise``, ``Conv2d_1_pointwise``, ...
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Output channels at width 1 and stride of Conv2d_1 to Conv2d_13.
_SEPARABLE = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
_SOURCES = (11, 13)
_EXTRA_CHANNELS = (512, 256, 256, 128)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'SAME' padding, which puts the odd cell at the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        (top, bottom), (left, right) = (
            same_padding(size, kernel, stride)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Cells that TensorFlow's 'SAME' adds before and after an axis of ``size`` cells."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class MobileNetV1(nn.Module):
    """MobileNet-v1 and the extra layers of TensorFlow's SSD: six feature maps.

    The maps are Conv2d_11 and Conv2d_13 of the backbone and four extra stages; 19, 10, 5, 3, 2 and 1 cells a side for
    a 300x300 input.

    Args:
        width: multiplier of every layer's channels; no layer has fewer than 16.

    Attributes:
        channels: channels of the six maps.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if not 0 < width <= 4:
            raise ValueError(f"a MobileNet of width {width} cannot be built; widths are 0 to 4")

        def depth(channels: float) -> int:
            return max(int(channels * width), 16)

        channels = depth(32)
        self.Conv2d_0 = SameConv2d(3, channels, 3, stride=2)
        self.channels: tuple[int, ...] = ()
        for i, (outputs, stride) in enumerate(_SEPARABLE, 1):
            self.add_module(f"Conv2d_{i}_depthwise", SameConv2d(channels, channels, 3, stride=stride, groups=channels))
            self.add_module(f"Conv2d_{i}_pointwise", nn.Conv2d(channels, depth(outputs), 1))
            channels = depth(outputs)
            if i in _SOURCES:
                self.channels += (channels,)
        for i, outputs in enumerate(_EXTRA_CHANNELS, 2):
            self.add_module(f"extra_{i}_1x1", nn.Conv2d(channels, depth(outputs / 2), 1))
            self.add_module(f"extra_{i}_3x3", SameConv2d(depth(outputs / 2), depth(outputs), 3, stride=2))
            channels = depth(outputs)
            self.channels += (channels,)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        maps = []
        x = F.relu6(self.Conv2d_0(x))
        for i in range(1, len(_SEPARABLE) + 1):
            x = F.relu6(self.get_submodule(f"Conv2d_{i}_depthwise")(x))
            x = F.relu6(self.get_submodule(f"Conv2d_{i}_pointwise")(x))
            if i in _SOURCES:
                maps.append(x)
        for i in range(2, 2 + len(_EXTRA_CHANNELS)):
            x = F.relu6(self.get_submodule(f"extra_{i}_1x1")(x))
            x = F.relu6(self.get_submodule(f"extra_{i}_3x3")(x))
            maps.append(x)
        return maps
