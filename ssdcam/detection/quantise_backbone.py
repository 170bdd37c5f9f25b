"""The weights of ``int8_backbone``, with ranges chosen on pictures, and the network behind it; by torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ssdcam.detection.int8_backbone import BLOCK, LINE, Layer, Weights
from ssdcam.detection.pixel_network import PixelNetwork
from ssdcam.ssd.backbones.vgg import BASE, VGG16

# The transform of kernels of one dimension in F(2, 3) (arXiv 1509.09308, equation 7).
_OF_KERNELS = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

_KEPT = ("conv4_3", "conv5_3")
_LARGEST = 127  # of a signed byte; what is unsigned in products has an offset of one more
_LEVELS = 255  # of a map, whose cells are not below zero
_ONE = 2**15  # the unit of factors

# Of 64 channels, the order in which the source packs two vectors of words into one of bytes.
_PACKED = np.arange(64).reshape(2, 4, 8).transpose(1, 0, 2).ravel()

Arrays = dict[str, NDArray[Any]]


class NetworkBehind(nn.Module):
    """An SSD on VGG-16 without the convolutions of :class:`ssdcam.detection.int8_backbone.Int8Backbone`.

    Args:
        network: the whole one.
        weights: those convolutions'.
    """

    def __init__(self, network: PixelNetwork, weights: Weights) -> None:
        super().__init__()
        self._network, self._steps = network.network, weights.steps
        self.eval()

    def forward(self, conv4_3: Tensor, conv5_3: Tensor) -> tuple[Tensor, Tensor]:
        """Levels, uint8 ``(1, H, W, C)``, to locations and raw scores."""
        levels = [each.to(torch.float32).permute(0, 3, 1, 2) for each in (conv4_3, conv5_3)]
        maps = [each * step for each, step in zip(levels, self._steps, strict=True)]
        outputs: tuple[Tensor, Tensor] = self._network.predict(_backbone(self._network).maps(*maps))
        return outputs


@dataclass
class _Seen:
    """What one convolution was seen to take and give.

    Attributes:
        shape: channels, height and width of its input.
        channels: of its output.
        outputs: the largest value of each picture's output.
        at_points: ``(16, channels)``, the largest size of its input's windows at the points, over all pictures.
    """

    shape: tuple[int, int, int]
    channels: int
    outputs: list[float]
    at_points: Tensor


def quantised_backbone(network: PixelNetwork, pictures: NDArray[np.uint8]) -> Weights:
    """The convolutions in 8-bit integers.

    Args:
        network: an SSD on VGG-16.
        pictures: to choose the ranges on, ``(N, H, W, 3)``, BGR, of its input size; N at least 1.
    """
    backbone = _backbone(network.network)
    convolutions = [backbone.get_submodule(name) for name in BASE]
    seen = _watched(network, convolutions, pictures)
    steps = [float(np.mean(each.outputs)) / _LEVELS or 1.0 for each in seen]
    mean, scale = network.mean[:3], network.scale[:3]
    arrays = [_first(convolutions[0], mean, scale, steps[0])]
    for convolution, each, (before, behind) in zip(convolutions[1:], seen[1:], pairwise(steps), strict=True):
        arrays.append(_others(convolution, each.at_points, before, behind))
    return Weights(
        layers=tuple(map(_layer, BASE, seen, [*seen[1:], seen[-1]])),
        arrays=tuple(arrays),
        padding=mean.round().clip(0, 255).to(torch.uint8).numpy(),
        steps=tuple(step for name, step in zip(BASE, steps, strict=True) if name in _KEPT),
    )


def _backbone(network: Any) -> VGG16:
    backbone: VGG16 = network.backbone
    return backbone


def _layer(name: str, seen: _Seen, behind: _Seen) -> Layer:
    channels, height, width = seen.shape
    after = behind.shape[1:]
    pooled = after if after != (height, width) else (0, 0)
    return Layer(height, width, channels, seen.channels, *pooled, kept=int(name in _KEPT))


def _watched(network: PixelNetwork, convolutions: list[nn.Module], pictures: NDArray[np.uint8]) -> list[_Seen]:
    seen: dict[nn.Module, _Seen] = {}

    def watch(convolution: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        given = inputs[0][0]
        at_points = _at_points(given) if len(given) > 3 else torch.empty(0)
        channels, height, width = given.shape
        each = seen.setdefault(convolution, _Seen((channels, height, width), output.shape[1], [], at_points))
        each.outputs.append(max(float(output.max()), 0.0))
        each.at_points = torch.maximum(each.at_points, at_points)

    handles = [convolution.register_forward_hook(watch) for convolution in convolutions]
    try:
        with torch.inference_mode():
            for picture in pictures:
                _backbone(network.network).base(network.normalised(torch.from_numpy(picture[None])))
    finally:
        for handle in handles:
            handle.remove()
    return [seen[convolution] for convolution in convolutions]


def _at_points(given: Tensor) -> Tensor:
    """The largest size of a map ``(C, H, W)`` at each of the points of its windows, ``(16, C)``."""
    height, width = given.shape[1:]
    padded = F.pad(given, (1, 1 + width % 2, 1, 1 + height % 2))
    found = [points.abs().amax((1, 2)) for lines in _along(padded, 1) for points in _along(lines, 2)]
    return torch.stack(found)


def _along(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """The transform of windows along one dimension."""
    a, b, c, d = x.unfold(dim, 4, 2).unbind(-1)
    return a - c, b + c, c - b, b - d


def _first(convolution: nn.Module, mean: Tensor, scale: Tensor, step: float) -> Arrays:
    """Of pixels as they come: the normalisation goes into the weights."""
    weight, bias = _figures(convolution)
    weight = weight * scale[:, None, None]
    bias = bias - (weight.sum((2, 3)) * mean).sum(1)
    lines = F.pad(weight.permute(2, 3, 1, 0).flatten(1, 2), (0, 0, 0, LINE - 9))  # (3, LINE, O)
    return _arrays(lines.reshape(1, 3 * LINE, -1), bias, 1.0, step, offset=0)


def _others(convolution: nn.Module, at_points: Tensor, before: float, behind: float) -> Arrays:
    weight, bias = _figures(convolution)
    kernels = torch.einsum("ia,ocab,jb->ijco", _OF_KERNELS, weight, _OF_KERNELS).flatten(0, 1)
    # Levels are whole numbers: of those that fit as they are, nothing is lost.
    factors = (_LARGEST * before / at_points.clip(1e-9) * _ONE).floor().clip(1, _ONE - 1)
    order = np.arange(kernels.shape[1]).reshape(-1, 64)[:, _PACKED].ravel()
    arrays = _arrays((kernels * (_ONE / factors)[..., None])[:, order], bias, before, behind, offset=_LARGEST + 1)
    return {"to_bytes": factors.to(torch.int16).numpy(), **arrays}


def _arrays(kernels: Tensor, bias: Tensor, before: float, behind: float, offset: int) -> Arrays:
    """Kernels ``(points, bytes, outputs)`` as they are multiplied, with all that belongs to them."""
    points, depth, outputs = kernels.shape
    largest = kernels.abs().amax(1, keepdim=True) / _LARGEST
    whole = (kernels / largest.clip(1e-30)).round()
    blocks = outputs // BLOCK

    def by_block(figures: Tensor, dtype: torch.dtype) -> NDArray[Any]:
        return figures.reshape(points, blocks, BLOCK).transpose(0, 1).to(dtype).contiguous().numpy()

    return {
        "kernels": whole.reshape(points, depth // 4, 4, blocks, BLOCK)
        .permute(3, 0, 1, 4, 2)
        .to(torch.int8)
        .contiguous()
        .numpy(),
        "starts": by_block(-offset * whole.sum(1), torch.int32),
        "scales": by_block(largest[:, 0] * (before / behind), torch.float32),
        "biases": (bias / behind).numpy(),
    }


def _figures(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    return convolution.get_parameter("weight").detach(), convolution.get_parameter("bias").detach()
