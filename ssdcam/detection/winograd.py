"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering F(4x4, 3x3), for networks like VGG-16.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308: a window of 6x6 cells gives a tile
of 4x4 outputs. Windows and kernels are taken for polynomials, evaluated at six points each way and multiplied there,
and the tile is what interpolates the products. For each of the 36 points that is one matrix product over all windows
and channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ssdcam.detection.large_convolutions import is_large

_TILE = 4
_WINDOW = _TILE + 2

# And infinity. Of the usual ones, 1, -1, 2 and -2, an error in bf16 would come out twice as large.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)

# Cells. Below, reading four times the weights takes longer than what is saved.
_LARGE_MAP = 18 * 18


def fits(convolution: nn.Conv2d) -> bool:
    """Whether :class:`WinogradConv2d` computes a convolution, and sooner on a large map."""
    return (
        type(convolution) is nn.Conv2d
        and is_large(convolution.weight.shape)
        and convolution.stride == convolution.dilation == convolution.padding == (1, 1)
        and convolution.groups == 1
        and convolution.bias is not None
    )


class WinogradConv2d(nn.Module):
    """A convolution and the ReLU behind it by fewer products.

    Values differ from the convolution's as its own do from exact ones: by 1e-6 of their size in fp32, by 1e-2 in bf16,
    where a convolution's differ by 2e-3.

    Args:
        convolution: one that :func:`fits`; the result is of its dtype.
        direct: computes the same, ReLU included, for maps so small that it is faster.
    """

    bias: Tensor
    kernels: Tensor
    to_points: Tensor
    to_tiles: Tensor

    def __init__(self, convolution: nn.Conv2d, direct: nn.Module) -> None:
        super().__init__()
        self._direct, self._outputs = direct, convolution.out_channels
        dtype = convolution.weight.dtype
        to_points, of_kernels, to_tiles = (torch.from_numpy(np.kron(each, each)).float() for each in transforms())
        weight = convolution.weight.detach().float().permute(2, 3, 1, 0)
        at_points = of_kernels @ weight.reshape(9, -1)
        self.register_buffer("kernels", at_points.to(dtype).view(-1, *weight.shape[2:]))
        self.register_buffer("to_points", to_points.to(dtype))
        self.register_buffer("to_tiles", to_tiles.to(dtype))
        self.register_buffer("bias", convolution.get_parameter("bias").detach())

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, O, H, W)``, channels-last in memory; B is 1 where it is traced."""
        height, width = int(x.shape[2]), int(x.shape[3])  # constants of what is traced
        if height * width < _LARGE_MAP:
            direct: Tensor = self._direct(x)
            return direct
        # A public function, which torch's types do not export.
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        compute = self._traced if traced else self._computed
        tiles = compute(x.permute(0, 2, 3, 1), -(-height // _TILE), -(-width // _TILE))
        return tiles[:, :height, :width].permute(0, 3, 1, 2)

    def _computed(self, cells: Tensor, down: int, across: int) -> Tensor:
        """``(B, H, W, C)`` to ``(B, 4 down, 4 across, O)``."""
        padded = _padded(cells, _TILE * down + 2, _TILE * across + 2)
        windows = padded.unfold(1, _WINDOW, _TILE).unfold(2, _WINDOW, _TILE).permute(0, 4, 5, 1, 2, 3)
        result = cells.new_empty(len(cells), down, _TILE, across, _TILE, self._outputs)
        # One picture after another: together they would not stay in a cache.
        for each, place in zip(windows, result.permute(0, 2, 4, 1, 3, 5), strict=True):
            torch.add(self._tiles(each, self.to_points, self.to_tiles), self.bias, out=place).relu_()
        return result.view(len(cells), _TILE * down, _TILE * across, self._outputs)

    def _traced(self, cells: Tensor, down: int, across: int) -> Tensor:
        """The same for one picture, in OpenVINO, which has no views of memory: windows are made of blocks of cells."""
        padded = _padded(cells, _TILE * (down + 1), _TILE * (across + 1))[0]
        windows = _overlapping(_overlapping(padded, 0, down), 2, across).permute(1, 3, 0, 2, 4)
        # By a constant it would multiply in fp32, also where the network is in bf16. The first cell is padding, zero.
        one = windows.flatten()[:1] * 0 + 1
        tiles = F.relu(self._tiles(windows, self.to_points * one, self.to_tiles * one) + self.bias)
        return tiles.permute(2, 0, 3, 1, 4).reshape(1, _TILE * down, _TILE * across, self._outputs)

    def _tiles(self, windows: Tensor, to_points: Tensor, to_tiles: Tensor) -> Tensor:
        """``(6, 6, down, across, C)`` to ``(4, 4, down, across, O)``, without the bias."""
        down, across, channels = windows.shape[2:]
        points = _WINDOW * _WINDOW
        at_points = torch.matmul(to_points, windows.reshape(points, -1)).reshape(points, -1, channels)
        products = torch.matmul(at_points, self.kernels).reshape(points, -1)
        return torch.matmul(to_tiles, products).reshape(_TILE, _TILE, down, across, self._outputs)


def _padded(cells: Tensor, height: int, width: int) -> Tensor:
    """``(B, H, W, C)`` with a row and a column of zeros before it, and behind it up to a height and a width."""
    return F.pad(cells, (0, 0, 1, width - 1 - cells.shape[2], 1, height - 1 - cells.shape[1]))


def _overlapping(cells: Tensor, dim: int, count: int) -> Tensor:
    """Size ``4 (count + 1)`` of a dimension to ``(count, 6)``: blocks of four, and the first two of the next."""
    blocks = cells.reshape(*cells.shape[:dim], count + 1, _TILE, *cells.shape[dim + 1 :])
    following = blocks.narrow(dim, 1, count).narrow(dim + 1, 0, 2)
    return torch.cat([blocks.narrow(dim, 0, count), following], dim + 1)


def transforms() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The matrices of one dimension: of windows ``(6, 6)``, of kernels ``(6, 3)`` and of tiles ``(4, 6)``.

    For a window w and a kernel k, ``tiles @ ((windows @ w) * (kernels @ k))`` are the four sums of ``w[i + j] * k[j]``.
    Cook's and Toom's product of polynomials, transposed, at the points and at infinity (section 4.1 of the paper).
    """
    points = np.array(_POINTS)
    others = [np.delete(points, place) for place in range(len(points))]
    windows = np.zeros((_WINDOW, _WINDOW))
    for row, roots in zip(windows, others, strict=False):
        row[:-1] = np.poly(roots)[::-1]
    windows[-1] = np.poly(points)[::-1]
    scales = [np.prod(point - roots) for point, roots in zip(points, others, strict=True)]
    kernels = np.vander(points, 3, increasing=True) / np.array(scales)[:, None]
    tiles = np.vander(points, _TILE, increasing=True).T
    at_infinity = np.eye(_TILE)[:, -1:]
    return windows, np.vstack([kernels, np.eye(3)[-1]]), np.hstack([tiles, at_infinity])
