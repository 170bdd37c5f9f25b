"""SSD in torch: CPU, CUDA and MPS; fp32, fp16 and bf16; channels-last; on CPUs fused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.cuda_graphs import GraphedNetwork
from ssdcam.detection.cuda_kernels import Select, kernels_for
from ssdcam.detection.fusing import fused
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.ssd import host
from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.network import SSD
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import ColourOrder, Normalisation, Selection

Precision = Literal["auto", "fp32", "fp16", "bf16"]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_forked = threading.Event()  # in a process that was forked from one that has used torch


class Normalise(nn.Module):
    """From pixels to the network's input: the one place where colour order and normalisation are applied.

    Args:
        normalisation: the checkpoint's.
        given: colour order of the pixels.
    """

    mean: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, normalisation: Normalisation, given: ColourOrder = "bgr") -> None:
        super().__init__()
        self.flip = normalisation.colour != given
        self.register_buffer("mean", torch.tensor(normalisation.mean)[:, None, None])
        self.register_buffer("scale", 1 / torch.tensor(normalisation.std)[:, None, None])
        self.register_buffer("offset", -self.mean * self.scale)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 ``(B, H, W, 3)`` to float32 ``(B, 3, H, W)``, channels-last in memory."""
        return self.planes(pixels.permute(0, 3, 1, 2).float())

    def in_one_pass(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """The same in another dtype, for a device that computes faster than it reads and writes its memory."""
        images = (pixels.flip(3) if self.flip else pixels).permute(0, 3, 1, 2)
        normal = torch.empty_like(images, dtype=dtype)
        return torch.addcmul(self.offset, images, self.scale, out=normal)

    def planes(self, images: Tensor) -> Tensor:
        """The same for pixels that are float32 ``(B, 3, H, W)``, 0 to 255, already."""
        if self.flip:
            images = images.flip(1)
        return (images - self.mean) * self.scale


class TorchEngine:
    """An SSD in torch; see :class:`ssdcam.detection.engine.Engine`.

    Args:
        checkpoint: the spec and weights to run.
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto`` is fp16 on CUDA, bf16 on CPUs that compute in it (Intel's from Cooper Lake on, AMD's from
            Zen 4 on), fp32 elsewhere.
        threads: CPU threads that torch may use, in the whole process; None leaves its own. A process that was forked
            from one that has used torch has one.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: the device is not there.
        WrongUsageError: there is no such device or precision.
    """

    name = "torch"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> None:
        if threads is not None and not _forked.is_set():
            torch.set_num_threads(threads)
        self._device = find_device(device)
        self.device = str(self._device)
        if self.device == "cuda":  # which one that is depends on the thread
            self._device = torch.device("cuda", torch.cuda.current_device())
        if precision not in get_args(Precision):
            raise WrongUsageError(f"precision {precision!r} is none of {', '.join(get_args(Precision))}")
        self.precision = _fastest(self._device) if precision == "auto" else precision
        self._dtype = _DTYPES[self.precision]
        self._spec = checkpoint.spec
        network = load_network(checkpoint).to(self._device, self._dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = fused(network, self._device, self._dtype)
        self._normalise = Normalise(checkpoint.spec.normalisation).to(self._device)
        self._defaults = torch.from_numpy(default_boxes(checkpoint.spec.boxes)).to(self._device)
        self._graphed, self._select = None, None
        if self._device.type == "cuda":
            self._graphed = GraphedNetwork(self._forward, self._device)
            kernels = kernels_for(self._device, self._dtype)
            self._select = Select(kernels, self._defaults, self._spec) if kernels else None

    @torch.inference_mode()
    def infer(self, batch: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR, on the engine's device."""
        if self._graphed and len(batch):
            locations, raw_scores = self._graphed(batch)
        else:
            locations, raw_scores = self._forward(torch.from_numpy(batch).to(self._device))
        if locations.shape[1] != len(self._defaults):
            raise CheckpointError(
                f"the checkpoint is wrong: it lays out {len(self._defaults)} default boxes, "
                f"but its network predicts {locations.shape[1]}"
            )
        return locations, raw_scores

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Tensor, Tensor]]:
        """See :meth:`ssdcam.detection.engine.Engine.submit`; on CUDA :meth:`infer` does not wait either."""
        outputs = self.infer(batch)
        return lambda: outputs

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if self._device.type == "cuda":
            images = self._normalise.in_one_pass(pixels, self._dtype)
        else:
            images = self._normalise(pixels).to(self._dtype)
        outputs: tuple[Tensor, Tensor] = self._network(images)
        return outputs

    @torch.inference_mode()
    def decode(self, locations: Tensor, raw_scores: Tensor, selection: Selection) -> host.PackedBoxes:
        """Boxes on the host; on CUDA decoded on the device."""
        if self._device.type == "cuda":
            return postprocess(locations, raw_scores, self._defaults, self._spec, selection, self._select)
        located, raw, boxes = (part.float().cpu().numpy() for part in (locations, raw_scores, self._defaults))
        return host.postprocess(located, raw, boxes, self._spec, selection)


def _fastest(device: torch.device) -> str:
    """Of the precisions that keep a detector's accuracy: README.md has the figures."""
    if device.type == "cuda":
        return "fp16"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def load_network(checkpoint: Checkpoint) -> SSD:
    """The network of a checkpoint in float32 on the CPU, ready to infer.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    _mind_forks()
    try:
        with torch.device("meta"):  # no weights are drawn only to be replaced
            network = build_network(checkpoint.spec)
        weights = {
            name: torch.from_numpy(np.ascontiguousarray(array, np.float32))
            for name, array in checkpoint.weights.items()
        }
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise ValueError("some of its weights are infinite or no numbers")
        network.load_state_dict(weights, assign=True)
    except ValueError as error:
        raise CheckpointError(f"the checkpoint is wrong: {error}") from error
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint's weights do not fit it: {_first_complaint(error)}") from error
    return network.eval().requires_grad_(False)


@cache
def _mind_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """In a child torch would wait for ever for threads that the parent has: it computes in the one that is there."""
    _forked.set()
    torch.set_num_threads(1)


def _first_complaint(error: RuntimeError) -> str:
    """load_state_dict's message is a heading and a line a complaint."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[1][:200] if len(lines) > 1 else lines[0][:200]


def find_device(name: str) -> torch.device:
    """The device of that name; see :class:`TorchEngine`."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WrongUsageError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    if device.type == "cuda" and (device.index or 0) >= cuda:
        if not torch.version.cuda:
            raise UnavailableError(
                f"device {name}: this torch was installed without CUDA; see pytorch.org for one with it"
            )
        raise UnavailableError(f"device {name}: torch sees {cuda} CUDA devices here; check nvidia-smi and the driver")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError("device mps: this machine or this torch has no Metal; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise WrongUsageError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    return device
