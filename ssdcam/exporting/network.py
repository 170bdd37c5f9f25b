"""What is exported: the network with normalisation before it and decoding behind it, in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.errors import CheckpointError
from ssdcam.ssd.box_coder import shift, to_corners
from ssdcam.ssd.default_boxes import default_boxes


class DecodedSSD(nn.Module):
    """Pictures in, boxes and probabilities out. All constants are buffers, so that they follow it to another device.

    Args:
        checkpoint: the spec and weights.

    Raises:
        CheckpointError: the weights do not fit the spec.
    """

    defaults: Tensor
    variances: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.spec = checkpoint.spec
        self.normalise = Normalise(self.spec.normalisation, given="rgb")
        self.network = load_network(checkpoint)
        self.register_buffer("defaults", torch.from_numpy(default_boxes(self.spec.boxes)))
        self.register_buffer("variances", torch.tensor(self.spec.coding.variances))
        self._check_boxes()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect everything.

        Args:
            images: float32 ``(B, 3, H, W)``, RGB, 0 to 255.

        Returns:
            Boxes ``(B, N, 4)``, ``x1, y1, x2, y2`` relative to the image and clipped to it, and the probabilities of
            each label ``(B, N, labels)``.
        """
        return self.decode(*self.raw(images))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The network's own output: locations ``(B, N, 4)`` and raw scores ``(B, N, columns)``."""
        locations, raw_scores = self.network(self.normalise.planes(images))
        return locations, raw_scores

    def decode(self, locations: Tensor, raw_scores: Tensor) -> tuple[Tensor, Tensor]:
        """From what :meth:`raw` gives to what :meth:`forward` does."""
        boxes = to_corners(shift(locations * self.variances, self.defaults, self.spec.coding.max_log_size)).clamp(0, 1)
        if self.spec.score_function == "softmax":
            return boxes, raw_scores.softmax(dim=-1)[..., 1:]
        return boxes, raw_scores[..., int(self.spec.background) :].sigmoid()

    @torch.inference_mode()
    def _check_boxes(self) -> None:
        height, width = self.spec.input_size
        predicted = self.raw(torch.zeros(1, 3, height, width))[0].shape[1]
        if predicted != len(self.defaults):
            raise CheckpointError(
                f"the checkpoint is wrong: it lays out {len(self.defaults)} default boxes, "
                f"but its network predicts {predicted}"
            )


class DecodedAndRaw(nn.Module):
    """All that a network gives: boxes, probabilities, locations and raw scores, for formats to cut in two."""

    def __init__(self, network: DecodedSSD) -> None:
        super().__init__()
        self.decoded = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images as :class:`DecodedSSD` takes them."""
        locations, raw_scores = self.decoded.raw(images)
        return *self.decoded.decode(locations, raw_scores), locations, raw_scores
