"""Arithmetic with fewer bits, and where it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ssdcam.training.errors import TrainingError


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


def keep_small_maps_whole(network: nn.Module, input_size: tuple[int, int]) -> None:
    """Have convolutions whose kernel is larger than their input compute in float32.

    On a CPU, oneDNN's bf16 gradient of a 3x3 kernel over a 1x1 map leaves the taps that only ever see padding
    uninitialised (seen with torch 2.13): huge numbers now and then. Maps this small cost nothing in float32.
    """
    small: list[nn.Conv2d] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        reach = ((k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
        if any(side < cells for side, cells in zip(inputs[0].shape[2:], reach, strict=True)):
            small.append(layer)

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(look) for layer in convolutions]
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *input_size, device=next(network.parameters()).device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    for layer in small:
        layer.forward = _whole(layer.forward)  # type: ignore[assignment, method-assign]


def _whole(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def in_float32(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return in_float32
