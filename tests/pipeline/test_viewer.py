"""What keys do, with a window that is none; a real one is in ``tests/media/test_window.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, cast

import cv2
import numpy as np
import pytest

from ssdcam.media.window import Window
from ssdcam.pipeline.channel import Channel
from ssdcam.pipeline.run import Pipeline, Result
from ssdcam.pipeline.sinks import ClipRecorder, ScreenSink
from ssdcam.pipeline.timing import Timing
from ssdcam.pipeline.viewer import HELP, Viewer

from ..cli.stubbed import stub_detector
from ..media.clips import frame_times
from .conftest import ListedSource, nothing_drawn


@dataclass
class FakeWindow:
    """Presses the keys that a script gives, one a look; then q. A number in it waits for so many more pictures.

    Attributes:
        shown: copies of the pictures that were shown.
        full_screen: how often it was toggled.
    """

    script: Iterator[str | int | None]
    shown: list[np.ndarray] = field(default_factory=list)
    full_screen: int = 0
    wanted: int = 0

    def show(self, image: np.ndarray) -> None:
        self.shown.append(image.copy())

    def key(self) -> str | None:
        if len(self.shown) < self.wanted:
            return None
        entry = next(self.script, "q")
        if isinstance(entry, int):
            self.wanted = len(self.shown) + entry
            return None
        return entry

    def toggle_full_screen(self) -> None:
        self.full_screen += 1


@dataclass
class Session:
    """A viewer and all around it."""

    viewer: Viewer
    pipeline: Pipeline
    window: FakeWindow
    told: list[str]
    folder: Path


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Runs a viewer over an endless video while the keys of a script are pressed."""
    stop = Event()

    def start(script: Iterator[str | int | None], count: int | None = None, *, paced: bool = False) -> Session:
        told: list[str] = []
        window = FakeWindow(script)
        screen: Channel[Result] = Channel(2, stop)
        recorder = ClipRecorder(tmp_path, Fraction(30), told.append, told.append)
        source = ListedSource(count, shape=(240, 320))
        pipeline = Pipeline(
            source, stub_detector(), [ScreenSink(screen), recorder], nothing_drawn,
            timing=Timing(), stop=stop, on_end=screen.close,
        )  # fmt: skip
        viewer = Viewer(pipeline, screen, cast(Window, window), recorder, tmp_path, paced, told.append)
        pipeline.start()
        try:
            viewer.run()
        finally:
            pipeline.stop()
            recorder.close()
        return Session(viewer, pipeline, window, told, tmp_path)

    yield start
    stop.set()


def script(*keys: str, pause: int = 5) -> Iterator[str | int | None]:
    """Keys with some pictures between them."""
    for key in keys:
        yield pause
        yield key
    yield pause


def endless() -> Iterator[str | int | None]:
    """No key for a long time."""
    for _ in range(1000):
        time.sleep(0.005)
        yield None


def grey(image: Any) -> set[int]:
    """The values in the part of a picture that nothing is drawn on."""
    return set(np.unique(image[:10]).tolist())


@pytest.mark.parametrize("key", ["q", "escape", "closed"])
def test_quitting(watch: Callable[..., Session], key: str) -> None:
    session = watch(iter([None, None, key, "f"]))
    assert session.viewer.quit
    assert session.window.full_screen == 0, "nothing is done behind it"


@pytest.mark.parametrize("paced", [False, True])
def test_the_end_of_the_video_is_no_quitting(watch: Callable[..., Session], paced: bool) -> None:
    """And comes behind its last picture."""
    session = watch(endless(), count=12, paced=paced)
    assert not session.viewer.quit
    assert {value for image in session.window.shown for value in grey(image)} == set(range(12))


def test_space_pauses(watch: Callable[..., Session]) -> None:
    session = watch(iter([30, " ", *[None] * 30]))
    assert session.pipeline.paused.is_set()
    paused = [image for image in session.window.shown if len(np.unique(image)) > 1]  # which it says on the picture
    assert paused
    assert len({value for image in paused for value in grey(image)}) == 1


def test_a_pause_at_the_end_of_the_video_lasts(watch: Callable[..., Session]) -> None:
    def press() -> Iterator[str | int | None]:
        yield 11
        yield " "
        for _ in range(100):  # long after the last picture is there
            time.sleep(0.005)
            yield None
        yield " "
        yield from endless()

    session = watch(press(), count=12)
    assert not session.viewer.quit
    assert {value for image in session.window.shown for value in grey(image)} == set(range(12))
    assert len(session.window.shown) > 12, "that it is paused was shown"


def test_a_second_space_goes_on(watch: Callable[..., Session]) -> None:
    session = watch(iter([20, " ", *[None] * 20, " ", 20]))
    assert not session.pipeline.paused.is_set()
    assert len(np.unique(session.window.shown[-1])) == 1


def test_a_snapshot_has_no_help_on_it(watch: Callable[..., Session]) -> None:
    session = watch(script("h", "s"))
    (path,) = session.folder.glob("ssdcam-*.png")
    assert session.told == [f"saved {path}"]
    assert len(np.unique(cv2.imread(str(path)))) == 1


def test_a_snapshot_that_cannot_be_saved(watch: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssdcam.pipeline.viewer.new_name", lambda folder, suffix: folder / "no" / f"x{suffix}")
    session = watch(script("s", "f"))
    assert len(session.told) == 1
    assert "x.png" in session.told[0]
    assert session.window.full_screen == 1, "it goes on"


def test_recording_on_and_off(watch: Callable[..., Session]) -> None:
    session = watch(script("r", "r", pause=10))
    (path,) = session.folder.glob("ssdcam-*.mp4")
    assert session.told == [f"recorded {path}"]
    assert len(frame_times(path)) >= 5


def test_quitting_ends_a_recording(watch: Callable[..., Session]) -> None:
    session = watch(script("r", pause=10))
    (path,) = session.folder.glob("ssdcam-*.mp4")
    assert len(frame_times(path)) >= 5


@pytest.mark.parametrize(
    ("keys", "score"),
    [("+", 0.55), ("=", 0.55), ("-", 0.45), ("++-", 0.55), ("+" * 20, 0.95), ("-" * 20, 0.05)],
)
def test_the_score(watch: Callable[..., Session], keys: str, score: float) -> None:
    session = watch(script(*keys, pause=1))
    assert session.pipeline.detector.selection.score == pytest.approx(score)
    assert session.told[-1] == f"score {score:.2f}"


def test_full_screen(watch: Callable[..., Session]) -> None:
    assert watch(script("f", "f", "f")).window.full_screen == 3


def test_help_and_back(watch: Callable[..., Session]) -> None:
    shown = watch(script("h", "h", pause=8)).window.shown
    drawn = [len(np.unique(image)) > 1 for image in shown]
    assert drawn[0] is False
    assert sum(drawn) >= 6
    assert drawn[-1] is False


def test_other_keys_do_nothing(watch: Callable[..., Session]) -> None:
    session = watch(script("x", "7", "é"))
    assert not session.told
    assert all(len(np.unique(image)) == 1 for image in session.window.shown)


def test_help_tells_every_key() -> None:
    text = " ".join(HELP)
    for word in ("q", "Esc", "space", "s ", "r ", "+", "-", "f ", "h "):
        assert word in text
