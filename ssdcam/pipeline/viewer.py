"""Someone who watches: results in a window, keys that steer the run. On the main thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import nan
from pathlib import Path

from ssdcam.detections import Image
from ssdcam.errors import ImageError
from ssdcam.media.drawing import draw_panel
from ssdcam.media.images import write_image
from ssdcam.media.surface import BgrSurface
from ssdcam.media.window import Window
from ssdcam.pipeline.channel import Channel
from ssdcam.pipeline.run import Pipeline, Result
from ssdcam.pipeline.sinks import ClipRecorder, new_name

HELP = (
    "q Esc  quit",
    "space  pause",
    "s      snapshot",
    "r      record on / off",
    "+ -    score threshold",
    "f      full screen",
    "h      this help",
)

_SCORE_STEP = 0.05
_NOTICE_S = 2.5
_LEAP_S = 10.0


class _Clock:
    """Says how long to wait for a frame to be due. A time that leaps starts it anew."""

    def __init__(self, paced: bool) -> None:
        self._paced = paced
        self.restart()

    def restart(self) -> None:
        """Let the next frame be due at once."""
        self._zero = self._last = nan

    def wait_for(self, pts: float) -> float:
        """Seconds until the frame of that time is due."""
        if not self._paced:
            return 0.0
        now = time.monotonic()
        if not 0 <= pts - self._last <= _LEAP_S:
            self._zero = now - pts
        self._last = pts
        return self._zero + pts - now


class Viewer:
    """Shows results as they come and does what keys say.

    Args:
        pipeline: the run.
        frames: results with their detections drawn.
        window: where to show them.
        recorder: what the r key switches.
        folder: where snapshots go.
        paced: whether each frame is held back until its time, as a player does.
        tell: is told, in a line, what a key did.

    Attributes:
        quit: whether someone ended it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        frames: Channel[Result],
        window: Window,
        recorder: ClipRecorder,
        folder: Path,
        paced: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._pipeline = pipeline
        self._frames = frames
        self._window = window
        self._recorder = recorder
        self._folder = folder
        self._clock = _Clock(paced)
        self._tell = tell
        self._image: Image | None = None
        self._due: Result | None = None  # taken, but its time has not come
        self._shown: tuple[str, ...] | None = None  # what is written over the image on the screen
        self._paused = self._helping = self.quit = False
        self._notice, self._notice_until = "", 0.0
        self._keys: dict[str, Callable[[], None]] = {
            "q": self._leave,
            "escape": self._leave,
            "closed": self._leave,
            " ": self._pause,
            "s": self._snapshot,
            "r": self._record,
            "+": lambda: self._change_score(_SCORE_STEP),
            "=": lambda: self._change_score(_SCORE_STEP),  # the plus key without shift
            "-": lambda: self._change_score(-_SCORE_STEP),
            "f": window.toggle_full_screen,
            "h": self._help,
        }

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Show results until the run ends or someone quits; ``tick`` is called many times a second."""
        while not (self.quit or self._over()):
            self._take()
            if self._due is not None and not self._paused and self._clock.wait_for(self._due.frame.pts) <= 0:
                self._image, self._due = self._due.frame.image, None
                self._shown = None
            self._redraw()
            key = self._window.key()
            if key in self._keys:
                self._keys[key]()
            self._pipeline.look_at_clock()
            tick()

    def _over(self) -> bool:
        """Whether there is nothing left to look at. A pause at the end of a file lasts as long as any other."""
        if self._paused:
            return self._frames.stopped or (self._frames.closed and self._pipeline.failure is not None)
        return self._frames.stopped or (self._frames.finished and self._due is None)

    def _take(self) -> None:
        """Fetch the next frame, unless one is still waiting for its time."""
        if self._due is None and not self._paused:
            self._due = next(iter(self._frames.get(timeout=0.02)), None)

    def _redraw(self) -> None:
        """Show the frame if it, or what is written over it, has changed."""
        lines = self._lines()
        if self._image is None or lines == self._shown:
            return
        image = self._image
        if lines:  # on a copy: what is recorded and snapped stays clean
            image = image.copy()
            draw_panel(BgrSurface(image), lines, bottom=True)
        self._window.show(image)
        self._shown = lines

    def _lines(self) -> tuple[str, ...]:
        notes = (
            (self._notice, time.monotonic() < self._notice_until),
            ("paused: space goes on", self._paused),
            ("recording: r ends it", self._recorder.recording),
        )
        return (*(HELP if self._helping else ()), *(note for note, on in notes if on))

    def _note(self, text: str) -> None:
        self._notice, self._notice_until = text.encode("ascii", "replace").decode(), time.monotonic() + _NOTICE_S
        self._tell(text)

    def _leave(self) -> None:
        self.quit = True

    def _help(self) -> None:
        self._helping = not self._helping

    def _pause(self) -> None:
        self._paused = not self._paused
        if self._paused:
            self._pipeline.paused.set()
        else:
            self._pipeline.paused.clear()
            self._clock.restart()

    def _snapshot(self) -> None:
        if self._image is None:
            return
        path = new_name(self._folder, ".png")
        try:
            write_image(path, self._image)
        except ImageError as error:
            self._note(str(error))
        else:
            self._note(f"saved {path}")

    def _record(self) -> None:
        self._recorder.toggle()

    def _change_score(self, by: float) -> None:
        detector = self._pipeline.detector
        score = round(min(max(detector.selection.score + by, 0.05), 0.95), 2)
        self._pipeline.detector = detector.with_score(score)
        self._note(f"score {score:.2f}")
