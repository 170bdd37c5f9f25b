"""What the trainer calls on its way: who evaluates, shows progress, says when to stop, hears of trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ssdcam.checkpoints.checkpoint import Checkpoint

Evaluate = Callable[[Checkpoint], float | None]


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    """Steps done, of all epochs."""
    steps: int
    epoch: int
    epochs: int
    loss: float
    photos_per_second: float
    best: float | None
    """The best mAP so far."""


@dataclass(frozen=True)
class Hooks:
    """What the trainer calls.

    Attributes:
        evaluate: the mAP of a checkpoint, or None if it was told to stop before its end; in place of a function, None
            evaluates nothing, and the newest checkpoint counts as the best.
        progress: called after every step.
        stop: asked before every step whether to save and return, which several processes do after it.
        warn: told once of each photo that cannot be read any more.
        scored: what the evaluation is of: values that are scored otherwise are not compared.
    """

    evaluate: Evaluate | None = None
    progress: Callable[[Progress], None] = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = lambda problem: None
    scored: str = ""
