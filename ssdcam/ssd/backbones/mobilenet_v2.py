"""MobileNet-v2 (Sandler et al., arXiv 1801.04381, table 2) with qfgaohao/pytorch-ssd's extra layers."""

from __future__ import annotations

from torch import Tensor, nn

from ssdcam.ssd.backbones.blocks import Residual, conv, each_output, separable

# Expansion, output channels, blocks and stride of each stage.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_LAST_CHANNELS = 1280
# Channels between and behind the convolutions of each extra block.
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 64))
_SOURCE = 14  # the block whose expansion, before its stride, is the first map


class MobileNetV2(nn.Module):
    """MobileNet-v2 and four inverted residuals: six feature maps, 19, 10, 5, 3, 2 and 1 cells a side for 300x300.

    Args:
        width: multiplier of the backbone's channels.

    Attributes:
        channels: channels of the six maps.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if not 0.05 <= width <= 4:
            raise ValueError(f"a MobileNet of width {width} cannot be built; widths are 0.05 to 4")
        channels = int(32 * width)
        layers: list[nn.Module] = [conv(3, channels, 3, 2, activation=nn.ReLU6)]
        for expansion, outputs, blocks, stride in _STAGES:
            for number in range(blocks):
                wide, outputs_here = channels * expansion, int(outputs * width)
                if len(layers) == _SOURCE:
                    self.channels: tuple[int, ...] = (wide,)
                layers.append(_block(channels, wide, outputs_here, 1 if number else stride))
                channels = outputs_here
        last = int(_LAST_CHANNELS * max(width, 1))
        layers.append(conv(channels, last, activation=nn.ReLU6))
        self.features = nn.ModuleList(layers)
        self.channels += (last, *(outputs for _, outputs in _EXTRAS))
        self.extras = nn.ModuleList(
            _block(inputs, wide, outputs, 2)
            for inputs, (wide, outputs) in zip(self.channels[1:], _EXTRAS, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images to six ``(B, C, H', W')`` maps, finest first."""
        for layer in self.features[:_SOURCE]:
            x = layer(x)
        block = self.features[_SOURCE]
        assert isinstance(block, nn.Sequential)
        finest = block[0](x)
        rest = nn.Sequential(*list(block)[1:], *self.features[_SOURCE + 1 :])
        return [finest, *each_output((rest, *self.extras), finest)]


def _block(inputs: int, wide: int, outputs: int, stride: int) -> nn.Sequential:
    """An inverted residual: expand (if it does), filter, project."""
    expand = [] if wide == inputs else [conv(inputs, wide, activation=nn.ReLU6)]
    rest = separable(wide, outputs, stride, activation=nn.ReLU6, last=None)
    return (Residual if stride == 1 and inputs == outputs else nn.Sequential)(*expand, *rest)
