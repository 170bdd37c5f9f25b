"""What cameras and network streams have in common: they are read in a thread of their own, get lost, and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from queue import Empty, Full, Queue
from typing import Protocol

import cv2
import numpy as np

from ssdcam.detections import Image
from ssdcam.errors import SourceError
from ssdcam.media.frame import Frame
from ssdcam.media.sources.source import Source
from ssdcam.media.yuv import Colours

# How often, in seconds, whoever waits looks whether it is to stop.
_LOOK = 0.1

# Pauses between attempts to come back, in seconds: the first, and the longest they double to.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0

# What a thread may need, in seconds, to notice that its time is up.
_SLACK = 0.5

# Frames of a burst are at least this far apart, in seconds, so that times rise in milliseconds too.
_STEP = 0.001


class Link(Protocol):
    """One connection to a camera or stream, used by one thread.

    Attributes:
        rate: nominal frames a second, or None.
        duration: seconds, of a stream that has an end, or None.
        pixel_aspect: width of a pixel as shown over its height.
        colours: how its pictures make their colours, or None; see :class:`~ssdcam.media.sources.source.Source`.
        remarks: what a user should know about it, a line each.
    """

    @property
    def rate(self) -> Fraction | None: ...  # noqa: D102
    @property
    def duration(self) -> float | None: ...  # noqa: D102
    @property
    def pixel_aspect(self) -> Fraction: ...  # noqa: D102
    @property
    def colours(self) -> Colours | None: ...  # noqa: D102
    @property
    def remarks(self) -> tuple[str, ...]: ...  # noqa: D102

    def read(self) -> Image | None:
        """The next picture; None at the proper end.

        Raises:
            SourceError: the connection is lost.
        """

    def close(self) -> None:
        """Hang up."""


@dataclass(frozen=True)
class _Opened:
    width: int
    height: int
    rate: Fraction | None
    duration: float | None
    pixel_aspect: Fraction
    colours: Colours | None
    remarks: tuple[str, ...]


class LiveSource(Source):
    """Frames as they happen.

    The device or connection is read in a daemon thread, since a read blocks for seconds where nothing comes: only so
    can a stop be obeyed at once. The thread hands over frame by frame and drops none; whoever reads decides what to
    skip.

    A frame's time is when it arrived, in seconds since the first one, by the monotonic clock: devices and streams have
    clocks that drift, jump and begin anew with each connection; this one rises, and shows a gap as long as it was.

    Args:
        name: for people, without credentials.
        connect: makes a connection; called in the thread, again after a loss.
        reconnect: seconds to go on trying after a loss; None gives up at once.
        patience: seconds that a read or an attempt to connect takes at most; ``close`` waits hardly longer.
        stop: when set, waiting ends within 0.2 s, and so do the frames.
        on_event: told in a line, in the thread that reads, when the source is lost or back.

    Raises:
        SourceError: it cannot be opened, or ``stop`` was set before it was.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        name: str,
        connect: Callable[[], Link],
        *,
        reconnect: float | None,
        patience: float,
        stop: threading.Event | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._reconnect = reconnect
        self._patience = patience
        self._stop = stop or threading.Event()
        self._on_event = on_event or (lambda line: None)
        self._closing = threading.Event()
        self._closed = False
        self._queue: Queue[_Opened | Frame | str | Exception | None] = Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)
        self._thread.start()
        try:
            opened = self._take()
            if not isinstance(opened, _Opened):
                raise opened if isinstance(opened, Exception) else SourceError(f"{name}: stopped while it was opened")
        except BaseException:
            self._closing.set()  # the thread ends by itself, nobody has to wait for it
            raise
        self.width, self.height = opened.width, opened.height
        self.rate, self.duration = opened.rate, opened.duration
        self.pixel_aspect, self.colours = opened.pixel_aspect, opened.colours
        for line in opened.remarks:
            self._on_event(f"{name}: {line}")

    def _take(self) -> _Opened | Frame | str | Exception | None:
        while not self._stop.is_set():
            try:
                return self._queue.get(timeout=_LOOK)
            except Empty:
                if self._closing.is_set():
                    break
        return None

    def read(self) -> Frame | None:
        """Wait for the next frame.

        Returns:
            The frame; None at a stream's end, or once ``stop`` is set.

        Raises:
            SourceError: it is lost and did not come back in time.
        """
        while isinstance(item := self._take(), str):
            self._on_event(item)
        if self._closed:  # a frame may still have been on its way
            return None
        if isinstance(item, Frame):
            return item
        self._closing.set()
        if isinstance(item, Exception):
            raise item
        return None

    def close(self) -> None:
        """End the thread, waiting for a read under way as long as its time limit allows."""
        self._closed = True
        self._closing.set()
        self._thread.join(self._patience + _SLACK)

    # From here on: in the thread.

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # whatever it is, it reaches whoever reads
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: _Opened | Frame | str | Exception | None) -> None:
        while not self._closing.is_set():
            try:
                self._queue.put(item, timeout=_LOOK)
            except Full:
                continue
            return

    def _serve(self) -> None:
        link, image = self._open()
        try:
            size = image.shape[1], image.shape[0]
            self._put(_Opened(*size, link.rate, link.duration, link.pixel_aspect, link.colours, link.remarks))
            first = captured = time.monotonic()
            pts, index = 0.0, 0
            while not self._closing.is_set():
                if image.shape[1::-1] != size:  # a camera that was replaced, or came back in another mode
                    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
                self._put(Frame(index, pts, image, captured))
                index += 1
                try:
                    following = link.read()
                except SourceError as lost:
                    link.close()
                    link, following = self._come_back(lost)
                if following is None:
                    return
                image, captured = following, time.monotonic()
                pts = max(captured - first, pts + _STEP)
        finally:
            link.close()

    def _open(self) -> tuple[Link, Image]:
        """A connection and the first picture from it: some open and then give none."""
        link = self._connect()
        try:
            image = link.read()
            if image is None:
                raise SourceError(f"{self.name}: it ended before it gave a picture")
        except BaseException:
            link.close()
            raise
        return link, image

    def _come_back(self, lost: SourceError) -> tuple[Link, Image]:
        if self._reconnect is None:
            raise lost
        self._put(f"{lost}; trying again for up to {self._reconnect:g} s")
        began, pause = time.monotonic(), _FIRST_PAUSE
        while (left := began + self._reconnect - time.monotonic()) > 0:
            if self._closing.wait(min(pause, left)):
                break
            try:
                found = self._open()
            except SourceError:
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._put(f"{self.name}: back after {time.monotonic() - began:.1f} s")
                return found
        raise SourceError(f"{self.name}: lost, and not back within {self._reconnect:g} s")
