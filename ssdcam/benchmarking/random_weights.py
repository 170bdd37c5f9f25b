"""A network of any architecture with random weights: as fast as a trained one, and no file is needed."""

from __future__ import annotations

import torch

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.spec import ModelSpec

# Logits of a box that is nothing. Untrained scores would lie around the middle, and half of all boxes enter NMS.
_NOTHING = 6.0


def random_checkpoint(spec: ModelSpec, seed: int = 0) -> Checkpoint:
    """A checkpoint of a spec with weights as torch draws them, and scores that see background everywhere."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build_network(spec)
        for predictor in network.conf:
            bias = predictor.get_parameter("bias").view(-1, spec.num_columns)
            bias.fill_(-_NOTHING)
            if spec.background:
                bias[:, 0] = _NOTHING
    return Checkpoint(spec, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
