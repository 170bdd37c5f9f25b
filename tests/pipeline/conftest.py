"""Sources and sinks that do as they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Event
from typing import Any

import numpy as np
import pytest

from ssdcam.detections import Detections
from ssdcam.media.frame import Frame
from ssdcam.pipeline.run import Pipeline, Result
from ssdcam.pipeline.timing import Timing

from ..cli.stubbed import stub_detector
from ..waiting import GUARD


def nothing_drawn(surface: Any, detections: Detections, timing: Timing) -> None:
    """Draws nothing."""


@dataclass
class ListedSource:
    """Gives so many frames, each its own number's grey; then ends, or fails.

    Attributes:
        count: frames that it has; None is no end.
        live: as sources say it.
        failure: raised behind the last frame.
        gate: called with each frame's number before it is given.
        given: how many were given.
    """

    count: int | None = 20
    live: bool = False
    failure: Exception | None = None
    gate: Callable[[int], None] = lambda index: None
    given: int = 0
    shape: tuple[int, int] = (24, 32)
    pixel_aspect: Fraction = Fraction(1)

    def read(self) -> Frame | None:
        if self.given == self.count:
            if self.failure:
                raise self.failure
            return None
        self.gate(self.given)
        index, self.given = self.given, self.given + 1
        image = np.full((*self.shape, 3), index % 251, np.uint8)
        return Frame(index, index / 30, image, time.monotonic())


@dataclass
class ListSink:
    """Keeps what it gets.

    Attributes:
        drawn: as sinks say it.
        gate: called with each result before it is taken.
        frames: the numbers of the frames that it got.
    """

    drawn: bool = False
    gate: Callable[[Result], None] = lambda result: None
    frames: list[int] = field(default_factory=list)

    def write(self, result: Result) -> None:
        self.gate(result)
        assert not result.frame.image.size or result.frame.image.max() == result.frame.index % 251
        self.frames.append(result.frame.index)


def run_to_end(source: Any, sinks: list[Any], detector: Any = None, stop: Event | None = None, **more: Any) -> Pipeline:
    """Run a pipeline until it ends by itself."""
    stop = stop or Event()
    timing = more.pop("timing", None) or Timing()
    draw = more.pop("draw", nothing_drawn)
    guard = more.pop("guard", GUARD)
    pipeline = Pipeline(source, detector or stub_detector(), sinks, draw, timing=timing, stop=stop, **more)
    pipeline.start()
    deadline = time.monotonic() + guard

    def tick() -> None:
        if time.monotonic() > deadline:
            stop.set()
            pytest.fail("the pipeline hangs")

    pipeline.join(tick)
    return pipeline


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No thread outlives its run."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("ssdcam")]
    assert not left
