"""Steps of an SSD that torch computes in many passes over a GPU's memory, in one: by cuDNN, or by ``kernels.cu``."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ssdcam.detection.nvrtc import Kernels
from ssdcam.ssd.backbones.vgg import ChannelNorm
from ssdcam.ssd.network import SSD
from ssdcam.ssd.spec import ModelSpec, Selection

_log = logging.getLogger(__name__)

_NAMES = {torch.float32: "FP32", torch.float16: "FP16", torch.bfloat16: "BF16"}

MOST_CANDIDATES = 4096
"""Of an image, as ``kernels.cu`` has it."""

_MOST_CLASSES = 2**16
_MOST_PREPARED = 16
_VECTOR = 16  # bytes that a thread moves at once
_THREADS = 256
_SUPPRESSING = 512  # threads that sort and suppress the candidates of an image


@cache
def kernels_for(device: torch.device, dtype: torch.dtype) -> Kernels | None:
    """The kernels for networks that compute in a dtype; None where they do not run, and torch's operators have to do.

    They need a GPU of compute capability 8.0 (Ampere) and NVRTC.
    """
    try:
        source = Path(__file__).with_name("kernels.cu").read_text("utf-8")
        # Not fused, sums and products round as they do on the host: boxes that barely overlap fare the same.
        return Kernels(source, device, "--fmad=false", f"-D{_NAMES[dtype]}")
    except (OSError, RuntimeError, AttributeError) as error:
        _log.debug("kernels.cu on %s: %s", device, error)
        return None


def _fields(pointers: str, integers: str, floats: str = "") -> list[tuple[str, Any]]:
    kinds = ((pointers, ctypes.c_void_p), (integers, ctypes.c_int), (floats, ctypes.c_float))
    return [(name, kind) for names, kind in kinds for name in names.split()]


class _Pooling(ctypes.Structure):
    _fields_ = _fields("input output", "in_height in_width out_height out_width vectors kernel stride padding")


class _Norming(ctypes.Structure):
    _fields_ = _fields("input output scale", "cells vectors")


class _Selecting(ctypes.Structure):
    _fields_ = _fields(
        "locations raw_scores defaults columns keys boxes counts found",
        "num_boxes num_columns num_classes background softmax agnostic before after",
        "score iou max_log_size variance_x variance_y variance_w variance_h",
    )


class CudaConvolution(nn.Module):
    """A convolution, its bias and a ReLU, in one by cuDNN where it can."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = convolution.weight.detach(), convolution.bias
        self._rest = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
        self._runs = True

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's, and not negative."""
        if self._runs:
            try:
                return torch.cudnn_convolution_relu(x, self._weight, self._bias, *self._rest)  # type: ignore[arg-type]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # an older GPU, or a size that cuDNN has nothing for
                _log.debug("a convolution and its ReLU: %s", error)
                self._runs = False
        return F.relu(F.conv2d(x, self._weight, self._bias, *self._rest), inplace=True)  # type: ignore[arg-type]


class JointHeads(nn.Module):
    """An SSD whose predictors of locations and scores are one convolution a feature map: half as many launches.

    Args:
        network: has plain convolutions for predictors.
    """

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.backbone = network.backbone
        self._values = 4 + network.num_columns
        pairs = zip(network.loc, network.conf, strict=True)
        self.heads = nn.ModuleList(_joined(loc, conf, network.num_columns) for loc, conf in pairs)

    @staticmethod
    def of(network: nn.Module) -> nn.Module:
        """A network with such heads where it can have them, else itself."""
        if isinstance(network, SSD) and all(type(head) is nn.Conv2d for head in (*network.loc, *network.conf)):
            return JointHeads(network)
        return network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As of :class:`ssdcam.ssd.network.SSD`; both are views of one tensor."""
        cells = [head(x).permute(0, 2, 3, 1) for head, x in zip(self.heads, self.backbone(images), strict=True)]
        predicted = torch.cat([cell.reshape(cell.shape[0], -1, self._values) for cell in cells], dim=1)
        return predicted[..., :4], predicted[..., 4:]


def _joined(loc: nn.Module, conf: nn.Module, columns: int) -> nn.Conv2d:
    """Two predictors in one, whose output has a default box's locations and then its scores."""
    assert isinstance(loc, nn.Conv2d)
    assert isinstance(conf, nn.Conv2d)
    outputs, padding = loc.out_channels + conf.out_channels, loc.padding
    joined = nn.Conv2d(loc.in_channels, outputs, loc.kernel_size, loc.stride, padding)  # type: ignore[arg-type]
    for name in ("weight", "bias"):
        first, second = getattr(loc, name), getattr(conf, name)
        boxes = first.unflatten(0, (-1, 4)), second.unflatten(0, (-1, columns))
        whole = torch.cat(boxes, dim=1).flatten(0, 1)
        if whole.ndim == 4:
            whole = whole.contiguous(memory_format=torch.channels_last)
        setattr(joined, name, nn.Parameter(whole, requires_grad=False))
    return joined.eval()


def fits(channels: int, dtype: torch.dtype) -> bool:
    """Whether a cell's channels are whole vectors, as the kernels take them."""
    return channels * dtype.itemsize % _VECTOR == 0


