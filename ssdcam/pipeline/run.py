"""Frames from a source through the detector to sinks, in three threads over two bounded queues.

    reader --[wait | newest]--> detection --[wait]--> writer

The caller's thread stays free: for a window, which must live on the main thread, and for Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from threading import Event, Lock, Thread
from typing import Any, Protocol

import numpy as np

from ssdcam.detection.detector import Detector
from ssdcam.detections import Detections
from ssdcam.media.frame import Frame
from ssdcam.media.surface import Surface
from ssdcam.memory import memory
from ssdcam.pipeline.channel import Channel
from ssdcam.pipeline.timing import Timing

# Frames that wait before and after the detector: enough to ride out a slow one, few enough for 4K in memory.
_DEPTH = 4

# Steps of priority that the network gives up. With 4, 1080p took a tenth longer on two cores, where encoding sets the
# pace; more help little further, and leave it less of a machine that has other work.
_LATER = 8


def default_batch(device: str) -> int:
    """Frames that go through the network together on a device where nobody says otherwise."""
    return 4 if device == "cpu" else 8


def batch_that_fits(batch: int, width: int, height: int) -> int:
    """As many frames as that go through the network together, or fewer where frames are large for the machine's memory.

    What is found does not depend on it. All frames on their way, which are four times as many and two, shall take half
    of the memory at most, at three bytes a pixel.
    """
    there = memory()
    if there is None:
        return batch
    frames = there.total // 2 // (3 * width * height)
    return max(1, min(batch, (frames - 2) // 4))


class Source(Protocol):
    """What the pipeline asks of a source; see ``ssdcam.media.sources``."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace, so that only the newest counts."""

    def read(self) -> Frame | None:
        """The next frame; None at the end; trouble raises."""


@dataclass(frozen=True, eq=False)
class Result:
    """A frame that went through the detector."""

    frame: Frame
    detections: Detections


@dataclass(frozen=True)
class _Begun:
    """A batch that is on its way through the network."""

    frames: list[Frame]
    detector: Detector
    raw: Callable[[], tuple[Any, Any]]


class Sink(Protocol):
    """Takes results in order, in the writer's thread."""

    @property
    def drawn(self) -> bool:
        """Whether it wants the frame with boxes drawn into it, rather than as it came."""

    def write(self, result: Result) -> None:
        """Take a result; trouble raises and ends the run."""


