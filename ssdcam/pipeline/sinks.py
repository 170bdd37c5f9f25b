"""Where results go: records, crops, video files, clips that are switched on and off, the screen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from threading import Lock

from ssdcam.detections import Image
from ssdcam.errors import SsdcamError
from ssdcam.media.crops import CropFolder
from ssdcam.media.video_writer import VideoWriter
from ssdcam.pipeline.channel import Channel
from ssdcam.pipeline.run import Result
from ssdcam.records import Record

# A recording that is started by a key has this rate where the source states none.
_COMMON_RATE = Fraction(30)


def record_of(source: str, result: Result) -> Record:
    """The record of a result."""
    frame = result.frame
    height, width = frame.size
    return Record(source, width, height, result.detections, frame.index, frame.pts)


@dataclass(frozen=True)
class RecordsSink:
    """Passes a record of every result on.

    Attributes:
        source: what records call the source.
        write_record: takes them.
    """

    source: str
    write_record: Callable[[Record], None]
    drawn: bool = False

    def write(self, result: Result) -> None:
        """Record a result."""
        self.write_record(record_of(self.source, result))


@dataclass(frozen=True)
class CropsSink:
    """Cuts the objects out of every frame."""

    source: str
    folder: CropFolder
    drawn: bool = False

    def write(self, result: Result) -> None:
        """Write a frame's crops."""
        if len(result.detections):
            self.folder.save(record_of(self.source, result), result.frame.image)


class VideoSink:
    """Writes frames with what is drawn into them to a video.

    Args:
        writer: the file.
        begins: the time of the source's clock at which the output begins, in seconds; None is the first frame's.
    """

    drawn = True

    def __init__(self, writer: VideoWriter, begins: float | None = None) -> None:
        self._writer = writer
        self._begins = begins

    def write(self, result: Result) -> None:
        """Write a frame at its own time."""
        if self._begins is None:
            self._begins = result.frame.pts
        self._writer.write(result.frame.picture, result.frame.pts - self._begins)


@dataclass(frozen=True)
class ScreenSink:
    """Hands frames to whoever shows them, in another thread."""

    frames: Channel[Result]
    drawn: bool = True

    def write(self, result: Result) -> None:
        """Hand a frame over; whether an old one gives way is the channel's policy."""
        self.frames.put(result)


class ClipRecorder:
    """Records to a new file from one call of :meth:`toggle` to the next; safe to call from another thread.

    Args:
        folder: where clips go, as ``ssdcam-<date>-<time>.mp4``.
        rate: frames a second, nominal; None where the source does not say.
        tell: is told, in a line, where a clip went.
        warn: is told, in a line, why there is none.
        pixel_aspect: width of a pixel as shown over its height.
    """

    drawn = True

    def __init__(
        self,
        folder: Path,
        rate: Fraction | None,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self._folder = folder
        self._rate = rate or _COMMON_RATE
        self._pixel_aspect = pixel_aspect
        self._tell = tell
        self._warn = warn
        self._lock = Lock()
        self._wanted = False
        self._writer: VideoWriter | None = None
        self._begins = 0.0
        self._closer = ThreadPoolExecutor(1, "ssdcam-clip")  # which takes a while: frames are to be shown meanwhile
        self._closing: list[Future[None]] = []

    @property
    def recording(self) -> bool:
        """Whether frames are being kept, or will be from the next one on."""
        return self._wanted

    def toggle(self) -> None:
        """Start a clip, or end the one that is being recorded."""
        with self._lock:
            self._wanted = not self._wanted
            writer, self._writer = self._writer, None
        self._close(writer)

    def write(self, result: Result) -> None:
        """Keep a frame, if recording. A clip that fails is ended and told of; the run goes on."""
        with self._lock:
            if not self._wanted:
                return
            try:
                if self._writer is None:
                    self._writer = self._begin(result.frame.image)
                    self._begins = result.frame.pts
                self._writer.write(result.frame.image, result.frame.pts - self._begins)
            except SsdcamError as error:
                self._warn(str(error))
                self._wanted = False
                writer, self._writer = self._writer, None
                if writer is not None:
                    writer.abort()  # keeps what was written, if the writer did not fail by itself

    def close(self) -> None:
        """End a clip that is still being recorded, and wait until all are whole.

        Raises:
            Exception: what kept one from it and was not told of, such as too little memory.
        """
        with self._lock:
            self._wanted = False
            writer, self._writer = self._writer, None
        self._close(writer)
        try:
            self._closer.shutdown()
        finally:  # a stop is no reason to leave before
            self._closer.shutdown()
        for closing in self._closing:
            closing.result()

    def _begin(self, image: Image) -> VideoWriter:
        height, width = image.shape[:2]
        path = new_name(self._folder, ".mp4")
        return VideoWriter(
            path, width=width, height=height, rate=self._rate, pixel_aspect=self._pixel_aspect, live=True
        )

    def _close(self, writer: VideoWriter | None) -> None:
        if writer is not None:
            self._closing.append(self._closer.submit(self._end, writer))

    def _end(self, writer: VideoWriter) -> None:
        try:
            writer.close()
        except SsdcamError as error:
            self._warn(str(error))
        else:
            self._tell(f"recorded {writer.path}")


def new_name(folder: Path, suffix: str) -> Path:
    """A file name that says when, and that nothing has yet."""
    stem = f"ssdcam-{datetime.now():%Y%m%d-%H%M%S}"
    names = (f"{stem}{count}{suffix}" for count in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in map(folder.joinpath, names) if not path.exists())