class Pool(nn.Module):
    """Max pooling, channels-last: torch's own takes a quarter of SSD300's time.

    Args:
        kernels: for the dtype of its inputs.
        kernel, stride, padding, ceil_mode: as of ``max_pool2d``, the same for both directions.
    """

    def __init__(self, kernels: Kernels, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__()
        self._kernels = kernels
        self._figures = kernel, stride, padding
        self._ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H', W')``, channels-last."""
        kernel, stride, padding = self._figures
        if not fits(x.shape[1], x.dtype):
            return F.max_pool2d(x, *self._figures, ceil_mode=self._ceil_mode)
        x = x.contiguous(memory_format=torch.channels_last)
        batch, channels, *sides = x.shape
        height, width = (self._side(side) for side in sides)
        shape = (batch, channels, height, width)
        pooled = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        vectors = channels * x.element_size() // _VECTOR
        figures = _Pooling(x.data_ptr(), pooled.data_ptr(), *sides, height, width, vectors, kernel, stride, padding)
        self._kernels.launch("max_pool", (-(-width * vectors // _THREADS), height, batch), _THREADS, figures)
        return pooled

    def _side(self, side: int) -> int:
        kernel, stride, padding = self._figures
        room = side + 2 * padding - kernel
        cells = room // stride + 1
        # One more for what is left over, unless it would begin in the padding behind.
        return cells + int(self._ceil_mode and room % stride > 0 and cells * stride < side + padding)


class Norm(nn.Module):
    """The L2 norm over channels of :class:`ssdcam.ssd.backbones.vgg.ChannelNorm`, whose scale it takes."""

    def __init__(self, kernels: Kernels, norm: ChannelNorm) -> None:
        super().__init__()
        self._kernels = kernels
        self._scale = norm.weight.detach().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in and out, channels-last; C has to fit."""
        x = x.contiguous(memory_format=torch.channels_last)
        normed = torch.empty_like(x)
        cells, vectors = x.numel() // x.shape[1], x.shape[1] * x.element_size() // _VECTOR
        figures = _Norming(x.data_ptr(), normed.data_ptr(), self._scale.data_ptr(), cells, vectors)
        self._kernels.launch("channel_norm", (-(-cells * 32 // _THREADS), 1, 1), _THREADS, figures)
        return normed


@dataclass(frozen=True)
class _Prepared:
    """Memory for the selection from batches of a size, and what the kernels are told."""

    figures: _Selecting
    others: Sequence[Tensor]  # the figures point to them, too
    counts: Tensor
    found: Tensor
    on_host: Tensor


class Select:
    """Selects boxes on a CUDA device and brings them to the host; see :func:`ssdcam.ssd.postprocess.postprocess`.

    Safe to use from several threads, in turn.

    Args:
        kernels: for the dtype of the network's output.
        defaults: float32 ``(N, 4)`` default boxes on the device.
        spec: the network's.
    """

    def __init__(self, kernels: Kernels, defaults: Tensor, spec: ModelSpec) -> None:
        self._kernels = kernels
        self._defaults = defaults
        self._spec = spec
        self._prepared: dict[tuple[int, Selection], _Prepared] = {}
        self._lock = threading.Lock()

    def __call__(self, locations: Tensor, raw_scores: Tensor, selection: Selection) -> NDArray[np.float32] | None:
        """What the kernels find, on the host; None if this is too much for them."""
        if selection.nms.after > MOST_CANDIDATES or len(self._spec.labels) > _MOST_CLASSES:
            return None
        locations, raw_scores = locations.contiguous(), raw_scores.contiguous()
        batch = len(raw_scores)
        with self._lock, torch.cuda.device(self._defaults.device):
            prepared = self._prepared.pop((batch, selection), None)
            if prepared is None:
                while len(self._prepared) >= _MOST_PREPARED:  # the one that was not used for longest goes
                    self._prepared.pop(next(iter(self._prepared)))
                prepared = self._prepare(batch, selection)
            self._prepared[batch, selection] = prepared
            # A call before may have been interrupted. And this is what binds the device's context to a new thread.
            prepared.counts.zero_()
            figures = prepared.figures
            figures.locations, figures.raw_scores = locations.data_ptr(), raw_scores.data_ptr()
            blocks = -(-len(self._defaults) // _THREADS)
            self._kernels.launch("find_candidates", (blocks, batch, 1), _THREADS, figures)
            self._kernels.launch("suppress", (batch, 1, 1), _SUPPRESSING, figures)
            prepared.on_host.copy_(prepared.found, non_blocking=True)
            _wait()
            found: NDArray[np.float32] = prepared.on_host.numpy().copy()
            return found

    def _prepare(self, batch: int, selection: Selection) -> _Prepared:
        spec, nms, device = self._spec, selection.nms, self._defaults.device
        columns = torch.from_numpy(selection.columns(spec)).to(device, torch.int32)
        keys = torch.empty(batch, MOST_CANDIDATES, dtype=torch.int64, device=device)
        boxes = torch.empty(batch, MOST_CANDIDATES, 4, device=device)
        counts = torch.empty(batch, 2, dtype=torch.int32, device=device)
        found = torch.empty(batch, 1 + nms.after, 6, device=device)
        tensors = self._defaults, columns, keys, boxes, counts, found
        figures = _Selecting(
            *(
                0,
                0,
                *(tensor.data_ptr() for tensor in tensors),
            ),  # locations and raw scores are another call's each time
            *(len(self._defaults), spec.num_columns, len(columns), spec.background, spec.score_function == "softmax"),
            *(nms.class_agnostic, min(nms.before, MOST_CANDIDATES), nms.after),
            *(selection.score, nms.iou, spec.coding.max_log_size, *spec.coding.variances),
        )
        on_host = torch.empty(found.shape, pin_memory=device.type == "cuda")
        return _Prepared(figures, (columns, keys, boxes), counts, found, on_host)


def _wait() -> None:
    torch.cuda.current_stream().synchronize()
