"""Work on CUDA without the cost of launching it: recorded once for each size of batch, then replayed whole.

At batch 1 a GPU computes an SSD, and selects its boxes, in less time than Python takes to launch their kernels, a
hundred each, one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdcam.ssd.postprocess import Limits, select_boxes
from ssdcam.ssd.spec import ModelSpec, Selection

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
T = TypeVar("T")

MOST = 8
"""Recordings that are kept, of networks and of selections; each holds memory for what is computed on the way."""

_WARM_UP = 3


@dataclass(frozen=True)
class _Network:
    """A recording of a network, and where it reads and writes."""

    pinned: Tensor
    pixels: Tensor
    uploaded: Any  # torch.cuda.Event, which torch types as nothing
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
        self._recordings: dict[tuple[int, ...], _Network] = {}
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """The network's outputs for a batch; they belong to the caller."""
        with self._lock, torch.cuda.device(self._device):
            recording = self._recordings.get(batch.shape)
            if recording is None and len(self._recordings) == MOST:
                return self._network(torch.from_numpy(batch).to(self._device))
            if recording is None:
                recording = self._recordings[batch.shape] = self._record(batch)
            recording.uploaded.synchronize()  # the batch before this one has left the pinned memory
            recording.pinned.numpy()[...] = batch
            recording.pixels.copy_(recording.pinned, non_blocking=True)
            recording.uploaded.record()
            recording.graph.replay()
            locations, raw_scores = recording.outputs
            return locations.clone(), raw_scores.clone()  # the next replay writes over them

    def _record(self, batch: NDArray[np.uint8]) -> _Network:
        pinned = torch.empty(batch.shape, dtype=torch.uint8, pin_memory=True)
        pixels = torch.from_numpy(batch).to(self._device)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            graph, outputs = _record(lambda: self._network(pixels))
        return _Network(pinned, pixels, torch.cuda.Event(), graph, outputs)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Selection:
    """A recording of a selection, and where it reads and writes."""

    locations: Tensor
    raw_scores: Tensor
    graph: torch.cuda.CUDAGraph
    boxes: Tensor
    pinned: Tensor


class GraphedSelection:
    """Selects boxes from one network's outputs on a CUDA device and waits for them: one wait a batch.

    Safe to use from several threads, in turn.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._recordings: dict[Hashable, _Selection] = {}
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(
        self,
        locations: Tensor,
        raw_scores: Tensor,
        defaults: Tensor,
        spec: ModelSpec,
        selection: Selection,
        limits: Limits,
    ) -> NDArray[np.float32]:
        """See :func:`ssdcam.ssd.postprocess.select_boxes`; default boxes and spec are always the same."""
        with self._lock, torch.cuda.device(self._device):
            key = raw_scores.shape, raw_scores.dtype, selection, limits
            recording = self._recordings.pop(key, None)
            if recording is None:
                while len(self._recordings) >= MOST:  # the one that has not been used for longest; it is not at work
                    self._recordings.pop(next(iter(self._recordings)))
                recording = self._record(locations, raw_scores, defaults, spec, selection, limits)
            self._recordings[key] = recording
            recording.locations.copy_(locations)
            recording.raw_scores.copy_(raw_scores)
            recording.graph.replay()
            recording.pinned.copy_(recording.boxes, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            boxes: NDArray[np.float32] = recording.pinned.numpy().copy()
            return boxes

    def _record(self, locations: Tensor, raw_scores: Tensor, *others: Any) -> _Selection:
        locations, raw_scores = locations.clone(), raw_scores.clone()
        graph, boxes = _record(lambda: select_boxes(locations, raw_scores, *others))
        return _Selection(locations, raw_scores, graph, boxes, torch.empty_like(boxes, device="cpu", pin_memory=True))


def _record(work: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    # Before a recording, libraries must have chosen their kernels, beside the main stream.
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph, result
