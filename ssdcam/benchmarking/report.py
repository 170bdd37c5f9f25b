"""What was measured, and what it comes to: figures are worked out from whatever is there, so a run may end early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ssdcam.benchmarking.combinations import BASELINE, Combination
from ssdcam.benchmarking.figures import Times, percentiles_ms, possible_fps, ratio

Row = dict[str, Any]


@dataclass
class Measured:
    """What was measured of one combination.

    Attributes:
        combination: which.
        starts: times of each start, in seconds; the first one prepared what later ones find in the cache.
        network: by batch, the network alone.
        decoding: by batch, seconds of each decoding and NMS of a whole batch.
        memory: by batch, the process' peak in MiB up to the end of it, batches rising; and that of the device.
        detection: seconds from a picture in memory to its detections, one at a time.
        pipeline: of each run of the whole pipeline, its stats.
        pipeline_times: its rates and CPU times.
        pipeline_batch: frames that went through the network together.
        failure: why nothing more was measured; None if nothing is wrong.
    """

    combination: Combination
    starts: list[Mapping[str, float]] = field(default_factory=list)
    network: dict[int, Times] = field(default_factory=dict)
    decoding: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, tuple[float | None, float | None]] = field(default_factory=dict)
    detection: list[float] = field(default_factory=list)
    pipeline: list[Mapping[str, Any]] = field(default_factory=list)
    pipeline_times: Times = field(default_factory=Times)
    pipeline_batch: int = 1
    failure: str | None = None


@dataclass
class Report:
    """A whole run.

    Attributes:
        machine: see :func:`ssdcam.benchmarking.machine.machine`.
        settings: what was run, and how.
        measured: every combination that started, in order.
        unavailable: every other, with the reason.
        stages: ``decode`` and ``encode`` alone.
        complete: whether the run came to its end.
    """

    machine: Mapping[str, Any]
    settings: dict[str, Any]
    measured: list[Measured] = field(default_factory=list)
    unavailable: list[tuple[Combination, str]] = field(default_factory=list)
    stages: dict[str, Times] = field(default_factory=dict)
    complete: bool = False

    @property
    def failures(self) -> list[tuple[Combination, str]]:
        """Combinations that started and failed later."""
        return [(one.combination, one.failure) for one in self.measured if one.failure]

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return any(one.starts for one in self.measured)

    def to_json(self) -> dict[str, Any]:
        """All figures, as JSON's own types."""
        missing = [*self.unavailable, *self.failures]
        return {
            "network": self._network(),
            "detection": [self._detection(one) for one in self.measured if one.detection],
            "startup": [_startup(one) for one in self.measured if one.starts],
            "pipeline": [self._pipeline(one) for one in self.measured if one.pipeline],
            "stages": {name: _stage(times) for name, times in self.stages.items()},
            "unavailable": [{**combination.to_json(), "reason": reason} for combination, reason in missing],
            "settings": {**self.settings, "complete": self.complete},
            "machine": dict(self.machine),
        }

    def _network(self) -> list[Row]:
        rows = []
        for one in self.measured:
            for batch, times in one.network.items():
                baseline = self._baseline(one, [other.network.get(batch) for other in self.measured])
                memory, device_memory = one.memory[batch]
                row = {
                    **one.combination.to_json(),
                    "batch": batch,
                    "latency_ms": _rounded(percentiles_ms(times.latencies_s)),
                    "per_second": round(median(times.rates), 3),
                    "ratio": _ratio(times, baseline),
                    "cpu_ms": round(median(times.cpu_s) * 1e3, 3),
                    "peak_memory_mb": memory,
                    **({} if device_memory is None else {"device_memory_mb": device_memory}),
                }
                if decoding := one.decoding.get(batch):
                    a_picture = median(decoding) / batch
                    row["postprocess_ms"] = round(a_picture * 1e3, 4)
                    row["postprocess_share"] = round(a_picture * median(times.rates), 5)
                rows.append(row)
        return rows

    def _detection(self, one: Measured) -> Row:
        return {**one.combination.to_json(), "latency_ms": _rounded(percentiles_ms(one.detection))}

    def _pipeline(self, one: Measured) -> Row:
        """The run of median rate, beside the best that its parts leave possible."""
        by_rate = sorted(one.pipeline, key=lambda stats: float(stats["fps"]))
        stats = by_rate[len(by_rate) // 2]
        row = {
            **stats,
            "model": self.settings["model"],
            **one.combination.to_json(),
            "batch": one.pipeline_batch,
            "ratio": _ratio(one.pipeline_times, self._baseline(one, [other.pipeline_times for other in self.measured])),
            "cpu_ms": round(median(one.pipeline_times.cpu_s) * 1e3, 3),
        }
        network = one.network.get(one.pipeline_batch)
        if network and {"decode", "encode"} <= self.stages.keys():
            parts = [median(times.cpu_s) for times in (self.stages["decode"], network, self.stages["encode"])]
            on_device = 0.0 if one.combination.device == "cpu" else 1 / median(network.rates)
            possible = possible_fps(parts, self.machine["usable_cores"], on_device)
            row |= {"possible_fps": round(possible, 2), "share_of_possible": round(stats["fps"] / possible, 4)}
            if on_device:
                row["device_busy"] = round(stats["fps"] * on_device, 4)
        return row

    def _baseline(self, one: Measured, times: Sequence[Times | None]) -> Times | None:
        """What one is compared with: plain torch on the same device, or else what was measured first there."""
        found = [
            (other.combination.engine != BASELINE, number, its)
            for number, (other, its) in enumerate(zip(self.measured, times, strict=True))
            if its and its.rates and other.combination.device == one.combination.device
        ]
        return min(found, key=lambda each: each[:2])[2] if found else None


def _startup(one: Measured) -> Row:
    last = one.starts[-1]
    later = [start["start_s"] for start in one.starts[1:]]
    return {
        **one.combination.to_json(),
        "first_s": round(one.starts[0]["start_s"], 3),
        "start_s": round(median(later), 3) if later else None,
        "of_which": {name: round(last[f"{name}_s"], 3) for name in ("import", "prepare", "detect")},
    }


def _stage(times: Times) -> Row:
    """Milliseconds a frame: on the clock, and of all cores together."""
    return {"ms": round(1e3 / median(times.rates), 3), "cpu_ms": round(median(times.cpu_s) * 1e3, 3)}


def _ratio(times: Times, baseline: Times | None) -> float | None:
    return round(ratio(times.rates, baseline.rates), 3) if baseline and times.rates else None


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}
