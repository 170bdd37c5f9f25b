"""Someone who watches: results in a window, keys that steer the run. On the main thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ssdcam.errors import ImageError
from ssdcam.media.drawing import Image, draw_panel
from ssdcam.media.images import write_image
from ssdcam.media.sources.paced import Pacer
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


class Viewer:
    """Shows results as they come and does what keys say.

    Args:
        pipeline: the run.
        frames: results with their detections drawn.
        window: where to show them.
        recorder: what the r key switches.
        folder: where snapshots go.
        pacer: holds frames of a file back until their time; None shows them as they come.
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
        pacer: Pacer | None,
        tell: Callable[[str], None],
    ) -> None:
        self._pipeline = pipeline
        self._frames = frames
        self._window = window
        self._recorder = recorder
        self._folder = folder
        self._pacer = pacer
        self._tell = tell
        self._image: Image | None = None
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
        while not self.quit and not self._frames.finished:
            shown = [] if self._paused else self._frames.get(timeout=0.02)
            if shown:
                if self._pacer:
                    self._pacer.wait(shown[0].frame.pts)
                self._image = shown[0].frame.image
            if self._image is not None:
                self._window.show(self._decorated(self._image))
            key = self._window.key()
            if key in self._keys:
                self._keys[key]()
            tick()

    def _decorated(self, image: Image) -> Image:
        """The picture with help or a notice on a copy: what is recorded and snapped stays clean."""
        lines = HELP if self._helping else ()
        if time.monotonic() < self._notice_until:
            lines = (*lines, self._notice)
        if self._paused:
            lines = (*lines, "paused: space goes on")
        if self._recorder.recording:
            lines = (*lines, "recording: r ends it")
        if not lines:
            return image
        image = image.copy()
        draw_panel(image, lines, bottom=True)
        return image

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
