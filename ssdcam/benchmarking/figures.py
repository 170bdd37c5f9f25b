"""Figures from times: percentiles, rates, ratios, and what a machine leaves possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np


@dataclass
class Times:
    """What one thing took, round by round.

    Attributes:
        latencies_s: seconds of each call, of all rounds.
        rates: pictures a second of each round.
        cpu_s: CPU seconds a picture of each round, of all cores together.
    """

    latencies_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def add(self, latencies_s: Sequence[float], pictures: int, wall_s: float, cpu_s: float) -> None:
        """Add a round: its calls, and the pictures, seconds and CPU seconds of all of them."""
        self.latencies_s.extend(latencies_s)
        self.rates.append(pictures / wall_s)
        self.cpu_s.append(cpu_s / pictures)


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """``p50`` and ``p95`` of times, in milliseconds."""
    p50, p95 = np.percentile(np.asarray(seconds, np.float64), [50, 95]) * 1e3
    return {"p50": float(p50), "p95": float(p95)}


def ratio(rates: Sequence[float], baseline: Sequence[float]) -> float:
    """How many times as fast as the baseline: the median of the rounds' ratios, so that what slows a round cancels."""
    return median(a / b for a, b in zip(rates, baseline, strict=False))


def possible_fps(cpu_s: Sequence[float], cores: float, device_s: float = 0.0) -> float:
    """Frames a second that stages leave possible when they share the cores without a gap.

    Args:
        cpu_s: CPU seconds a frame of each stage, measured alone.
        cores: CPU cores that may be used; a share of one counts as such.
        device_s: seconds a frame that a device beside the CPU is busy; 0 without one.

    Returns:
        Cores over the sum of CPU times, or what the device manages if that is less.
    """
    return 1 / max(sum(cpu_s) / cores, device_s)