class Pipeline:
    """One run over one source.

    Args:
        source: where frames come from; the caller opens and closes it.
        detector: what finds objects; may be replaced while the run goes on.
        sinks: where results go; the caller opens and closes them.
        draw: draws detections, and whatever else is wanted, on a frame; called once a frame if any sink wants it.
        timing: collects the run's figures.
        stop: ends the run when set, and is set when the run fails.
        batch: frames that go through the network together, for sources that are not live.
        max_frames: ends the run after so many results.
        duration: ends the run so many seconds after its first frame.
        on_end: called once no more results will reach the sinks.
        in_bgr: whether frames are drawn on in BGR, for sinks that ask for ``Frame.image``: of one in luma and chroma it
            is made anew each time.

    Attributes:
        detector: as above.
        paused: set it to hold a source that is not live.
    """

    def __init__(
        self,
        source: Source,
        detector: Detector,
        sinks: Sequence[Sink],
        draw: Callable[[Surface, Detections, Timing], None],
        *,
        timing: Timing,
        stop: Event,
        batch: int = 1,
        max_frames: int | None = None,
        duration: float | None = None,
        on_end: Callable[[], None] = lambda: None,
        in_bgr: bool = False,
    ) -> None:
        self.detector = detector
        self.timing = timing
        self.paused = Event()
        self._source = source
        self._sinks = sinks
        self._drawn = [sink for sink in sinks if sink.drawn]
        self._in_bgr = in_bgr
        self._draw = draw
        self._batch = 1 if source.live else batch
        self._max_frames = max_frames
        self._duration = duration
        self._end = inf  # of the run, by the monotonic clock
        self._stop = stop
        self._failure: Exception | None = None
        self._failing = Lock()
        self._frames: Channel[Frame] = Channel(
            1 if source.live else max(_DEPTH, self._batch), self._stop, newest=source.live
        )
        self._results: Channel[Result] = Channel(1 if source.live else max(_DEPTH, self._batch), self._stop)
        self._threads: list[tuple[Thread, Event]] = []
        for name, work, done in (
            ("reader", self._read, self._frames.close),
            ("detection", self._detect, self._results.close),
            ("writer", self._write, on_end),
        ):
            ended = Event()
            thread = Thread(target=self._guard, args=(work, done, ended), name=f"ssdcam-{name}", daemon=True)
            self._threads.append((thread, ended))

    def start(self) -> None:
        """Start the threads."""
        for thread, _ in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the run, whatever is still on its way; returns when no thread works any more.

        Ctrl-C is no reason to return before, for the caller closes what they work with. A thread that was about to be
        started does nothing.
        """
        self._stop.set()
        try:
            self.join()
        finally:
            self.join()

    def join(self, tick: Callable[[], None] = lambda: None) -> None:
        """Wait for the end of the run, waking often enough for Ctrl-C to be noticed.

        Args:
            tick: called about ten times a second.
        """
        for thread, ended in self._threads:
            # Not by Thread.join: when a signal interrupts it, Python before 3.13 takes the thread for ended
            # (python/cpython#90882). One that was not started yet has no identity, and nothing to end.
            while thread.ident is not None and not ended.wait(0.1):
                self.look_at_clock()
                tick()
            if thread.ident is not None:
                thread.join()  # its work is done

    @property
    def failure(self) -> Exception | None:
        """The first error that any thread met."""
        return self._failure

    def _guard(self, work: Callable[[], None], done: Callable[[], None], ended: Event) -> None:
        try:
            work()
        except Exception as error:  # the caller reports it
            with self._failing:
                self._failure = self._failure or error
            if work != self._read:  # what was read before the source failed still goes all the way
                self._stop.set()
        finally:
            try:
                done()
            finally:
                ended.set()

    def look_at_clock(self) -> None:
        """Stop the run when its time is up, even while the source is silent; whoever waits for the run calls this."""
        if time.monotonic() > self._end:
            self._stop.set()

    def _read(self) -> None:
        dropped_before = self.timing.dropped
        while not self._stop.is_set():
            if self.paused.is_set() and not self._source.live:
                self._stop.wait(0.05)
                continue
            with self.timing.stage("decode"):
                frame = self._source.read()
                if frame is not None and self._drawn:
                    self._to_draw_on(frame)  # the writer is the busiest thread: it shall not have to make it
            if frame is None:
                return
            if not self._frames.put(frame):
                return
            if self._end == inf and self._duration is not None:
                self._end = time.monotonic() + self._duration
            self.timing.dropped = dropped_before + self._frames.dropped

    def _to_draw_on(self, frame: Frame) -> Frame:
        return replace(frame, picture=frame.image) if self._in_bgr else frame.to_draw_on()

    def _detect(self) -> None:
        # While one batch is computed, the next one is fetched and made ready, and the last one's boxes are worked out.
        # A live source has no frame to spare for that: its only one is wanted at once.
        ahead: deque[_Begun] = deque()
        if not self._source.live:
            _give_way()
        while True:
            frames = self._frames.get(self._batch, 0 if ahead else None)
            if frames:
                ahead.append(self._begin(frames))
                if len(ahead) == 1 and not self._source.live:
                    continue
            if not ahead or not self._finish(ahead.popleft()):
                return

    def _begin(self, frames: list[Frame]) -> _Begun:
        detector = self.detector
        # A GPU prepares for each size of batch anew, which takes longer than the pictures that are not there.
        rows = len(frames) if detector.engine.device == "cpu" else self._batch
        with self.timing.stage("preprocess"):
            batch = np.empty((rows, *detector.spec.input_size, 3), np.uint8)
            for slot, frame in zip(batch, frames, strict=False):
                frame.resize_into(slot)
        if self._drawn:  # what they were made of is memory that nobody needs any more
            frames = [self._to_draw_on(frame) for frame in frames]
        with self.timing.stage("inference"):
            return _Begun(frames, detector, detector.submit(batch))

    def _finish(self, begun: _Begun) -> bool:
        """Pass a batch on; False if the run was stopped instead."""
        with self.timing.stage("inference"):
            locations, raw_scores = (part[: len(begun.frames)] for part in begun.raw())
        with self.timing.stage("postprocess"):
            found = begun.detector.decode((locations, raw_scores), [frame.size for frame in begun.frames])
        return all(self._results.put(Result(*each)) for each in zip(begun.frames, found, strict=True))

    def _write(self) -> None:
        plain = [sink for sink in self._sinks if not sink.drawn]
        drawn = self._drawn
        written = 0
        while results := self._results.get():
            for result in results:
                for sink in plain:
                    sink.write(result)
                with self.timing.stage("draw"):
                    if drawn:
                        self._draw(result.frame.surface, result.detections, self.timing)
                self.timing.drawn(result.frame.captured, len(result.detections))
                with self.timing.stage("encode"):
                    for sink in drawn:
                        sink.write(result)
                written += 1
                if written == self._max_frames:
                    self._stop.set()
                    return


def _give_way() -> None:
    """Let this thread, and those that an engine starts from it, wait for the others where cores are scarce.

    The network can fill every core there is. Reading and writing need a core for short whiles only, but when they get
    it late, the network soon has nothing to do: on two cores, a video takes a tenth longer. macOS and Windows have no
    such figure for a thread.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _LATER)
