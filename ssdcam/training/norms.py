"""Batch normalisation for training alone, in a network whose own was folded into its convolutions.

A frozen network has no norms left, and without them only small steps keep it from falling apart. So norms are put
behind the backbone's convolutions, with the statistics that make each of them change nothing, are learnt with the rest,
and are folded back into the convolutions of every checkpoint: the network that is shipped costs what it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

EPSILON = 1e-3
LEAST_CELLS = 9
"""A feature map of fewer cells is left without a norm: its statistics are of too few values."""


class NormedConv(nn.Module):
    """A convolution and the norm that stands in for its bias; takes the convolution's place and name."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(convolution.out_channels, eps=EPSILON, momentum=0.01)
        self.norm.to(convolution.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's, normalised."""
        return self.norm(self.convolution(x))  # type: ignore[no-any-return]


def insert_norms(backbone: nn.Module, inputs: Iterable[Tensor]) -> list[str]:
    """Put norms behind a backbone's convolutions; what it computes from these inputs stays the same.

    Args:
        backbone: its convolutions that have biases and are trained get norms, where their outputs are large enough.
        inputs: float ``(B, 3, H, W)``, normalised pictures to take the statistics from.

    Returns:
        Names of the convolutions that got one.
    """
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    convolutions = {
        name: layer
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.bias is not None and layer.weight.requires_grad
    }

    def watch(name: str) -> object:
        def add(layer: nn.Module, _: object, output: Tensor) -> None:
            if output.shape[2] * output.shape[3] < LEAST_CELLS:
                return
            values = output.detach().double()
            total, squares, count = sums.get(name, (0, 0, 0))
            sums[name] = (
                total + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3)), count + values[:, 0].numel()
            )  # fmt: skip

        return add

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in convolutions.items()]  # type: ignore[arg-type]
    with torch.no_grad():
        for images in inputs:
            backbone(images)
    for hook in hooks:
        hook.remove()
    for name, (total, squares, count) in sums.items():
        layer = convolutions[name]
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        normed = NormedConv(layer)
        with torch.no_grad():
            assert layer.bias is not None
            normed.norm.running_mean.copy_(mean - layer.bias)  # type: ignore[union-attr]
            normed.norm.running_var.copy_(variance)  # type: ignore[union-attr]
            normed.norm.weight.copy_((variance + EPSILON).sqrt())
            normed.norm.bias.copy_(mean)
        layer.bias = None
        backbone.set_submodule(name, normed)
    return list(sums)


def fold_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state with the norms of :func:`insert_norms` folded into its convolutions, under their old names."""
    folded: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".norm." in name and f"{name.split('.norm.')[0]}.convolution.weight" in state:
            continue
        if not name.endswith(".convolution.weight"):
            folded[name] = tensor
            continue
        place = name.removesuffix(".convolution.weight")
        norm = {key: state[f"{place}.norm.{key}"].double() for key in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] / (norm["running_var"] + EPSILON).sqrt()
        folded[f"{place}.weight"] = (tensor.double() * scale[:, None, None, None]).to(tensor.dtype)
        folded[f"{place}.bias"] = (norm["bias"] - norm["running_mean"] * scale).to(tensor.dtype)
    return folded
