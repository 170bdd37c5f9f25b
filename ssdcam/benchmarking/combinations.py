"""What can be measured: engines, the precisions and devices of each, and how each is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.engine import Engine
from ssdcam.errors import WrongUsageError

BASELINE = "torch-eager"
"""Plain torch: what every figure is a ratio to."""


@dataclass(frozen=True)
class Combination:
    """One thing to measure.

    Attributes:
        engine: a name from :data:`ENGINES`.
        precision: such as ``fp32``.
        device: such as ``cpu`` or ``cuda:0``.
    """

    engine: str
    precision: str
    device: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.engine} {self.precision} {self.device}"

    def to_json(self) -> dict[str, Any]:
        """As every list of figures names it."""
        return {"engine": self.engine, "precision": self.precision, "device": self.device}


@dataclass(frozen=True)
class Startable:
    """An engine to measure.

    Attributes:
        start: makes it, from checkpoint, device, precision and threads.
        precisions: those worth trying, by the kind of device (``cpu``, ``cuda``, ``mps``).
    """

    start: Callable[[Checkpoint, str, str, int | None], Engine]
    precisions: Mapping[str, Sequence[str]]


def _start_eager(checkpoint: Checkpoint, device: str, precision: str, threads: int | None) -> Engine:
    from ssdcam.benchmarking.eager import EagerEngine

    return EagerEngine(checkpoint, device, precision, threads)


def _start_torch(checkpoint: Checkpoint, device: str, precision: Any, threads: int | None) -> Engine:
    from ssdcam.detection.torch_engine import TorchEngine

    return TorchEngine(checkpoint, device, precision, threads)


def _start_openvino(checkpoint: Checkpoint, device: str, precision: Any, threads: int | None) -> Engine:
    from ssdcam.detection.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(checkpoint, device, precision, threads)


ENGINES: Mapping[str, Startable] = {
    BASELINE: Startable(_start_eager, {"cpu": ("fp32",), "cuda": ("fp32",), "mps": ("fp32",)}),
    "torch": Startable(
        _start_torch, {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16"), "mps": ("fp32", "fp16")}
    ),
    "openvino": Startable(_start_openvino, {"cpu": ("fp32", "bf16", "fp16")}),
}
"""In the order in which they are measured and shown."""


def combinations(
    engines: Sequence[str] | None, precisions: Sequence[str] | None, devices: Sequence[str]
) -> list[Combination]:
    """What to try.

    Args:
        engines: names; None is all.
        precisions: names, tried with every engine but the baseline; None is each engine's own on each device.
        devices: such as ``cpu`` and ``cuda:0``. Where several are given an engine is tried on those that it has.

    Raises:
        WrongUsageError: there is no such engine.
    """
    for name in engines or ():
        if name not in ENGINES:
            raise WrongUsageError(f"engine {name!r} is none of {', '.join(ENGINES)}")
    found = []
    for name in dict.fromkeys(engines or ENGINES):
        own = ENGINES[name].precisions
        for device in devices:
            kind = device.partition(":")[0]
            if kind not in own and len(devices) > 1:
                continue
            tried = own.get(kind, ("fp32",)) if precisions is None or name == BASELINE else precisions
            found += [Combination(name, precision, device) for precision in dict.fromkeys(tried)]
    return found
