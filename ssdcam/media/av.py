"""OpenCV and then PyAV: the one place that imports PyAV, so that nobody gets the order wrong.

Both bring FFmpeg and what it needs; where PyAV's copies load first, ``cv2.imshow`` hangs. Import ``av`` from here, and
this module no sooner than a video is to be read or written: pictures need none of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ssdcam.errors import UnavailableError

# SVT-AV1 writes its settings to stderr past FFmpeg's log; it reads this when it first has something to say.
os.environ.setdefault("SVT_LOG", "0")

try:
    import cv2  # noqa: F401, I001  # before PyAV
    import av
except ImportError as error:
    raise UnavailableError(f"video files need opencv-python and av (PyAV): {error}") from error

__all__ = ["Packet", "av", "open_encoder", "reason"]

# Of sched_setscheduler(2): SCHED_FIFO and SCHED_RR, which Python has on Linux only.
_REAL_TIME = (1, 2)

av.logging.set_level(None)  # FFmpeg's log goes nowhere: what matters comes back as errors

if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Any]
else:
    Packet = av.Packet


def reason(error: Exception) -> str:
    """What went wrong, in the operating system's or FFmpeg's words, without the file's name."""
    return getattr(error, "strerror", None) or str(error)


def open_encoder(encoder: av.VideoCodecContext) -> None:
    """Open an encoder, and let no thread come to run in real time by that.

    SVT-AV1 gives itself and who calls it the highest real-time priority there is if it may, which root may, and so most
    containers: until the video is done nothing else on the machine gets a core that it wants.

    Raises:
        av.FFmpegError: it does not open.
    """
    with _no_more_real_time():
        encoder.open()


@contextmanager
def _no_more_real_time() -> Iterator[None]:
    if sys.platform != "linux" or os.sched_getscheduler(0) in _REAL_TIME:  # the second is somebody's wish
        yield
        return
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            with suppress(OSError):  # it may have ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time_threads() -> set[int]:
    """Those of this process, as Linux numbers them."""
    found = set()
    with suppress(OSError):
        for entry in Path("/proc/self/task").iterdir():
            thread = int(entry.name)
            with suppress(OSError):
                if os.sched_getscheduler(thread) in _REAL_TIME:
                    found.add(thread)
    return found
