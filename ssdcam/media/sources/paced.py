"""Playing at a video's own pace what could be read faster."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from fractions import Fraction

from ssdcam.media.frame import Frame
from ssdcam.media.sources.source import Source

# A clock that jumps further, in seconds, was set: streams do that where one programme follows another.
_LONGEST_WAIT = 10.0


class Pacer:
    """Holds each frame back until its time has come, as a player does.

    Args:
        stop: ends the waiting at once when set.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._zero = math.nan  # when, by the monotonic clock, the frame of time 0 is due
        self._last = math.nan

    def wait(self, pts: float, *, held_up: bool = False) -> None:
        """Wait until a frame is due; one that is late is not waited for.

        Args:
            pts: its time in seconds.
            held_up: whether it was not there sooner: if it is late, those behind it are later by as much, for they come
                no sooner either, and would be shown all at once.
        """
        now = time.monotonic()
        if not 0 <= pts - self._last <= _LONGEST_WAIT or (held_up and self._zero + pts < now):
            self._zero = now - pts
        self._last = pts
        self._stop.wait(max(self._zero + pts - now, 0.0))


class PacedSource(Source):
    """Another source's frames, each at its time: a file that plays as if it were a camera.

    Args:
        source: what to play; closed together with this.
        stop: when set, waiting and the frames end.
    """

    live = True

    def __init__(self, source: Source, stop: threading.Event | None = None) -> None:
        self._source = source
        self._stop = stop or threading.Event()
        self._pacer = Pacer(self._stop)
        self.name = source.name
        self.width, self.height = source.width, source.height
        self.rate: Fraction | None = source.rate
        self.frame_count, self.duration, self.colours = source.frame_count, source.duration, source.colours
        self.pixel_aspect = source.pixel_aspect

    def read(self) -> Frame | None:
        """The next frame, when it is due; None at the end or once ``stop`` is set.

        Raises:
            SourceError: as the source that is played.
        """
        frame = None if self._stop.is_set() else self._source.read()
        if frame is None:
            return None
        self._pacer.wait(frame.pts)
        return None if self._stop.is_set() else replace(frame, captured=time.monotonic())

    def close(self) -> None:
        """Close the source that is played."""
        self._source.close()
