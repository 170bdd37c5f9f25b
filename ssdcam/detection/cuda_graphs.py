"""A network on CUDA without the cost of launching it: recorded once for each size of batch, then replayed whole.

At batch 1 a GPU computes an SSD in less time than Python takes to launch its hundred kernels one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Network = Callable[[Tensor], tuple[Tensor, Tensor]]

MOST_SIZES = 8
"""Sizes of batches that are recorded; each holds its own memory for what is computed on the way."""

_WARM_UP = 3
_RECORDING = threading.Lock()  # torch records one at a time in a process


@dataclass(frozen=True)
class _Recording:
    pinned: Tensor
    pixels: Tensor
    uploaded: Any  # torch.cuda.Event, which torch types as nothing
    read: Any  # likewise
    graph: torch.cuda.CUDAGraph
    outputs: tuple[Tensor, Tensor]


class GraphedNetwork:
    """Runs a network on a CUDA device, from batches on the host to outputs on the device, without waiting for it.

    Safe to use from several threads, in turn.

    Args:
        network: from uint8 pixels ``(B, H, W, 3)`` on the device to two tensors, by the same work for all of a size.
        device: a CUDA device.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self._network, self._device = network, device
        self._recordings: dict[tuple[int, ...], _Recording] = {}
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """The network's outputs for a batch; they belong to the caller."""
        with self._lock, torch.cuda.device(self._device):
            recording = self._recordings.get(batch.shape)
            if recording is None and len(self._recordings) == MOST_SIZES:
                return self._network(torch.from_numpy(batch).to(self._device))
            if recording is None:
                recording = self._recordings[batch.shape] = self._record(batch)
            recording.uploaded.synchronize()  # the batch before this one has left the pinned memory
            torch.cuda.current_stream().wait_event(recording.read)  # and its outputs were copied, on whatever stream
            recording.pinned.numpy()[...] = batch
            recording.pixels.copy_(recording.pinned, non_blocking=True)
            recording.uploaded.record()
            recording.graph.replay()
            # The next replay writes over them.
            locations, raw_scores = (part.clone(memory_format=torch.contiguous_format) for part in recording.outputs)
            recording.read.record()
            return locations, raw_scores

    def _record(self, batch: NDArray[np.uint8]) -> _Recording:
        pinned = torch.empty(batch.shape, dtype=torch.uint8, pin_memory=True)
        pixels = torch.from_numpy(batch).to(self._device)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            # Before a recording, libraries must have chosen their kernels, beside the main stream.
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._network(pixels)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile. The stream is said, as torch's own is of the first device that
            # it recorded on.
            with _RECORDING, torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                outputs = self._network(pixels)
        uploaded, read = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        return _Recording(pinned, pixels, uploaded, read, graph, outputs)
