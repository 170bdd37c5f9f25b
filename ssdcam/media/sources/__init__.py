"""Where frames come from: video files, cameras and network streams."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from ssdcam.addresses import is_url
from ssdcam.media.sources.camera import CameraSource
from ssdcam.media.sources.devices import Camera, Mode, list_cameras
from ssdcam.media.sources.file import FileSource
from ssdcam.media.sources.paced import PacedSource
from ssdcam.media.sources.source import Source
from ssdcam.media.sources.stream import StreamSource

__all__ = [
    "Camera",
    "CameraSource",
    "FileSource",
    "Mode",
    "PacedSource",
    "Source",
    "StreamSource",
    "list_cameras",
    "open_source",
]


def open_source(
    text: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    fourcc: str | None = "MJPG",
    reconnect: float | None = 60.0,
    stop: threading.Event | None = None,
    on_event: Callable[[str], None] | None = None,
) -> Source:
    """Open whatever ``webcam`` takes; every source it gives is live.

    Args:
        text: a camera's index or device, a URL, or a video file, which is played at its own pace.
        size: width and height to ask a camera for, in pixels.
        fps: frames a second to ask a camera for.
        fourcc: the encoding to ask a camera for.
        reconnect: seconds to go on trying when a camera or stream is lost; None gives up at once.
        stop: when set, waiting ends within 0.2 s, and so do the frames.
        on_event: told in a line what a user should know: the source is lost, back, or not as asked for.

    Raises:
        SourceError: it cannot be opened; the message says why.
    """
    if is_url(text):
        return StreamSource(text, reconnect=reconnect, stop=stop, on_event=on_event)
    # isascii: isdigit alone takes other scripts' digits, and superscripts, too
    if (text.isascii() and text.isdigit()) or re.match(r"/dev/(video|v4l/)", text):
        camera = int(text) if text.isdigit() else text
        return CameraSource(
            camera, size=size, fps=fps, fourcc=fourcc, reconnect=reconnect, stop=stop, on_event=on_event
        )
    return PacedSource(FileSource(text), stop)
