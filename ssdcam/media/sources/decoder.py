"""One video stream's frames, decoded by PyAV: what files and network streams have in common.

PyAV rather than ``cv2.VideoCapture``, whose pixels are the same and whose speed is much the same: OpenCV's wheel
decodes no AV1; its times count from the stream's own start, away from the audio's, and are wrong where a packet states
no decoding time (the last frames of an AVI or MPEG file are all at 0); it stops at a damaged packet as if at the end;
and a stream that does not open does not say why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssdcam.errors import SourceError
from ssdcam.media.av import Packet, av, open_to_read, reason
from ssdcam.media.clock import PictureClock, ShowingClock, first_video, origin, rate_of
from ssdcam.media.sources.decoded import DecodedPicture, can_be_resized, colours_of
from ssdcam.media.sources.orientation import Orientation, orientation_of

# After damage some demuxers find their way again when asked once more.
_DEMUX_RETRIES = 8

# Twice what 8K has. A file of a few kilobytes can claim frames of a gigabyte, and a dozen are on their way at once.
_MOST_PIXELS = 2**26

_WIDEST_PIXEL = Fraction(100)  # over its height, or the other way round, that is believed

# FFmpeg's HEVC decoder, given several frames at once, waits for ever for one that is damaged and that others lean on.
_HANGING = frozenset({"hevc"})

# Told apart because something different is to be done about each.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPUnauthorizedError, "the server wants another user name or password (401)"),
    (av.error.HTTPForbiddenError, "the server refuses to give it (403)"),
    (av.error.HTTPNotFoundError, "the server has nothing there (404)"),
    (av.error.HTTPServerError, "the server has trouble of its own (5xx)"),
    (av.error.ConnectionRefusedError, "nothing answers there (connection refused)"),
    (av.error.ProtocolNotFoundError, "there is no such kind of address"),
    (av.error.ExitError, "no answer in time"),
    (av.error.TimeoutError, "no answer in time"),
    (av.error.OSError, "it cannot be reached, or broke off (input/output error)"),
    (av.error.InvalidDataError, "no video that can be read"),
    (av.error.EOFError, "it is cut short"),
)


class NoVideoError(SourceError):
    """What is there is no video that can be read, or it ends before that shows; FFmpeg may have reached nothing."""


def _why(error: Exception) -> str:
    """What went wrong, without the URL, which may hold a password."""
    return next((text for kind, text in _REASONS if isinstance(error, kind)), reason(error).lower())


class Decoder:
    """The first video stream of a file or URL; cover pictures of songs are no video.

    Times are as :class:`~ssdcam.media.clock.PictureClock` gives them, also those of the frames; in AVI these are as
    :class:`~ssdcam.media.clock.ShowingClock` gives them.

    Args:
        url: what FFmpeg opens.
        name: for messages.
        threads: ``AUTO`` decodes several frames at once, ``SLICE`` only parts of one, which is slower but holds no
            frame back.
        timeout: seconds to wait for an answer when opening, and for each packet and picture, for the first one three
            times as long, as it may begin with a key frame; None waits for ever.
        options: FFmpeg's own.
        demuxer: that FFmpeg is to read it by; None: whichever fits what is there.
        persistent: go on behind damage in the container, as is right for files; a broken connection stays broken.

    Attributes:
        width, height: of the pictures, as shown.
        colours: of the pictures, where they can stay in luma and chroma on their way to an encoder; else None.
        pixel_aspect: width of a pixel as shown over its height, in upright pictures; 1 where nothing sensible is said.
        interlaced: whether the first picture holds two fields, taken one after the other.
        packets: that have been read so far and should give a frame each.
        frames: that were decoded from them.
        failed: packets and container parts that gave an error.
        settled: time of the last frame that came before the decoder was drained, in the stream's unit, or None.
        showing: says when frames are shown.
        landed: where in the file, in bytes, the first packet lies that was read since the last seek; None: unknown.

    Raises:
        SourceError: there is no video to decode; ``str(error)`` names it and says why. It is a :class:`NoVideoError`
            where FFmpeg found nothing that it knows.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        threads: Literal["AUTO", "SLICE"] = "AUTO",
        timeout: tuple[float, float] | None = None,
        options: Mapping[str, str] | None = None,
        demuxer: str | None = None,
        persistent: bool = False,
    ) -> None:
        self.name = name
        self._retries = _DEMUX_RETRIES if persistent else 0
        self._patience = None if timeout is None else timeout[1]
        try:
            self.container = open_to_read(url, timeout=timeout, options=dict(options or {}), format=demuxer)
        except (av.error.FFmpegError, ValueError) as error:
            # The original error would show the URL, password and all, in a traceback.
            kind = NoVideoError if type(error) in (av.error.InvalidDataError, av.error.OSError) else SourceError
            raise kind(f"{name}: {_why(error)}") from None
        try:
            self.stream = self._video_stream(threads)
            self._unit = self.stream.time_base or Fraction(1, av.time_base)
            self._reformatter, self._converting = av.video.reformatter.VideoReformatter(), Lock()
            self._orientations: dict[int, Orientation | None] = {}
            self.showing = ShowingClock(self.container)
            self._start()
            first = self.peek()
            if first is None:
                raise SourceError(f"{name}: {self._why_none()}")
            self._coded = first.width, first.height
            self.height, self.width = self.image(first).shape[:2]
            self.colours = colours_of(first)
            self.pixel_aspect = self._pixel_aspect(first)
            self.interlaced = first.interlaced_frame
        except BaseException:
            self.container.close()
            raise

    def _video_stream(self, threads: Literal["AUTO", "SLICE"]) -> av.video.stream.VideoStream:
        if self.container.format.name == "tty":  # plain text, taken for terminal art
            raise SourceError(f"{self.name}: text, not a video")
        stream = first_video(self.container)
        if stream is None:
            raise SourceError(f"{self.name}: there is no video in it")
        if stream.codec_context is None:
            raise SourceError(f"{self.name}: its video is of a kind that cannot be decoded here")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > _MOST_PIXELS:
            raise SourceError(f"{self.name}: claims frames of {width}x{height}, more than the limit of 2^26 pixels")
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}  # the size may change on the way
        stream.thread_type = "SLICE" if stream.codec_context.name in _HANGING else threads
        return stream

    def _why_none(self) -> str:
        """Why there is no first frame."""
        if self.stream.codec_context.name == "webp":  # of those that move, FFmpeg decodes nothing
            return "a WebP that cannot be decoded as a video: ssdcam image looks at its first picture"
        return "no frame in it can be decoded" if self.packets else "there is no frame in it"

    @property
    def rate(self) -> Fraction | None:
        """Nominal frames a second; None where none is stated, or one that no video has."""
        return rate_of(self.stream)

    @property
    def duration(self) -> float | None:
        """Seconds from the stream's beginning, as the stream or its container says; None where neither does."""
        stated = self.stream.duration or 0
        whole = self.seconds(stated) if stated > 0 else (self.container.duration or 0) / av.time_base
        kind = self.container.format.name
        # Matroska and NUT count from 0, however late pictures begin; so do MP4 in fragments and, unless it says what
        # FFmpeg would, FLV.
        late = kind.startswith(("mov", "flv")) and not self.stream.frames and 0 < origin(self.container) < whole
        if late or (stated <= 0 and kind.startswith(("matroska", "nut"))):
            whole -= self.begins
        return whole if whole > 0 else None

    @property
    def begins(self) -> float:
        """When the stream begins, in seconds on the frames' clock."""
        return self.seconds(self.stream.start_time or 0)

    @property
    def leap(self) -> float:
        """How far the frames' clock may leap forward, in seconds, before that says that it was set."""
        return self._clock.leap

    @property
    def joined(self) -> bool:
        """Whether the file's clock was set on the way, so far."""
        return self._clock.joints > 0

    def _pixel_aspect(self, first: av.VideoFrame) -> Fraction:
        aspect = self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio or Fraction(1)
        if not 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL:
            return Fraction(1)
        orientation = self._orientation(first)
        return 1 / aspect if orientation and orientation.swaps_sides else aspect

    def _start(self) -> None:
        self.packets = self.frames = self.failed = 0
        self.settled: int | None = None
        self.landed: int | None = None
        self._clock = PictureClock(self.container, self.stream)
        self.showing.begin()
        self._decoded: Iterator[av.VideoFrame] = self._decode()
        self._next: av.VideoFrame | None = None

    def _packets(self) -> Iterator[Packet | None]:
        """The stream's packets, with None for those of others."""
        for left in reversed(range(self._retries + 1)):
            try:
                # FFmpeg waits for packets of any stream: where only sound still comes, nobody would notice.
                for packet in self.container.demux(*([self.stream] if self._patience is None else [])):
                    if packet.stream.index != self.stream.index:
                        yield None
                        continue
                    self.landed = packet.pos if self.landed is None else self.landed
                    self._clock.set(packet)
                    yield packet
            except av.error.FFmpegError as error:
                if not self._retries:
                    raise SourceError(f"{self.name}: {_why(error)}") from None
                self.failed += 1
                if not left:
                    return
            else:
                return

    def _decode(self) -> Iterator[av.VideoFrame]:
        last = time.monotonic()
        for packet in self._packets():
            for frame in [] if packet is None else self._frames_of(packet):
                yield frame
                last = time.monotonic()
            silent = time.monotonic() - last
            if self._patience is not None and silent > self._patience * (1 if self.frames else 3):
                raise SourceError(f"{self.name}: no picture in it could be decoded for {silent:.0f} s")

    def _frames_of(self, packet: Packet) -> Iterator[av.VideoFrame]:
        # Edit lists hide packets that are only there to decode others; an empty packet drains the decoder.
        self.packets += bool(packet.size) and not packet.is_discard
        self.showing.send(packet)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.failed += bool(packet.size)
            return
        for frame in frames:
            self.frames += 1
            self.showing.set(frame, self.stream.codec_context.reorder_depth)
            if packet.size:
                self.settled = frame.pts
            yield frame

    def peek(self) -> av.VideoFrame | None:
        """The frame that ``read`` gives next."""
        if self._next is None:
            self._next = next(self._decoded, None)
        return self._next

    def read(self) -> av.VideoFrame | None:
        """The next frame in the order they are shown; None at the end.

        Raises:
            SourceError: the container or connection failed, and the decoder is not a persistent one.
        """
        frame = self.peek()
        self._next = None
        return frame

    def seconds(self, time: int) -> float:
        """A frame's time, or another in the stream's unit, in seconds."""
        return float(time * self._unit)

    def seek(self, time: float) -> None:
        """Go to a keyframe before a time in seconds, as far as the format can; all counts begin anew.

        Raises:
            SourceError: the format cannot seek.
        """
        try:
            self.container.seek(int(time / self._unit), stream=self.stream)
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.name}: {_why(error)}") from None
        self._start()

    def picture(self, frame: av.VideoFrame) -> NDArray[np.uint8] | DecodedPicture:
        """A frame as what becomes a picture of the first frame's size, whatever its own, when it is asked for.

        Raises:
            SourceError: its pixels are of a kind that cannot be converted.
        """
        if not can_be_resized(frame):
            return self.image(frame)
        return DecodedPicture(frame, (self.height, self.width), self.image, self._orientation(frame))

    def image(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A frame as 8-bit BGR, upright, of the first frame's size whatever its own.

        Raises:
            SourceError: its pixels are of a kind that cannot be converted.
        """
        width, height = self._coded
        try:
            with self._converting:
                bgr = np.asarray(self._reformatter.reformat(frame, width, height, "bgr24").to_ndarray(), np.uint8)
            if frame.format.name == "bgr24":  # the decoder's own, from which it goes on; this one may be drawn on
                bgr = bgr.copy()
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(f"{self.name}: its pictures cannot be converted: {_why(error)}") from None
        orientation = self._orientation(frame)
        return np.ascontiguousarray(bgr if orientation is None else orientation.apply(bgr))

    def _orientation(self, frame: av.VideoFrame) -> Orientation | None:
        """Looked up once for each rotation: a frame whose side data was looked at is in a ring of references.

        It would be kept until Python collects rings, and hundreds of them with it.
        """
        rotation = frame.rotation
        if rotation not in self._orientations:
            self._orientations[rotation] = orientation_of(frame)
        return self._orientations[rotation]

    def close(self) -> None:
        """Close the file or connection."""
        self._next = None
        self._decoded = iter(())  # it refers to us, and the decoder's threads would live until somebody collects rings
        self.container.close()
