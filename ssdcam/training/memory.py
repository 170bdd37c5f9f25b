"""The memory that training takes, and keeping it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.spec import ModelSpec
from ssdcam.training.optimizer import freeze

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of mallopt(3)


def keep_memory() -> None:
    """Have glibc hold on to what is freed, rather than return large blocks to the system; elsewhere nothing changes.

    A training step frees and takes hundreds of megabytes, and the system's zeroing of fresh pages took a large part
    of it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def least_memory(spec: ModelSpec, frozen: int = 0) -> int:
    """Bytes that a step takes at the very least for each of its photos, in fp32.

    That is what the network's layers keep for the way back, which is all there at once before it begins. It is counted,
    not tried: tensors on torch's meta device have sizes and nothing in them.

    Args:
        spec: the network.
        frozen: convolutions that are not trained; see :class:`ssdcam.training.settings.Settings`.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        kept[memory._cdata] = memory.nbytes()
        return tensor

    with torch.device("meta"):
        network = build_network(spec).requires_grad_(True).train()
        freeze(network.backbone, frozen)
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = network(torch.empty(1, 3, *spec.input_size))
    own = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
    count = sum(size for memory, size in kept.items() if memory not in own)
    del outputs  # until here it holds what is kept
    return count
