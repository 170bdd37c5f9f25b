"""The exponential moving average of a network's weights, which is what is evaluated and kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a network's state that follows it.

    Args:
        network: what to follow.
        decay: share of the old average in the new one; smaller at first, so that the start is soon forgotten. 0
            follows at once.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take a step towards the network."""
        self.updates += 1
        decay = min(self._decay, self.updates / (self.updates + 9))
        now = network.state_dict()
        smooth = [name for name, tensor in now.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in smooth], [now[name] for name in smooth], 1 - decay)
        for name in now.keys() - smooth:
            self.state[name].copy_(now[name])

    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Go on from a saved average."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
        self.updates = updates
