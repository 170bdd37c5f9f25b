"""Network streams: RTSP cameras, MJPEG and HLS over HTTP, and video files on web servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from ssdcam.addresses import redact
from ssdcam.detections import Image
from ssdcam.errors import SourceError
from ssdcam.media.av import IMAGE_PIPE, av
from ssdcam.media.sources.decoder import Decoder, NoVideoError
from ssdcam.media.sources.live import LiveSource
from ssdcam.media.sources.paced import Pacer

# RTSP over TCP where the server can: over UDP, pictures break up on the smallest loss. Before a stream is open, FFmpeg
# looks at so many of its pictures and the next one for their rate: of one a second, the twenty that it takes by itself
# last longer than opening may, and a connection that was interrupted there breaks off behind those that were looked at.
# For pictures that begin late, as behind sound in FLV, it still waits (which a shorter `analyzeduration` would end).
_OPTIONS = {"rtsp_flags": "prefer_tcp", "fpsprobesize": "4"}

# What web servers call what is no page: videos, and the pictures of a camera, one after the other.
_PICTURES = ("video/", "multipart/")

# These come in segments of seconds each, that would all be shown at once.
_SEGMENTED = frozenset(("hls", "dash"))

# How far apart, in seconds, a picture is fetched that has an address of its own: few cameras have a new one sooner.
_BETWEEN_STILLS = 0.1

# What a read takes, in seconds, where a server has no more yet: decoding a picture takes less.
_STALL = 0.25


class StreamSource(LiveSource):
    """A network stream. One that has an end, as a file on a web server has, is played at its own pace.

    Args:
        url: whatever FFmpeg opens: rtsp, rtsps, http, https, rtmp, udp, srt, ...; credentials are hidden in ``name``
            and in every message.
        reconnect: seconds to go on trying after a loss; None gives up at once.
        open_timeout: seconds to wait for the server's answer, and as long again for the first picture.
        read_timeout: seconds without data after which the stream counts as lost; ``close`` takes hardly longer.
        stop: when set, waiting ends within 0.2 s, and so do the frames.
        on_event: told in a line, in the thread that reads, when the stream is lost or back.

    Raises:
        SourceError: it cannot be opened; the message says why.
    """

    def __init__(
        self,
        url: str,
        *,
        reconnect: float | None = 60.0,
        open_timeout: float = 10.0,
        read_timeout: float = 10.0,
        stop: threading.Event | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._url = url
        self._timeouts = open_timeout, read_timeout
        self._position: float | None = None
        super().__init__(
            redact(url), self._dial, reconnect=reconnect, patience=read_timeout, stop=stop, on_event=on_event
        )

    def _dial(self) -> _StreamLink:
        link = _StreamLink(self._url, self.name, self._timeouts, self._closing, self._position, self._note)
        # From now on, closing may have to wait for an attempt to connect: it is not to take longer than a read.
        self._timeouts = min(self._timeouts), self._timeouts[1]
        return link

    def _note(self, position: float) -> None:
        self._position = position


class _StreamLink:
    """A connection to a stream.

    Args:
        position: of the last picture that was shown of a stream that has an end, in seconds; None before the first.
        note: told the position of each picture of such a stream.
    """

    def __init__(
        self,
        url: str,
        name: str,
        timeouts: tuple[float, float],
        closing: threading.Event,
        position: float | None,
        note: Callable[[float], None],
    ) -> None:
        self.remarks = ()
        self._url, self._name, self._timeouts = url, name, timeouts
        self._note, self._closing = note, closing
        try:
            self._decoder = self._open()
        except NoVideoError as error:
            if (answer := _answer(url, min(timeouts))) is None:
                raise
            page = not answer.startswith(_PICTURES)
            advice = ": give the address of the stream itself, not of a page that shows it" if page else ""
            raise SourceError(f"{name}: it answers with {answer}, no video that can be read{advice}") from error
        decoder = self._decoder
        self.rate, self.duration = decoder.rate, decoder.duration
        self.pixel_aspect, self.colours = decoder.pixel_aspect, decoder.colours
        self._paced = self.duration is not None or decoder.container.format.name in _SEGMENTED
        self._pacer = Pacer(closing)
        self._shown = position if self.duration is not None else None

    def _open(self, demuxer: str | None = None) -> Decoder:
        self._opened = time.monotonic()
        # Decoding several frames at once would hold each of them back for that many.
        return Decoder(
            self._url, self._name, threads="SLICE", timeout=self._timeouts, options=_OPTIONS, demuxer=demuxer
        )

    def read(self) -> Image | None:
        began = time.monotonic()
        while (frame := self._next()) is not None:
            if frame.pts is not None and self._paced:
                position = self._decoder.seconds(frame.pts)
                if self._shown is not None and position <= self._shown:
                    continue  # not every web server can go on in the middle of a file
                self._note(position)
                self._pacer.wait(position, held_up=time.monotonic() - began > _STALL)
            return self._decoder.image(frame)
        if self.duration is None:
            raise SourceError(f"{self._name}: the stream ended")
        return None

    def _next(self) -> av.VideoFrame | None:
        frame = None
        try:
            frame = self._decoder.read()
        except SourceError:  # FFmpeg takes the end for one where the server does not say how much is to come
            if not self._is_still():
                raise
        pause = max(0.0, self._opened + _BETWEEN_STILLS - time.monotonic())
        if frame is None and self._is_still() and not self._closing.wait(pause):
            self._decoder.close()
            self._decoder = self._open(IMAGE_PIPE)  # FFmpeg, left to find out, may ask twice
            frame = self._decoder.read()
        return frame

    def _is_still(self) -> bool:
        """Whether what was read is one picture, as many cameras have it at an address: by now there is a new one."""
        of_pictures = self._decoder.container.format.name.endswith("pipe")  # such as image2pipe, png_pipe
        return of_pictures and self._decoder.frames == 1

    def close(self) -> None:
        self._decoder.close()


def _answer(url: str, timeout: float) -> str | None:
    """What kind of thing a web server has at an address, as it says; None where none answers, or it is no web server's.

    FFmpeg's error is the same where no host is found and where what comes ends before it is known to be no video.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() not in {"http", "https"}:
            return None
        # Without a password the server may refuse, and has answered.
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        with urlopen(plain, timeout=timeout) as answer:  # noqa: S310  # the scheme is one of the two
            return str(answer.headers.get_content_type())
    except HTTPError:
        return "something"
    except (OSError, HTTPException, ValueError):
        return None
