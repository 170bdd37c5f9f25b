"""OpenCV and then PyAV: the one place that imports PyAV, so that nobody gets the order wrong.

Both bring FFmpeg and what it needs; where PyAV's copies load first, ``cv2.imshow`` hangs. Import ``av`` from here, and
this module no sooner than a video is to be read or written: pictures need none of it.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ssdcam.addresses import is_url
from ssdcam.errors import UnavailableError, stop_within

# SVT-AV1 writes its settings to stderr past FFmpeg's log; it reads this when it first has something to say.
os.environ.setdefault("SVT_LOG", "0")

try:
    import cv2  # noqa: F401, I001  # before PyAV
    import av
except ImportError as error:
    if stop := stop_within(error):
        raise stop from None
    raise UnavailableError(f"video files need opencv-python and av (PyAV): {error}") from error

__all__ = ["IMAGE_PIPE", "Packet", "av", "lacks_pts", "open_encoder", "open_to_read", "reason"]

IMAGE_PIPE = "image2pipe"
"""FFmpeg's demuxer of pictures that come one after the other, whatever their kind; ``jpeg_pipe`` is that of one."""

# Of sched_setscheduler(2): SCHED_FIFO and SCHED_RR, which Python has on Linux only.
_REAL_TIME = (1, 2)

av.logging.set_level(None)  # FFmpeg's log goes nowhere: what matters comes back as errors

if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Any]
else:
    Packet = av.Packet


# Texts in a file, such as its title, need not be in UTF-8. From PyAV 19 on, that is no error to it.
_ANY_TEXT: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}


def open_to_read(url: str, **options: Any) -> av.container.InputContainer:
    """Open a file, as ``file:PATH``, or a stream, whatever the letters in its texts are; options as PyAV has them.

    A picture on a server is read as it comes. For what its address ends in, FFmpeg takes ``x/snapshot.jpg`` for a video
    of one frame, which is none where the server does not say how large it is.

    Packets have the times that are stored, or follow from the codec. PyAV has FFmpeg make up others, which for AVI is
    the next packet's time of decoding: a frame late, and in disorder where frames are decoded in another order.

    Raises:
        av.FFmpegError: it cannot be read.
        OSError: as from any file.
    """
    container: av.container.InputContainer = av.open(url, "r", **options, **_ANY_TEXT)
    if container.format.name == "image2" and is_url(url):
        container.close()
        container = av.open(url, "r", **{**options, "format": IMAGE_PIPE}, **_ANY_TEXT)
    if lacks_pts(container):
        container.flags &= ~cast(int, av.container.Flags.gen_pts.value)
    return container


def lacks_pts(container: av.container.InputContainer) -> bool:
    """Whether a file is of a format, AVI, that says when frames are decoded, but not when they are shown."""
    return container.format.name == "avi"


def reason(error: Exception) -> str:
    """What went wrong, in the operating system's or FFmpeg's words, without the file's name."""
    return getattr(error, "strerror", None) or str(error)


def open_encoder(encoder: av.VideoCodecContext) -> None:
    """Open an encoder; its threads, and the one that calls this, are scheduled as that was before.

    SVT-AV1 gives itself and who calls it the highest real-time priority there is if it may, as root on the machine
    itself and in privileged containers: until the video is done nothing else gets a core that it wants.

    Raises:
        av.FFmpegError: it does not open.
    """
    before = _schedules()
    try:
        encoder.open()
    finally:
        here = threading.get_native_id()
        for thread, schedule in _schedules().items() if here in before else ():
            if schedule != before.get(thread) and (thread == here or schedule[0] in _REAL_TIME):
                with suppress(OSError):  # it may have ended
                    os.sched_setscheduler(thread, before[here][0], os.sched_param(before[here][1]))


def _schedules() -> dict[int, tuple[int, int]]:
    """Policy and priority of this process' threads, as Linux numbers them; empty elsewhere, or if that is secret."""
    found = {}
    with suppress(OSError, AttributeError):
        for entry in Path("/proc/self/task").iterdir():
            thread = int(entry.name)
            with suppress(ProcessLookupError):  # it may have ended
                found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
    return found
