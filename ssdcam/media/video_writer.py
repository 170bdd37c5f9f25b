"""Video files out: frames in, and a file that plays from the first second on, whatever ends the run.

MP4 and MOV are written in fragments, with nothing kept for the end, and made plain when they are whole; Matroska and
WebM in short clusters. A killed process loses what the encoder holds back (of H.264 4 frames, and up to 3 more of what
is not live), but at least the last frame, and the last tenth of a second. AVI is the weak one: it keeps its index for
the end (a file without plays, but does not seek), holds one steady frame rate, and no sound that begins late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ssdcam.cpu import usable_threads
from ssdcam.errors import VideoError, WrongUsageError
from ssdcam.files import same_file
from ssdcam.media.av import Packet, av, open_encoder, open_to_read, reason
from ssdcam.media.containers import CODECS, MOST_TICKS, Container, check_output, container_of
from ssdcam.media.description import Chapter, Description, between, set_chapters
from ssdcam.media.faststart import cut_to_fragments, has_fragment, make_plain
from ssdcam.media.frame import Picture
from ssdcam.media.planar import PlanarPicture
from ssdcam.media.replacing import file_beside
from ssdcam.media.soundtrack import Soundtrack, open_soundtrack
from ssdcam.media.yuv import BT601, LIMITED, Colours, YuvConverter, colours_for, mix_alike

_log = logging.getLogger(__name__)

_KEY_FRAME_EVERY = 5  # seconds: a player that seeks decodes from the one before
_OFF_BEAT = Fraction(2, 1000)  # seconds that a frame may be off a steady rate, as times in whole milliseconds are
_LOOK_EVERY = 1.0  # seconds between looks at whether the file is still there


class VideoWriter:
    """A video file that frames are written to, from one thread at a time.

    As a context manager it is closed at the end, or aborted if an exception comes through.

    Args:
        path: the file; one that exists is replaced when the first frames are on the disk. Its suffix says what it
            becomes.
        width: of the images, in pixels. An odd one is made even by repeating the last column.
        height: of the images, in pixels; likewise.
        rate: frames a second of the source: nominal, or the mean where it varies.
        stride: only every so manieth of them will come, and each is shown so much longer.
        ends: when the source's pictures are expected to end, in seconds of the output: chapters go no further. None:
            nobody knows. See :meth:`close`.
        codec: one of :data:`~ssdcam.media.containers.CODECS`.
        crf: quality on the codec's own scale, lower being better; None for its default.
        preset: one of :data:`~ssdcam.media.containers.PRESETS`.
        live: whether frames come at their own pace: then the encoder holds back as few as it can, and is slower.
        pixel_aspect: width of a pixel as shown over its height. In Matroska and WebM, VP9 and AV1 cannot say it, which
            is told.
        colours: of the source, where pictures come from it in luma and chroma: they are encoded as they are. None: what
            players assume.
        audio_from: the file that the frames come from, whose first sound is taken along.
        start: when the output begins, in seconds of that file's clock, as its frames have it: what is subtracted from a
            frame's time there gives ``pts`` here. Sound from before is left out.
        end: when the sound ends, on the same clock; None: it is kept to its own end.
        description: what the file is to say about itself, as far as its container can; what it cannot is told. Chapters
            are on the clock of ``start``. MP4 and MOV get them when they are closed.
        comment: goes into the file as its comment, which players may show, behind the description's own; see
            :func:`read_comment`.
        warn: is told, in a line, of what the user should know but what does not stop the video; by any thread.

    Attributes:
        path: the file.
        whole: whether it is closed and holds every frame that was written.

    Raises:
        WrongUsageError: see :func:`~ssdcam.media.containers.check_output`; or ``path`` is ``audio_from``.
        VideoError: the file cannot be created, or the encoder not started.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        rate: Fraction,
        stride: int = 1,
        ends: float | None = None,
        codec: str = "h264",
        crf: int | None = None,
        preset: str = "veryfast",
        live: bool = False,
        pixel_aspect: Fraction = Fraction(1),
        colours: Colours | None = None,
        audio_from: Path | None = None,
        start: float = 0.0,
        end: float | None = None,
        description: Description | None = None,
        comment: str = "",
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        check_output(path, codec, crf=crf, preset=preset)
        if audio_from is not None and same_file(path, audio_from):
            raise WrongUsageError(f"{path}: is the input itself: use another name")
        self.path = path
        self.whole = False
        self._file, self._ours = path, False  # where it is written; whether that may be removed
        self._kept = False  # whether there is something to play in it, and it is where it belongs
        self._shape = (height, width, 3)
        self._kind = container_of(path)
        self._source_frame, self._frame, self._ends = 1 / rate, stride / rate, ends  # seconds
        self._lasts = self._source_frame  # seconds that the last frame is shown
        rate = _nominal(rate / stride, CODECS[codec].finest if self._kind.steady else MOST_TICKS)
        self._tick = self._kind.tick(rate)
        self._warn = warn
        if pixel_aspect != 1 and self._kind.matroska and not CODECS[codec].states_aspect:  # PyAV cannot tell FFmpeg
            warn(f"{path}: is not shown in the source's shape, as {codec} cannot say the shape of pixels: use .mp4")
        self._last = -1  # the last frame's time, in ticks
        self._frames = 0
        self._begun = False  # whether a packet of video has been written
        self._newest: list[Packet] = []  # the newest frame's, and what came with it
        self._closed = False
        self._off_beat = False
        self._sound: Soundtrack | None = None
        # A frame is encoded while the next one's colours are converted.
        self._worker = ThreadPoolExecutor(1, "ssdcam-encoder")
        self._encoding: Future[None] | None = None
        self._finished: Future[None] = Future()
        colours = _colours(self._kind, codec, height, colours)
        self._matrix = colours.matrix
        self._converter = YuvConverter(width, height, colours)
        with self._opening():
            if beside := file_beside(path):
                self._file, self._ours = beside, True
            self._output = av.open(
                f"file:{self._file}", "w", format=self._kind.format, container_options=dict(self._kind.options)
            )
            self._describe(description or Description(), comment, start)
            stream = self._output.add_stream(
                CODECS[codec].encoder,
                rate,
                width=self._converter.width,
                height=self._converter.height,
                time_base=self._tick,
            )
            assert isinstance(stream, av.VideoStream)
            self._stream = stream
            encoder = self._stream.codec_context
            # Of threads that work on a frame each, one waits for what the others have made of theirs.
            on_a_frame_each = CODECS[codec].frame_threads and not live
            encoder.thread_count = min(usable_threads() + on_a_frame_each, CODECS[codec].threads)
            kind = av.codec.context.ThreadType
            encoder.thread_type = kind.FRAME if on_a_frame_each else kind.SLICE
            encoder.sample_aspect_ratio = pixel_aspect
            encoder.options = CODECS[codec].filled(crf=crf, preset=preset, threads=encoder.thread_count)
            if self._kind.steady:
                encoder.options["bf"] = "0"  # there is nowhere to say that frames come out of order
            if self._kind.fragmented and CODECS[codec].kind == "h265":
                encoder.codec_tag = "hvc1"  # which Apple's players insist on
            _open_encoder(encoder, path, colours, CODECS[codec].smallest)
            if audio_from is not None:
                self._sound = open_soundtrack(audio_from, self._output, self._kind, start=start, end=end, warn=warn)
            self._ours = True
            self._output.start_encoding()
            self._identity = _identity(self._file)
            self._header = self._file.stat().st_size
        self._looked = time.monotonic()

    def _describe(self, description: Description, comment: str, start: float) -> None:
        """Put into the output what it is to say about itself, and tell what it cannot hold."""
        texts = dict(description.texts)
        if comment:
            texts["comment"] = "\n".join(filter(None, (texts.get("comment"), comment)))
        lacking = set() if self._kind.texts is None else texts.keys() - self._kind.texts
        if "creation_time" in lacking and "date" not in texts:
            texts["date"] = texts["creation_time"]
            lacking.remove("creation_time")
        self._output.metadata.update({name: text for name, text in texts.items() if name not in lacking})
        left_out = sorted(lacking)
        self._chapters: list[Chapter] = []
        if self._kind.chapters:
            end = None if self._ends is None else Fraction(start) + Fraction(self._ends)
            self._chapters = between(description.chapters, Fraction(start), end)
        elif description.chapters:
            left_out.append("chapters")
        if left_out:
            self._warn(f"{self.path}: {self.path.suffix} cannot hold the source's {', '.join(left_out)}")
        # While it is in fragments, an MP4 does without: its chapters are a track, and nobody knows yet how long it is.
        if not self._kind.fragmented:
            set_chapters(self._output, self._chapters)

    def write(self, picture: NDArray[np.uint8] | Picture, pts: float) -> None:
        """Add a frame.

        Args:
            picture: uint8 ``(height, width, 3)``, BGR, upright, which may be changed once this returns; or one in luma
                and chroma, which may not.
            pts: when it is shown, in seconds from the beginning of the output. Kept to the container's tick: about
                1/60000 s in MP4 and MOV, 1 ms in Matroska and WebM, a frame in AVI. A time that does not rise, or is
                below 0, is moved up to the next tick.

        Raises:
            VideoError: the disk is full, the file is gone, or the encoder failed, with this frame or the one before; or
                the image has another size. What was written before is kept and plays.
        """
        if self._closed:
            raise VideoError(f"{self.path}: is closed already")
        frame = None
        if self._holds(picture):
            frame = picture.frame
        else:
            image = picture if isinstance(picture, np.ndarray) else picture.image
            if image.shape != self._shape or image.dtype != np.uint8:
                height, width = self._shape[:2]
                raise VideoError(f"{self.path}: holds frames of {width}x{height}, not {image.dtype} {image.shape}")
        with self._failing():
            frame = frame or self._converter.convert(image)
            frame.pts, frame.time_base = self._time(pts), self._tick
            self._settle()
            self._encoding = self._worker.submit(self._encode, frame)
            self._frames += 1

    def _holds(self, picture: NDArray[np.uint8] | Picture) -> TypeGuard[PlanarPicture]:
        """Whether a picture is such as the encoder takes."""
        return (
            isinstance(picture, PlanarPicture)
            and picture.size == self._shape[:2]
            and mix_alike(picture.matrix, self._matrix)
        )

    def close(self, *, ended: bool = True, ends: float | None = None) -> None:
        """Finish the file. Closing it again does nothing.

        The last frame is shown until the source's pictures end, as in screen recordings and slide shows it may be for
        long, but for one frame of the source at least.

        A stop, such as Ctrl-C, that comes meanwhile is raised when the file is whole; a second one at once.

        Args:
            ended: whether the video ran to its end, or to ``end``: then the sound is kept to its own. Otherwise it
                stops with the last frame, which is shown for one of the output's at most.
            ends: when the source's pictures ended, in seconds of the output. None: when they were expected to; where
                nobody knows, the last frame is shown for one of the source's. AVI shows each for one of the output's.

        Raises:
            VideoError: the rest could not be written, or not one frame was, in which case there is no file.
        """
        if self._closed:
            return
        if not self._frames:
            self._release()
            raise VideoError(f"{self.path}: was not kept, for not one frame was written")
        left = max(Fraction(ends or self._ends or 0) - self._last * self._tick, self._source_frame)
        self._lasts = left if ended else min(left, self._frame)
        with self._failing():
            try:
                self._worker.submit(self._finish, ended)
                self._finished.result()
            except KeyboardInterrupt:  # takes effect once the file is whole; if it fails, abort tells
                self._worker.submit(self._finish, ended)
                wait([self._finished])
                raise
            finally:
                self.whole = self._finished.done() and not self._finished.exception()
        self._release()

    def abort(self) -> None:
        """Finish the file because something else failed: as ``close(ended=False)``, but nothing is raised."""
        try:
            self.close(ended=False)
        except VideoError as error:
            self._warn(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self.abort()  # which leaves alone what is closed

    def _encode(self, frame: av.VideoFrame) -> None:
        for packet in self._newest:
            self._mux(packet)
        self._newest = []
        for packet in self._stream.encode(frame):
            # If it is the last one, its packet says for how long it is shown.
            if self._newest or packet.pts == frame.pts:
                self._newest.append(packet)
            else:
                self._mux(packet)
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._look()

    def _finish(self, ended: bool) -> None:
        """What :meth:`close` waits for, once; after the last frame, as the worker does one thing at a time."""
        if self._finished.done():
            return
        try:
            self._settle()
            for packet in (*self._newest, *self._stream.encode(None)):
                if self._frames == 1:  # x265 needs two to work out the time of decoding; before, there is garbage
                    packet.dts = packet.pts
                self._mux(packet)
            self._mux_sound(inf if ended else float(self._last * self._tick + self._lasts))
            self._output.close()
            self._look()
            self._take_place()
            if self._sound and self._sound.dropped:
                self._warn(f"{self.path}: {self._sound.dropped} broken packets of sound were left out")
            if self._kind.fragmented:
                self._make_plain()
        except BaseException as error:
            self._finished.set_exception(error)
        else:
            self._finished.set_result(None)

    def _settle(self) -> None:
        """Wait for the frame that is being encoded; its trouble raises here."""
        if self._encoding is not None:
            self._encoding.result()
            self._encoding = None

    def _time(self, pts: float) -> int:
        """A frame's time in ticks, after the last one's."""
        ticks = max(round(pts / self._tick), self._last + 1)
        if self._kind.steady and not self._off_beat:
            self._off_beat = abs(pts - ticks * self._tick) > _OFF_BEAT
            if self._off_beat:
                rate = float(1 / self._tick)
                self._warn(
                    f"{self.path}: frames are moved to a steady {rate:.6g} a second, for AVI holds nothing else: "
                    "use .mp4 or .mkv"
                )
        self._last = ticks
        return ticks

    def _mux(self, packet: Packet) -> None:
        """Write a packet of video, and before it the sound up to its time."""
        until = float((packet.dts or 0) * packet.time_base)
        if not self._begun and self._kind.fragmented and self._sound and self._sound.next_time is not None:
            until = max(until, float(self._sound.next_time + self._tick))  # see audio_preload in containers
        self._mux_sound(until)
        if packet.pts == self._last and not self._kind.steady:
            packet.duration = max(round(self._lasts / packet.time_base), 1)
        self._output.mux(packet)
        self._begun = True
        if not self._kept:
            self._take_place()

    def _mux_sound(self, until: float) -> None:
        if self._sound is None:
            return
        for packet in self._sound.until(until):
            try:
                self._output.mux(packet)
            except (av.InvalidDataError, av.ArgumentError):  # what is in it, not where it goes
                self._sound.dropped += 1

    def _make_plain(self) -> None:
        try:
            chapters = between(self._chapters, Fraction(0), self._last * self._tick + self._lasts)
            make_plain(self.path, self._kind.format, self._lasts, chapters)
        except (av.FFmpegError, OSError) as error:
            self._warn(f"{self.path}: is whole and plays, but stays in fragments: {reason(error)}")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn FFmpeg's and the system's errors into ours, and let go of the file."""
        try:
            yield
        except VideoError:
            self._release()
            raise
        except (av.FFmpegError, OSError) as error:
            self._release()
            if self._kind.fragmented and self._kept:
                with suppress(OSError):
                    cut_to_fragments(self._file)
            raise VideoError(f"{self.path}: cannot be written: {reason(error)}") from error
        except Exception:  # such as of too little memory
            self._release()
            raise

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """The same while the file is opened; a stop leaves none, for nobody has the writer yet that would close it."""
        try:
            with self._failing():
                yield
        except KeyboardInterrupt:
            self._release()
            raise

    def _release(self) -> None:
        """Let go of the file; one with nothing to play in it goes, and what it was to replace stays."""
        self._closed = True
        self._worker.shutdown()
        if self._sound is not None:
            self._sound.close()
        with suppress(av.FFmpegError, AttributeError):  # it may not have been opened
            self._output.close()
        if self._ours and not self._kept:
            with suppress(OSError):
                self._file.unlink()

    def _take_place(self) -> None:
        """Put the file where it belongs if there is something to play in it; until then an older one stays there."""
        try:
            if self._kept or not self._plays():
                return
        except FileNotFoundError as error:
            raise self._gone() from error
        if self._file != self.path:
            target = self.path.resolve()  # where path is a link, the file behind it is replaced
            with suppress(OSError):  # it is gone
                self._file.chmod(target.stat().st_mode & 0o777)
            self._file.replace(target)
            self._file = self.path
        self._kept = True

    def _plays(self) -> bool:
        if self._kind.fragmented:
            return has_fragment(self._file)
        return self._file.stat().st_size > self._header

    def _look(self) -> None:
        """Notice a file that was deleted, or whose folder was: the system goes on writing to it without a word.

        Raises:
            VideoError: it is gone.
        """
        self._looked = time.monotonic()
        try:
            there = _identity(self._file) == self._identity
        except OSError:
            there = False
        if not there:
            raise self._gone()

    def _gone(self) -> VideoError:
        return VideoError(f"{self.path}: was deleted or moved while it was being written")


def read_comment(path: Path) -> str:
    """The comment in a video file; empty where there is none, or no video file."""
    try:
        with open_to_read(f"file:{path}") as container:
            # Matroska's are called COMMENT.
            return next((text for name, text in container.metadata.items() if name.lower() == "comment"), "")
    except (av.FFmpegError, OSError):
        return ""


def _nominal(rate: Fraction, finest: int) -> Fraction:
    """A rate that FFmpeg can be told, or the nearest one: means have long numbers, which ``stride`` makes longer.

    Args:
        rate: frames a second.
        finest: its numerator at most.
    """
    period = min(1 / rate, Fraction(MOST_TICKS))
    return 1 / period.limit_denominator(min(finest, int(MOST_TICKS / period)))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _open_encoder(encoder: av.VideoCodecContext, path: Path, colours: Colours, smallest: int) -> None:
    encoder.gop_size = max(round(encoder.framerate * _KEY_FRAME_EVERY), 1)
    encoder.colorspace, encoder.color_range = colours.matrix, LIMITED
    encoder.color_primaries, encoder.color_trc = colours.primaries, colours.transfer
    what = f"{path}: {encoder.name} does not encode {encoder.width}x{encoder.height} pixels"
    if min(encoder.width, encoder.height) < smallest:
        raise VideoError(f"{what}: it takes {smallest} a side at least")
    try:
        open_encoder(encoder)
    except av.FFmpegError as error:
        raise VideoError(f"{what} at {float(encoder.framerate):.6g} frames a second: {reason(error)}") from error


def _colours(kind: Container, codec: str, height: int, own: Colours | None) -> Colours:
    """Those asked for, or that players assume; where neither stream nor container can say so, what FFmpeg assumes."""
    return BT601 if kind.steady and CODECS[codec].kind == "mpeg4" else own or colours_for(height)
