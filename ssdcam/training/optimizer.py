"""Which weights are learnt, how fast, and with what decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ssdcam.training.settings import Settings

_MOMENTUM = 0.9


def freeze(backbone: nn.Module, convolutions: int) -> list[nn.Module]:
    """Freeze a backbone's first convolutions and the norms that follow them.

    Returns:
        The frozen layers; they are to stay in evaluation mode, so that norms keep their statistics.
    """
    frozen: list[nn.Module] = []
    seen = 0
    for layer in backbone.modules():
        if list(layer.children()) or not list(layer.parameters()):
            continue
        seen += isinstance(layer, nn.Conv2d)
        if seen > convolutions:
            break
        frozen.append(layer.requires_grad_(False).eval())
    return frozen if convolutions else []


def make_optimizer(network: nn.Module, settings: Settings, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser, in groups by decay and rate; a group's ``scale`` is the factor of its learning rate."""
    learnt = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    kernels = [p for _, p in learnt if p.ndim > 1]
    norms = [p for name, p in learnt if p.ndim == 1 and not name.endswith("bias")]
    biases = [p for name, p in learnt if p.ndim == 1 and name.endswith("bias")]
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": settings.weight_decay, "scale": 1.0},
        {"params": norms, "weight_decay": 0.0, "scale": 1.0},
        {"params": biases, "weight_decay": 0.0, "scale": settings.bias_lr},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=device.type == "cuda" or None)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
