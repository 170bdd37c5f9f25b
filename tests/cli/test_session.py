"""What ``video`` and ``webcam`` draw."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from threading import Event

import numpy as np
import pytest

from ssdcam.cli.session import Look, run
from ssdcam.detections import Detections
from ssdcam.media.drawing import Style
from ssdcam.media.surface import BgrSurface
from ssdcam.pipeline.run import Pipeline
from ssdcam.pipeline.timing import Timing

from ..pipeline.conftest import ListedSource
from .stubbed import stub_detector


@pytest.mark.parametrize("size", [(160, 120), (640, 480), (1920, 1080)])
def test_figures_lie_beneath_boxes_and_labels(size: tuple[int, int]) -> None:
    width, height = size
    box = np.array([[2, 2, width / 2, height / 2]], np.float32)
    found = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64), ("person",))
    blank = np.full((height, width, 3), 200, np.uint8)
    plain, both, figures = blank.copy(), blank.copy(), blank.copy()
    timing = Timing()
    for _ in range(2):
        timing.drawn(time.monotonic())
    Look(Style(), figures=False, window=False).draw(BgrSurface(plain), found, timing)
    Look(Style(), figures=True, window=False).draw(BgrSurface(both), found, timing)
    Look(Style(), figures=True, window=False).draw(BgrSurface(figures), Detections.empty(), timing)
    drawn, shaded = (np.any(image != blank, axis=2) for image in (plain, figures))
    assert (drawn & shaded).any(), "they do not meet"
    np.testing.assert_array_equal(both[drawn], plain[drawn])
    np.testing.assert_array_equal(both[~drawn], figures[~drawn])


def test_there_are_no_figures_before_the_second_frame() -> None:
    image = np.full((480, 640, 3), 200, np.uint8)
    timing = Timing()
    for _ in range(2):  # the first frame is drawn before it is counted
        Look(Style(), figures=True, window=False).draw(BgrSurface(image), Detections.empty(), timing)
        assert (image == 200).all()
        timing.drawn(time.monotonic())
    Look(Style(), figures=True, window=False).draw(BgrSurface(image), Detections.empty(), timing)
    assert not (image == 200).all()


def test_a_stop_at_the_very_start_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on reading from what is closed by then."""
    start = Pipeline.start

    def start_and_stop(pipeline: Pipeline) -> None:
        start(pipeline)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "start", start_and_stop)
    source = ListedSource(None, gate=lambda index: time.sleep(0.05))
    monkeypatch.setattr(source, "rate", Fraction(25), raising=False)
    look = Look(Style(), figures=False, window=False)
    with pytest.raises(KeyboardInterrupt):
        run(source, stub_detector(), [], look, timing=Timing(), stop=Event())  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if thread.name in ("ssdcam-reader", "ssdcam-detection")]
