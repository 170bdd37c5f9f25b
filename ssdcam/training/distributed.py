"""Several processes that train one network, started by torchrun; a process on its own is a world of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(hours=6)  # the others wait while the first evaluates; NCCL's own limit is ten minutes


class Share(NamedTuple):
    """This process' number, and how many there are."""

    rank: int = 0
    world: int = 1


def find_share() -> Share:
    """What torchrun's environment says."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def local_device(device: str) -> str:
    """The device for this process among those of its machine: a CUDA device each, unless one is named."""
    if device in ("auto", "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


@contextmanager
def joined(share: Share, device: torch.device) -> Iterator[None]:
    """Meet the other processes, and part from them at the end."""
    if share.world == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def summed(values: Tensor, share: Share) -> Tensor:
    """The sum over all processes."""
    if share.world > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values
