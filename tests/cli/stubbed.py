"""A detector that needs no network, and ``ssdcam`` with it: ``python stubbed.py ARGUMENTS``.

What it finds depends on the picture alone, so that wrong, lost or swapped frames show in the records. It starts ten
times as fast as a real one; everything else of the command line is the real thing.

Environment: SSDCAM_STUB_SLEEP, seconds a batch; SSDCAM_STUB_FAIL, the picture at which it raises;
SSDCAM_STUB_WINDOW, seconds that the window takes to show a picture; SSDCAM_STUB_SHOWN, a file that is there once the
window has shown one; SSDCAM_STUB_PATIENCE, seconds that a stream may keep silent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssdcam.detection import detector as detector_module
from ssdcam.detection.detector import Detector
from ssdcam.errors import UnavailableError
from ssdcam.ssd.host import PackedBoxes
from ssdcam.ssd.spec import NmsFigures, Selection

LABELS = ("dark", "grey", "bright")


class StubEngine:
    """Finds a box in each picture (few in some) that its brightness places.

    Args:
        sleep: seconds that each batch takes.
        fail_at: the picture, counted from 0, at which it raises.

    Attributes:
        batches: sizes of the batches that it was given.
    """

    name, device, precision = "stub", "cpu", "fp32"

    def __init__(self, sleep: float = 0.0, fail_at: int | None = None) -> None:
        self.batches: list[int] = []
        self._sleep = sleep
        self._fail_at = fail_at
        self._device_queue = ThreadPoolExecutor(1)  # as an accelerator has one

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Any, Any]:
        time.sleep(self._sleep)
        self.batches.append(len(batch))
        if self._fail_at is not None and sum(self.batches) > self._fail_at:
            raise UnavailableError("the stub was told to fail")
        half = batch.shape[1] // 2
        parts = (batch[:, :half, :half], batch[:, :half, half:], batch[:, half:, :half], batch[:, half:, half:])
        means = np.stack([part.mean(axis=(1, 2, 3)) for part in parts], axis=1) / 256
        return means, means

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Any, Any]]:
        return self._device_queue.submit(lambda: self.infer(batch)).result

    def decode(self, locations: Any, raw_scores: Any, selection: Selection) -> PackedBoxes:
        found = []
        for image, (a, b, c, d) in enumerate(locations):
            for score, shift in ((0.9, 0.0), (0.6, 0.1), (0.3, 0.2)):
                if score >= selection.score and int((a + b + c + d) * 64 + shift * 100) % 5:  # in some pictures, none
                    box = (a * 0.4 + shift, b * 0.4, 0.6 + c * 0.4, 0.6 + d * 0.4)
                    found.append((box, score, int((a + b + c + d) / 4 * len(LABELS)), image))
        boxes, scores, kinds, images = zip(*found, strict=True) if found else ((), (), (), ())
        return PackedBoxes(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(kinds, np.int64),
            np.array(images, np.int64),
        )


def stub_detector(*, score: float = 0.5, sleep: float = 0.0, fail_at: int | None = None) -> Detector:
    """The real detector class with the stub for an engine."""
    spec = cast(Any, SimpleNamespace(labels=LABELS, input_size=(32, 32)))
    return Detector(StubEngine(sleep, fail_at), spec, Selection(score, NmsFigures()))


def _load(model: str | None = None, *, score: float = 0.5, **options: Any) -> Detector:
    fail_at = os.environ.get("SSDCAM_STUB_FAIL")
    sleep = float(os.environ.get("SSDCAM_STUB_SLEEP", "0"))
    return stub_detector(score=score, sleep=sleep, fail_at=int(fail_at) if fail_at else None)


def _change_windows(seconds: float, shown: str | None) -> None:
    from ssdcam.media.window import Window

    show, key = Window.show, Window.key

    def slow(self: Window, image: NDArray[np.uint8]) -> None:
        time.sleep(seconds)
        show(self, image)

    def telling(self: Window) -> str | None:
        pressed = key(self)  # when it has drawn what is to be shown
        if shown and self._shown:
            Path(shown).touch()
        return pressed

    Window.show, Window.key = slow, telling  # type: ignore[method-assign]


def _wait_longer(seconds: float) -> None:
    """For streams whose server is as slow as the machine that it runs on."""
    from ssdcam.media.sources.stream import StreamSource

    StreamSource.__init__.__kwdefaults__.update(open_timeout=seconds, read_timeout=seconds)


def batches_of(detector: Detector) -> Sequence[int]:
    """Sizes of the batches that a stub detector was given."""
    return cast(StubEngine, detector.engine).batches


if __name__ == "__main__":
    from ssdcam.cli import main

    detector_module.load = _load  # type: ignore[assignment]
    if "SSDCAM_STUB_PATIENCE" in os.environ:
        _wait_longer(float(os.environ["SSDCAM_STUB_PATIENCE"]))
    slow, shown = os.environ.get("SSDCAM_STUB_WINDOW"), os.environ.get("SSDCAM_STUB_SHOWN")
    if slow or shown:
        _change_windows(float(slow or 0), shown)
    main()
