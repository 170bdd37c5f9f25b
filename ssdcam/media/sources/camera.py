"""Cameras of this machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ssdcam.detections import Image
from ssdcam.errors import SourceError
from ssdcam.media.sources import devices
from ssdcam.media.sources.live import LiveSource

# A camera that stalls keeps V4L2 waiting for as many seconds, 10 if nobody says otherwise; ``close`` may have to wait
# for that. OpenCV looks at it when it first waits.
_PATIENCE = 3.0
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", f"{_PATIENCE:.0f}")

# Rates that differ by less are the same rate, told in another way (29.97 and 30).
_SAME_RATE = 0.5


class Capture(Protocol):
    """What is needed of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802
    def set(self, prop: int, value: float, /) -> bool: ...  # noqa: D102
    def get(self, prop: int, /) -> float: ...  # noqa: D102
    def read(self) -> tuple[bool, cv2.typing.MatLike]: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


CaptureFactory = Callable[[int | str, int], Capture]


def _open_capture(camera: int | str, backend: int) -> Capture:
    return cv2.VideoCapture(camera, backend)


@dataclass(frozen=True)
class Settings:
    """How a camera works, or is to work.

    Attributes:
        size: width and height in pixels; None where it was not asked for.
        rate: frames a second as the driver states it, not as it keeps it; None where unknown or not asked for.
        fourcc: how it encodes the pictures, four letters; None likewise.
    """

    size: tuple[int, int] | None
    rate: float | None
    fourcc: str | None


class CameraSource(LiveSource):
    """A camera of this machine.

    Args:
        camera: its index, or on Linux its device.
        size: width and height to ask for, in pixels; None is the camera's own choice.
        fps: frames a second to ask for; None likewise.
        fourcc: the encoding to ask for. ``MJPG``: uncompressed, USB carries 5 to 10 large frames a second.
        reconnect: seconds to go on trying when it is unplugged; None gives up at once.
        stop: when set, waiting ends within 0.2 s, and so do the frames.
        on_event: told in a line when the camera does other than it was asked, is lost or is back.
        capture_factory: what opens it.

    Attributes:
        requested: what was asked for.
        actual: what it does, as the driver says.

    Raises:
        SourceError: there is no such camera, or it gives no picture; the message says what to do.
    """

    def __init__(
        self,
        camera: int | str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        fourcc: str | None = "MJPG",
        reconnect: float | None = None,
        stop: threading.Event | None = None,
        on_event: Callable[[str], None] | None = None,
        capture_factory: CaptureFactory = _open_capture,
    ) -> None:
        self._camera = camera
        self._capture_factory = capture_factory
        self.requested = self.actual = Settings(size, fps, fourcc)
        name = f"camera {camera}" if isinstance(camera, int) else camera
        super().__init__(name, self._plug, reconnect=reconnect, patience=_PATIENCE, stop=stop, on_event=on_event)

    def _plug(self) -> _CameraLink:
        if _is_missing(self._camera):
            raise SourceError(f"{self.name}: there is no such camera; {_alternatives()}")
        for backend in devices.BACKENDS.get(sys.platform, (cv2.CAP_ANY,)):
            capture = self._capture_factory(self._camera, backend)
            if capture.isOpened():
                link = _CameraLink(capture, self.name, self.requested)
                self.actual = link.settings
                return link
            capture.release()
        raise SourceError(f"{self.name}: {_hindrance(self._camera)}")


class _CameraLink:
    """A camera that was opened."""

    duration = None
    pixel_aspect = Fraction(1)
    colours = None

    def __init__(self, capture: Capture, name: str, wanted: Settings) -> None:
        self._capture = capture
        self._name = name
        self._given = False
        _configure(capture, wanted)
        self.settings = _settings(capture)
        self.rate = None if self.settings.rate is None else Fraction(self.settings.rate).limit_denominator(1001)
        self.remarks = _differences(wanted, self.settings)

    def read(self) -> Image | None:
        there, image = self._capture.read()
        if not there:
            raise SourceError(
                f"{self._name}: it stopped giving pictures (unplugged?)"
                if self._given
                else f"{self._name}: it opens but gives no picture; close other programs that use it, "
                "or ask for another size or fourcc"
            )
        self._given = True
        return np.asarray(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)

    def close(self) -> None:
        self._capture.release()


def _configure(capture: Capture, wanted: Settings) -> None:
    """Ask for everything, the encoding first: which sizes and rates there are depends on it."""
    if wanted.fourcc is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc.ljust(4)))
    if wanted.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
    if wanted.rate is not None:
        capture.set(cv2.CAP_PROP_FPS, wanted.rate)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a buffer is old when it is seen


def _settings(capture: Capture) -> Settings:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = (code & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
    rate = capture.get(cv2.CAP_PROP_FPS)
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return Settings(size, rate if 0 < rate < 1000 else None, letters if letters.isprintable() and letters else None)


def _differences(wanted: Settings, actual: Settings) -> tuple[str, ...]:
    """A line for each wish the camera did not fulfil; what the driver does not state counts as fulfilled."""
    lines = []
    if wanted.fourcc is not None and actual.fourcc not in (None, wanted.fourcc.strip()):
        lines.append(f"gives {actual.fourcc}, not {wanted.fourcc}")
    if wanted.size is not None and actual.size is not None and wanted.size != actual.size:
        lines.append("gives {}x{}, not {}x{}".format(*actual.size, *wanted.size))
    if wanted.rate is not None and actual.rate is not None and abs(wanted.rate - actual.rate) > _SAME_RATE:
        lines.append(f"gives {actual.rate:g} frames a second, not {wanted.rate:g}")
    return tuple(lines)


def _device(camera: int | str) -> Path:
    return Path(f"/dev/video{camera}" if isinstance(camera, int) else camera)


def _is_missing(camera: int | str) -> bool:
    """Whether a camera is certainly not there; only Linux tells without opening it."""
    return sys.platform == "linux" and not _device(camera).exists()


def _alternatives() -> str:
    there = ", ".join(map(str, devices.list_cameras()))
    return f"there is {there}" if there else "no camera is connected, or none that this machine knows how to use"


def _hindrance(camera: int | str) -> str:
    """Why a camera that may be there does not open, and what to do."""
    if sys.platform != "linux":
        return f"cannot be opened: not connected, in use by another program, or not allowed; {_alternatives()}"
    device = _device(camera)
    if not os.access(device, os.R_OK | os.W_OK):
        return f"not allowed to use {device}; join the group that may: sudo usermod -aG video $USER, then log in again"
    return (
        f"cannot be opened: another program may be using it (fuser -v {device} names it), or it gives no pictures; "
        + _alternatives()
    )
