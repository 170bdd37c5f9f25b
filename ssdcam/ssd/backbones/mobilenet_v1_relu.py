"""MobileNet-v1 as PyTorch's code bases build it: the same padding on all sides, and ReLU where TensorFlow has ReLU6.

Two detectors stand on it: that of qfgaohao/pytorch-ssd (and NVIDIA's jetson-inference), and Linzaer's small one for
faces.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdcam.ssd.backbones.blocks import conv, each_output, separable

# Output channels and stride of the separable convolutions.
_LAYERS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
_EXTRAS = ((256, 512), (128, 256), (128, 256), (128, 256))
_FACE_LAYERS = (
    *((32, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1)),
    *((128, 2), (128, 1), (128, 1), (256, 2), (256, 1)),
)
_FACE_WIDENED = 7  # the layer that the 'RFB' version has branches in


class MobileNetV1ReLU(nn.Module):
    """MobileNet-v1 and four extra stages: six feature maps, 19, 10, 5, 3, 2 and 1 cells a side for a 300x300 input."""

    channels = (512, 1024, 512, 256, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stack(32, _LAYERS))
        self.extras = nn.ModuleList(
            nn.Sequential(conv(inputs, narrow), conv(narrow, outputs, 3, 2))
            for inputs, (narrow, outputs) in zip(self.channels[1:], _EXTRAS, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        return each_output((self.features[:12], self.features[12:], *self.extras), x)


class UltraLight(nn.Module):
    """Linzaer's face detector: a MobileNet-v1 of few channels; four feature maps, an 8th to a 64th of the input's side.

    Args:
        branches: 1 for the 'RFB' version, one of whose layers looks at three fields of view at once; 0 for 'slim'.
    """

    channels = (64, 128, 256, 256)

    def __init__(self, branches: float = 0) -> None:
        super().__init__()
        if branches not in (0, 1):
            raise ValueError(f"UltraLight has branches or has none, 1 or 0, not {branches:g}")
        layers = _stack(16, _FACE_LAYERS)
        if branches:
            layers[_FACE_WIDENED] = Branches(64)
        self.features = nn.Sequential(*layers)
        self.extras = nn.ModuleList([nn.Sequential(conv(256, 64), separable(64, 256, 2))])

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to four ``(B, C, H', W')`` maps, finest first."""
        return each_output((self.features[:8], self.features[8:11], self.features[11:], *self.extras), x)


class Branches(nn.Module):
    """Receptive field block (Liu et al., arXiv 1711.07767): three branches of growing dilation beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        n = channels // 8
        self.branch0, self.branch1 = (
            nn.Sequential(
                conv(channels, n, activation=None),
                conv(n, 2 * n, 3),
                conv(2 * n, 2 * n, 3, dilation=dilation, activation=None),
            )
            for dilation in (2, 3)
        )
        self.branch2 = nn.Sequential(
            conv(channels, n, activation=None),
            conv(n, n // 2 * 3, 3),
            conv(n // 2 * 3, 2 * n, 3),
            conv(2 * n, 2 * n, 3, dilation=5, activation=None),
        )
        self.together = conv(6 * n, channels, activation=None)
        self.shortcut = conv(channels, channels, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` in and out."""
        branches = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x)], dim=1)
        return (self.together(branches) + self.shortcut(x)).relu()  # type: ignore[no-any-return]


def _stack(channels: int, layers: tuple[tuple[int, int], ...]) -> list[nn.Module]:
    stack: list[nn.Module] = [conv(3, channels, 3, 2)]
    for outputs, stride in layers:
        stack.append(separable(channels, outputs, stride))
        channels = outputs
    return stack
