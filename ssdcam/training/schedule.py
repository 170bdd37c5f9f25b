"""The learning rate as a function of the step: no state to save."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi

from ssdcam.training.settings import ScheduleName

_DROPS = (2 / 3, 5 / 6)  # 80k and 100k of 120k iterations

# The factor after a share (0 to 1) of the run.
_SCHEDULES: Mapping[ScheduleName, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: (1 + cos(pi * share)) / 2,
    "step": lambda share: 0.1 ** sum(share >= drop for drop in _DROPS),
}


def lr_factor(step: int, steps: int, schedule: ScheduleName, warmup: int) -> float:
    """Factor of the learning rate at a step of a run, both counted from 0; it rises linearly over the warm-up."""
    return _SCHEDULES[schedule](step / steps) * min((step + 1) / (warmup + 1), 1.0)
