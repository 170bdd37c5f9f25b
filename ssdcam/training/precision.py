"""Arithmetic with fewer bits, and where it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ssdcam.errors import TrainingError


def choose_precision(wanted: str, device: torch.device) -> str:
    """What ``auto`` is on a device.

    Raises:
        TrainingError: fp16 on a CPU, where it is slower than fp32 and overflows.
    """
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"
    if wanted == "fp16" and device.type != "cuda":
        raise TrainingError("training in fp16 needs a CUDA device: use bf16 or fp32")
    return wanted


def reduced(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which a network computes at a precision; its weights stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def keep_whole(network: nn.Module, input_size: tuple[int, int]) -> None:
    """Have convolutions that oneDNN's bf16 does no good compute in float32; for a network that trains on a CPU.

    The bf16 gradient of a kernel larger than its map, such as 3x3 over 1x1, leaves the taps that only ever see padding
    uninitialised: huge numbers now and then. That of a depthwise convolution with a stride takes five times as long as
    float32's. Both seen with torch 2.13. Frozen layers have no gradient and stay as they are.
    """
    whole: list[nn.Conv2d] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        reach = ((k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
        small = any(side < cells for side, cells in zip(inputs[0].shape[2:], reach, strict=True))
        if small or (layer.groups > 1 and max(layer.stride) > 1):
            whole.append(layer)

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad]
    hooks = [layer.register_forward_pre_hook(look) for layer in convolutions]
    modes = [(layer, layer.training) for layer in network.modules()]  # frozen norms are in another than the rest
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *input_size, device=next(network.parameters()).device))
    for layer, training in modes:
        layer.training = training
    for hook in hooks:
        hook.remove()
    for layer in whole:
        layer.forward = _whole(layer.forward)  # type: ignore[assignment, method-assign]


def _whole(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def in_float32(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return in_float32
