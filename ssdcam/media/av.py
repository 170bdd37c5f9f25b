"""OpenCV and then PyAV: the one place that imports PyAV, so that nobody gets the order wrong.

Both bring FFmpeg and what it needs; where PyAV's copies load first, ``cv2.imshow`` hangs. Import ``av`` from here, and
this module no sooner than a video is to be read or written: pictures need none of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from ssdcam.errors import UnavailableError

# SVT-AV1 writes its settings to stderr past FFmpeg's log; it reads this when it first has something to say.
os.environ.setdefault("SVT_LOG", "0")

try:
    import cv2  # noqa: F401, I001  # before PyAV
    import av
except ImportError as error:
    raise UnavailableError(f"video files need opencv-python and av (PyAV): {error}") from error

__all__ = ["Packet", "av", "reason"]

av.logging.set_level(None)  # FFmpeg's log goes nowhere: what matters comes back as errors

if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Any]
else:
    Packet = av.Packet


def reason(error: Exception) -> str:
    """What went wrong, in the operating system's or FFmpeg's words, without the file's name."""
    return getattr(error, "strerror", None) or str(error)
