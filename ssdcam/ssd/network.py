"""The SSD network: a backbone and small convolutional predictors on each feature map (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

Head = Callable[[int, int], nn.Module]
"""Makes a predictor from its numbers of input and output channels."""


class SeparableConv2d(nn.Conv2d):
    """A 3x3 convolution a channel, an activation, and a 1x1 convolution: SSDLite's predictors (arXiv 1801.04381, 6.2).

    The 1x1 convolution has the names of a plain predictor; ``depthwise`` is what stands before it.
    """

    def __init__(self, channels: int, outputs: int, activation: Callable[[], nn.Module] = nn.ReLU6) -> None:
        super().__init__(channels, outputs, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to ``(B, outputs, H, W)``."""
        return super().forward(self.activation(self.depthwise(x)))


PLAIN_3X3: Head = partial(nn.Conv2d, kernel_size=3, padding=1)
PLAIN_1X1: Head = partial(nn.Conv2d, kernel_size=1)


class SSD(nn.Module):
    """Backbone and heads.

    Args:
        backbone: a module with ``channels``.
        boxes_per_cell: default boxes in a cell of each feature map.
        num_columns: columns of the scores, the background's included.
        head: makes the predictors: 3x3 convolutions in the paper, 1x1 in TensorFlow's MobileNets.
        last_head: makes those of the last feature map; as the others if not given.
    """

    def __init__(
        self,
        backbone: nn.Module,
        boxes_per_cell: Sequence[int],
        num_columns: int,
        head: Head = PLAIN_3X3,
        last_head: Head | None = None,
    ) -> None:
        super().__init__()
        channels: Sequence[int] = backbone.channels  # type: ignore[assignment]  # nn.Module hides attributes
        if len(channels) != len(boxes_per_cell):
            raise ValueError(f"{len(channels)} feature maps cannot take default boxes for {len(boxes_per_cell)}")
        self.backbone = backbone
        self.num_columns = num_columns

        makers = [head] * (len(channels) - 1) + [last_head or head]

        def heads(values: int) -> nn.ModuleList:
            return nn.ModuleList(
                make(c, n * values) for make, c, n in zip(makers, channels, boxes_per_cell, strict=True)
            )

        self.loc = heads(4)
        self.conf = heads(num_columns)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            images: float ``(B, 3, H, W)``, normalised.

        Returns:
            Locations ``(B, N, 4)``, ``dx, dy, dw, dh`` of each default box, and its raw scores ``(B, N, columns)``, in
            the order of :func:`ssdcam.ssd.default_boxes.default_boxes`.
        """
        return self.predict(self.backbone(images))

    def predict(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` gives, from the backbone's maps."""
        return _predict(self.loc, maps, 4), _predict(self.conf, maps, self.num_columns)


def _predict(heads: nn.ModuleList, maps: list[Tensor], values: int) -> Tensor:
    # Channels last: a cell's boxes lie together, cells row by row. A view where the memory already is channels-last.
    cells = [head(x).permute(0, 2, 3, 1) for head, x in zip(heads, maps, strict=True)]
    return torch.cat([predicted.reshape(predicted.shape[0], -1, values) for predicted in cells], dim=1)
