"""What can be measured: engines, the precisions and devices of each, and how each is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.devices import device_kind
from ssdcam.detection.engine import Engine
from ssdcam.detection.engines import ENGINES, PrecisionName
from ssdcam.errors import WrongUsageError

BASELINE = "torch-eager"
"""Plain torch: what every figure is a ratio to."""

_CALIBRATION_PICTURES = 16  # ranges make int8 accurate, not fast

# What runs, but so slowly (in emulation) that it is only measured when it is asked for.
_ON_REQUEST = {("torch", "cpu", "fp16")}


@dataclass(frozen=True)
class Combination:
    """One thing to measure.

    Attributes:
        engine: a name from ``ssdcam.detection.engines``, or :data:`BASELINE`.
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


PRECISIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    BASELINE: {"cpu": ("fp32",), "cuda": ("fp32",), "mps": ("fp32",)},
    **{
        name: {
            device: sorted(
                (p for p in own if (name, device, p) not in _ON_REQUEST), key=lambda p: (p != "fp32", own.index(p))
            )
            for device, own in kind.precisions.items()
        }
        for name, kind in ENGINES.items()
    },
}
"""Of each engine, what it computes in on each kind of device, in the order in which they are measured and shown."""


def combinations(
    engines: Sequence[str] | None, precisions: Sequence[str] | None, devices: Sequence[str]
) -> list[Combination]:
    """What to try.

    Args:
        engines: names; None is all.
        precisions: names, tried with every engine but the baseline; None is each engine's own on each device.
        devices: such as ``cpu`` and ``cuda:0``. Where several are given an engine is tried on those that it has.

    Raises:
        WrongUsageError: there is no such engine, or no such precision in any.
    """
    for what, names, known in (("engine", engines, PRECISIONS), ("precision", precisions, get_args(PrecisionName))):
        for name in names or ():
            if name not in known:
                raise WrongUsageError(f"{what} {name!r} is none of {', '.join(known)}")
    found = []
    for name in dict.fromkeys(engines or PRECISIONS):
        for device in devices:
            own = PRECISIONS[name].get(device_kind(device))
            if own is None and len(devices) > 1:
                continue
            tried = own or ("fp32",) if precisions is None or name == BASELINE else precisions
            found += [Combination(name, precision, device) for precision in dict.fromkeys(tried)]
    return found


def start_engine(combination: Combination, checkpoint: Checkpoint, threads: int | None) -> Engine:
    """Start what is to be measured; int8 is calibrated on synthetic pictures unless the detector comes with ranges.

    Raises:
        SsdcamError: it cannot be had here; the message says why.
    """
    if combination.engine == BASELINE:
        from ssdcam.benchmarking.eager import EagerEngine

        return EagerEngine(checkpoint, combination.device, combination.precision, threads)
    calibration = None
    if combination.precision == "int8":
        import numpy as np

        from ssdcam.benchmarking.synthetic import scenes
        from ssdcam.detection.int8 import Calibration

        height, width = checkpoint.spec.input_size
        calibration = Calibration(np.stack(list(scenes(_CALIBRATION_PICTURES, width, height))), only_if_needed=True)
    kind = ENGINES[combination.engine]
    return kind.start(checkpoint, combination.device, combination.precision, threads, calibration)
