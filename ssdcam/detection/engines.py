"""Which engines there are, what each runs on and in, and which one ``auto`` takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.devices import cuda_may_be_there, device_kind, mps_may_be_there
from ssdcam.detection.engine import Engine
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError, stop_within
from ssdcam.notes import note

if TYPE_CHECKING:
    from ssdcam.detection.int8 import Calibration

EngineName = Literal["auto", "torch", "openvino", "onnxruntime"]
PrecisionName = Literal["auto", "fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class EngineKind:
    """An engine that may be installed.

    Attributes:
        name: as users call it.
        package: the module that has to be installed.
        home: the module and class of ours, ``module:Class``.
        precisions: what it computes in, by kind of device (``cpu``, ``cuda``, ``mps``). Whether the device has them,
            and which of them ``auto`` means there, turns out when the engine starts.
    """

    name: str
    package: str
    home: str
    precisions: Mapping[str, tuple[str, ...]]

    @property
    def installed(self) -> bool:
        """Whether its package can be found; it is not imported."""
        try:
            return find_spec(self.package) is not None
        except (ImportError, ValueError):
            return False

    def check(self, device: str, precision: str) -> None:
        """Whether it knows a device and a precision there, be they here or not.

        Raises:
            WrongUsageError: it does not.
        """
        kind = device_kind(device)
        if kind not in ("auto", *self.precisions):
            others = [other.name for other in ENGINES.values() if kind in other.precisions]
            raise WrongUsageError(
                f"device {device!r}: the {self.name} engine runs on {' and '.join(self.precisions)}; "
                f"use --engine {' or '.join(others)}"
            )
        known = self._known(kind)
        if precision not in known:
            others = [other.name for other in ENGINES.values() if precision in other._known(kind)]
            advice = f"; use --engine {' or '.join(others)}" if others else ""
            raise WrongUsageError(
                f"precision {precision!r} is none of {', '.join(known)}, "
                f"which the {self.name} engine has{_on(kind)}{advice}"
            )

    def _known(self, kind: str) -> list[str]:
        """The precisions that it has on a kind of device, or on any if that is ``auto``."""
        places = self.precisions if kind == "auto" else (kind,)
        return list(dict.fromkeys(["auto", *(name for place in places for name in self.precisions.get(place, ()))]))

    def start(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        calibration: Calibration | None = None,
    ) -> Engine:
        """Start it; see :func:`start`."""
        self.check(device, precision)
        module, _, name = self.home.partition(":")
        make = getattr(import_module(module), name)
        # Only who computes in integers has a use for pictures.
        more = {"calibration": calibration} if any("int8" in each for each in self.precisions.values()) else {}
        engine: Engine = make(checkpoint, device, precision, threads, **more)
        return engine


ENGINES: Mapping[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind(
            "torch",
            "torch",
            "ssdcam.detection.torch_engine:TorchEngine",
            {"cpu": ("fp32", "bf16", "fp16"), "cuda": ("fp16", "fp32", "bf16"), "mps": ("fp32", "fp16", "bf16")},
        ),
        EngineKind(
            "openvino",
            "openvino",
            "ssdcam.detection.openvino_engine:OpenVinoEngine",
            {"cpu": ("fp32", "bf16", "fp16", "int8")},
        ),
        EngineKind(
            "onnxruntime",
            "onnxruntime",
            "ssdcam.detection.onnxruntime_engine:OnnxRuntimeEngine",
            {"cpu": ("fp32", "int8"), "cuda": ("fp16", "fp32")},
        ),
    )
}

AUTO = {"cuda": ("torch", "onnxruntime"), "mps": ("torch",), "cpu": ("openvino", "onnxruntime", "torch")}
"""What ``auto`` tries on each kind of device, the fastest first."""


def start(
    name: str,
    checkpoint: Checkpoint,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    calibration: Calibration | None = None,
) -> Engine:
    """Start an engine by its name.

    ``auto`` is the first of :data:`AUTO` that is installed, has the precision, and starts; one that is installed and
    does not start is told of in a note.

    Args:
        name: one of :data:`ENGINES`, or ``auto``.
        checkpoint: the spec and weights to run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is CUDA, then MPS, then the CPU, each where
            an engine can use it.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        threads: CPU threads to use; None leaves the engine's own.
        calibration: pictures for ``int8``.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: no such engine is installed, or it cannot run here.
        WrongUsageError: there is no such engine, device or precision.
    """
    if name != "auto":
        if name not in ENGINES:
            raise WrongUsageError(f"engine {name!r} is none of auto, {', '.join(ENGINES)}")
        return ENGINES[name].start(checkpoint, device, precision, threads, calibration)

    failed: list[tuple[str, Exception]] = []
    for kind, place in _candidates(device, precision):
        try:
            engine = kind.start(checkpoint, place, precision, threads, calibration)
        except (CheckpointError, WrongUsageError):
            raise
        except Exception as error:  # a broken install may raise anything, and the next engine may work
            if stop := stop_within(error):
                raise stop from None
            failed.append((kind.name, error))
            continue
        for other, reason in failed:
            note(f"{other} does not start ({reason}): {engine.name} runs instead")
        return engine
    if failed:
        raise failed[0][1]
    able = [name for name, kind in ENGINES.items() if any(precision in known for known in kind.precisions.values())]
    extras = " or ".join(f"'ssdcam[{name}]'" for name in able if not ENGINES[name].installed)
    advice = f"; pip install {extras}" if extras else ""
    raise UnavailableError(f"no engine that is installed computes in {precision}{_on(device)}{advice}")


def _on(device: str) -> str:
    return "" if device == "auto" else f" on {device}"


def _candidates(device: str, precision: str) -> Iterator[tuple[EngineKind, str]]:
    """Engines with the device that each is to run on, the best first."""
    for place in _places() if device_kind(device) == "auto" else [device]:
        kind = device_kind(place)
        for name in AUTO[kind]:
            engine = ENGINES[name]
            if engine.installed and precision in ("auto", *engine.precisions[kind]):
                yield engine, place


def _places() -> list[str]:
    """Devices that are here, the best first. torch is asked where there may be more than the CPU, as it takes long."""
    if not (cuda_may_be_there() or mps_may_be_there()):
        return ["cpu"]
    from ssdcam.detection.torch_engine import find_device

    return list(dict.fromkeys([find_device("auto").type, "cpu"]))
