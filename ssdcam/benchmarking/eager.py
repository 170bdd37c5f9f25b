"""Plain torch, the baseline: the network as it is written, NCHW, float32, with no trick beyond ``no_grad``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import find_device
from ssdcam.errors import WrongUsageError
from ssdcam.ssd import host
from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import Selection


class EagerEngine:
    """An SSD in torch as a script would run it; see :class:`ssdcam.detection.engine.Engine`.

    Raises:
        UnavailableError: the device is not there.
        WrongUsageError: the precision is not fp32.
    """

    name = "torch-eager"
    precision = "fp32"

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", precision: str = "fp32", threads: int | None = None
    ) -> None:
        if precision != self.precision:
            raise WrongUsageError(f"precision {precision}: {self.name} is fp32")
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = find_device(device)
        self.device = str(self._device)
        self._spec = spec = checkpoint.spec
        network = build_network(spec)
        network.load_state_dict(
            {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in checkpoint.weights.items()}
        )
        self._network = network.eval().to(self._device)
        self._mean = torch.tensor(spec.normalisation.mean, device=self._device)[:, None, None]
        self._std = torch.tensor(spec.normalisation.std, device=self._device)[:, None, None]
        self._defaults = torch.from_numpy(default_boxes(spec.boxes)).to(self._device)

    @torch.no_grad()
    def infer(self, batch: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR, on the engine's device."""
        channels = batch[..., ::-1] if self._spec.normalisation.colour == "rgb" else batch
        pixels = torch.from_numpy(np.ascontiguousarray(channels.transpose(0, 3, 1, 2))).to(self._device)
        locations, raw_scores = self._network((pixels.float() - self._mean) / self._std)
        return locations, raw_scores

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Tensor, Tensor]]:
        """See :meth:`ssdcam.detection.engine.Engine.submit`; a script waits."""
        outputs = self.infer(batch)
        return lambda: outputs

    @torch.no_grad()
    def decode(self, locations: Tensor, raw_scores: Tensor, selection: Selection) -> host.PackedBoxes:
        """Boxes on the host, decoded on the device."""
        if self.device == "cpu":
            located, raw, boxes = (part.numpy() for part in (locations, raw_scores, self._defaults))
            return host.postprocess(located, raw, boxes, self._spec, selection)
        return postprocess(locations, raw_scores, self._defaults, self._spec, selection)
