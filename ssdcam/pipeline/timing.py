"""What a run took: frames, latency and the time of each stage, measured apart."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

STAGES = ("decode", "preprocess", "inference", "postprocess", "draw", "encode")

_RECENT = 30  # frames that the live rate looks back on
# Latencies are kept of at most this many frames, evenly spread, so that a run of any length takes the same memory.
_SAMPLES = 4096


@dataclass(frozen=True)
class Stats:
    """A run in figures.

    Attributes:
        frames: frames that went all the way.
        dropped: frames of a live source that gave way to newer ones.
        wall_s: seconds from the start to the last frame.
        fps: frames over wall time.
        latency_ms: ``p50`` and ``p95`` of the time from capture to drawn, in milliseconds.
        stages_ms: for each stage, its mean time a frame in milliseconds.
        boxes: found in all frames together.
    """

    frames: int
    dropped: int
    wall_s: float
    fps: float
    latency_ms: dict[str, float]
    stages_ms: dict[str, float]
    boxes: int

    def to_json(self) -> dict[str, Any]:
        """As ``--stats`` writes it, rounded: what the run took; what was found is in records."""
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "wall_s": round(self.wall_s, 3),
            "fps": round(self.fps, 2),
            "latency_ms": {name: round(value, 2) for name, value in self.latency_ms.items()},
            "stages_ms": {name: round(value, 3) for name, value in self.stages_ms.items()},
        }


class Timing:
    """Collects times from several threads.

    A stage's time is that of the thread that works on it; stages overlap, so their sum may exceed the wall time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._started = self._last = time.monotonic()
        self._stages = dict.fromkeys(STAGES, 0.0)
        self._latencies: list[float] = []
        self._every = 1
        self._latest = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._frames = 0
        self._boxes = 0
        self.dropped = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            with self._lock:
                self._stages[name] += spent

    def drawn(self, captured: float, boxes: int = 0) -> None:
        """A frame that was captured at that moment of ``time.monotonic()`` is drawn, with so many boxes."""
        now = time.monotonic()
        with self._lock:
            self._latest = now - captured
            if self._frames % self._every == 0:
                self._latencies.append(self._latest)
                if len(self._latencies) >= _SAMPLES:
                    del self._latencies[1::2]
                    self._every *= 2
            self._frames += 1
            self._boxes += boxes
            self._recent.append(now)
            self._last = now

    @property
    def frames(self) -> int:
        """Frames that are drawn so far."""
        return self._frames

    @property
    def live_fps(self) -> float:
        """Frames a second over the last second or so; 0 before there are two."""
        with self._lock:
            span = self._recent[-1] - self._recent[0] if len(self._recent) > 1 else 0.0
            return (len(self._recent) - 1) / span if span > 0 else 0.0

    @property
    def live_latency_ms(self) -> float:
        """The last frame's time from capture to drawn in milliseconds."""
        with self._lock:
            return self._latest * 1e3

    def stats(self) -> Stats:
        """The figures so far."""
        with self._lock:
            wall = self._last - self._started
            p50, p95 = np.percentile(self._latencies, [50, 95]) * 1e3 if self._latencies else (0.0, 0.0)
            return Stats(
                frames=self._frames,
                dropped=self.dropped,
                wall_s=wall,
                fps=self._frames / wall if wall > 0 else 0.0,
                latency_ms={"p50": float(p50), "p95": float(p95)},
                stages_ms={name: total * 1e3 / max(self._frames, 1) for name, total in self._stages.items()},
                boxes=self._boxes,
            )
