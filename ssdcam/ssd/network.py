"""The SSD network: a backbone and small convolutional predictors on each feature map (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SSD(nn.Module):
    """Backbone and heads.

    Args:
        backbone: a module with ``channels``.
        boxes_per_cell: default boxes in a cell of each feature map.
        num_columns: columns of the scores, the background's included.
        head_kernel: side of the predictors' kernels, 3 in the paper and 1 in TensorFlow's MobileNets.
    """

    def __init__(
        self, backbone: nn.Module, boxes_per_cell: Sequence[int], num_columns: int, head_kernel: int = 3
    ) -> None:
        super().__init__()
        channels: Sequence[int] = backbone.channels  # type: ignore[assignment]  # nn.Module hides attributes
        if len(channels) != len(boxes_per_cell):
            raise ValueError(f"{len(channels)} feature maps cannot take default boxes for {len(boxes_per_cell)}")
        self.backbone = backbone
        self.num_columns = num_columns

        def heads(values: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(c, n * values, head_kernel, padding=head_kernel // 2)
                for c, n in zip(channels, boxes_per_cell, strict=True)
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
        maps = self.backbone(images)
        return _predict(self.loc, maps, 4), _predict(self.conf, maps, self.num_columns)


def _predict(heads: nn.ModuleList, maps: list[Tensor], values: int) -> Tensor:
    # Channels last: a cell's boxes lie together, cells row by row. A view where the memory already is channels-last.
    return torch.cat(
        [head(x).permute(0, 2, 3, 1).reshape(len(x), -1, values) for head, x in zip(heads, maps, strict=True)], dim=1
    )
