"""Video files: every frame, each with its true time."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ssdcam.errors import SourceError, WrongUsageError
from ssdcam.media.av import av, open_to_read
from ssdcam.media.clock import FALLBACK_RATE, PictureClock, origin, starts_anywhere, videos_of
from ssdcam.media.description import Description, description_of
from ssdcam.media.frame import Frame
from ssdcam.media.sources.decoder import Decoder
from ssdcam.media.sources.source import Source
from ssdcam.media.sources.whole import is_cut_short, joined_parts, lacks_index, shows_cuts

# Nearer starts are reached by decoding, which is quick enough and asks nothing of the format.
_SEEK_FROM = 2.0

# How long before the start to land, in seconds, one try after the other.
_LEADS = (0.5, 5.0, 50.0)

# Some encoders and damage put times in slight disorder. A clock that goes back further than ``_DISORDER``, in seconds,
# was set; one that goes back less is moved on by ``_TICK``.
_DISORDER, _TICK = 1.0, 0.001

# Records have times in whole microseconds: one may be asked for that is later than its frame by half of one.
_ROUNDED = 0.6e-6

# Of Matroska files that are joined byte by byte FFmpeg reads so many, and ends without a word.
_PARTS_READ = 2

# Seconds; FFmpeg cannot be asked for later ones.
_LATEST = 1e9


class FileSource(Source):
    """The first video stream of a file. It waits for its reader: no frame is ever dropped.

    Times are the stream's own, exactly as stored: they need not begin at 0 and are not evenly spaced. Where a file
    stores none, or they jump back, frames follow at the nominal rate; see :mod:`ssdcam.media.clock`. ``start`` and
    ``end`` count on the same clock, but from ``origin``.

    Args:
        path: the file.
        start: the first frame given is the first at or after this time, seconds; None is the beginning.
        end: only frames before this time are given, seconds; None is all. Both may be a record's time, which is
            rounded to microseconds.
        stride: give every Nth frame, counted from the first one given.
        max_frames: give no more than this.

    Attributes:
        interlaced: whether pictures hold two fields, taken one after the other, as the first one says.
        origin: where the file's clock starts, in seconds; see :func:`~ssdcam.media.clock.origin`. 0 but for MPEG-TS and
            its kin, and recordings of streams that had run for a while.
        begins: when the video begins, in seconds on the frames' clock.
        ends: when it, or what is asked for, ends, on the same clock: as the file says, which is None where it does not,
            and may be one part's end where several were joined. Once the last frame was read it is true: no earlier
            than that frame's own end, and no later where the clock starts anywhere, or a cut would not be noticed.
        start_time: what ``start`` is on that clock, or ``begins``, whichever is later.
        end_time: what ``end`` is on that clock; infinite without one.

    Raises:
        SourceError: it is no video, cannot be read, or holds no frame.
        WrongUsageError: an argument is out of range.
    """

    live = False

    def __init__(
        self,
        path: str | Path,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        max_frames: int | None = None,
    ) -> None:
        check_range(start, end, stride, max_frames)
        self._path = Path(path)
        self.name = str(path)
        self._decoder = _open(self._path, self.name)
        decoder = self._decoder
        self.width, self.height, self.rate = decoder.width, decoder.height, decoder.rate
        self.duration, self.colours, self.pixel_aspect = decoder.duration, decoder.colours, decoder.pixel_aspect
        self.interlaced = decoder.interlaced
        self.origin = float(origin(decoder.container))
        self.begins = decoder.begins
        self._start = -math.inf if start is None else self.origin + start - _ROUNDED
        self.start_time = max(self.begins, self._start)
        self.end_time = math.inf if end is None else self.origin + end - _ROUNDED
        self.ends = None if self.duration is None else min(self.begins + self.duration, self.end_time)
        self._stride = stride
        self._left = math.inf if max_frames is None else max_frames
        self.frame_count = self._estimate()
        self._seeked = False
        self._forgiven = 0  # failures before the start
        self._index = self._seek() if start is not None else 0
        self._frames = self._read()

    def _estimate(self) -> int | None:
        count = self._decoder.stream.frames
        rate = float(self.rate or (count / self.duration if self.duration else 0))
        whole = self.duration or (count / rate if rate else 0)
        if not whole or not rate:
            return None
        seconds = max(min(self.begins + whole, self.end_time) - self.start_time, 0.0)
        frames = math.ceil(round((count or whole * rate) * seconds / whole / self._stride, 3))
        return min(frames, int(self._left)) if math.isfinite(self._left) else frames

    def _seek(self) -> int:
        """Go to the start, and say how many frames come before it."""
        decoder = self._decoder
        first = decoder.peek()
        if first is None or first.pts is None or self._start - decoder.seconds(first.pts) < _SEEK_FROM:
            return 0
        try:
            before, furthest = _times_before(self._path, decoder, self._start)
            # What comes before the first frame cannot be decoded, as where a recording begins between two key frames.
            before = before[bisect_left(before, first.pts) :]
            for lead in _LEADS:
                decoder.seek(self._start - lead)
                passed = []
                while (frame := decoder.peek()) is not None and frame.pts is not None:
                    if decoder.seconds(frame.pts) >= self._start:
                        break
                    passed.append(frame.pts)
                    decoder.read()
                # Some formats seek too far, or mistake the times behind a seek, or have the same ones in several parts.
                near = decoder.landed is None or decoder.landed <= furthest
                if passed and passed == before[-len(passed) :] and near:
                    self._seeked = True
                    return len(before)
        except (SourceError, av.error.FFmpegError):
            pass  # as when the format cannot seek at all
        decoder.close()
        self._decoder = _open(self._path, self.name)
        return 0

    def read(self) -> Frame | None:
        """The next frame.

        Returns:
            The frame; None at the end.

        Raises:
            SourceError: all that can be decoded was given, and part of the file could not.
        """
        return next(self._frames, None)

    def _read(self) -> Iterator[Frame]:
        if not self._left:
            return
        given, pts, frame = 0, -math.inf, None
        for index, (pts, frame) in enumerate(self._timed(), self._index):
            if pts >= self.end_time:
                break
            if pts < self._start:
                self._forgiven = self._decoder.failed
                continue
            if given % self._stride == 0:
                yield Frame(index, pts, self._decoder.picture(frame), time.monotonic())
                self._left -= 1
                if not self._left:
                    break
            given += 1
        else:
            self._correct_end(pts, frame)
            self._check_whole()
            return
        if failed := self._decoder.failed - self._forgiven:
            raise SourceError(f"{self.name}: damaged: {_frames(failed)} could not be decoded")

    def _correct_end(self, last: float, frame: av.VideoFrame | None) -> None:
        """Tell when the video ends, of which this is the last frame and its time.

        What is left of a file that was cut off may still say where the whole one ended.
        """
        if self.ends is None or self.ends <= last or starts_anywhere(self._decoder.container):
            self.ends = min(last + float(1 / (self.rate or FALLBACK_RATE)), self.end_time)
        elif frame is not None and not shows_cuts(self._path):
            lasts = max(self._decoder.seconds(frame.duration), float(1 / (self.rate or FALLBACK_RATE)))
            self.ends = min(last + lasts, self.ends)

    def _timed(self) -> Iterator[tuple[float, av.VideoFrame]]:
        step = float(1 / (self.rate or FALLBACK_RATE))
        last, shift = -math.inf, 0.0
        for frame in self._all():
            if frame.pts is None:
                pts = last + step if math.isfinite(last) else 0.0
            else:
                pts = self._decoder.seconds(frame.pts) + shift
            # Some encoders give the first pictures behind a leap times of decoding from before it.
            if math.isfinite(last) and not last - _DISORDER <= pts <= last + self._decoder.leap:
                shift += last + step - pts
                pts = last + step
            last = pts = pts if pts > last else last + _TICK
            yield pts, frame

    def _all(self) -> Iterator[av.VideoFrame]:
        last: int | None = None
        while (frame := self._decoder.read()) is not None:
            last = frame.pts
            yield frame
        missing = self._decoder.packets - self._decoder.frames - self._decoder.failed
        if missing > 0 and last is not None:
            yield from self._tail(last)

    def _tail(self, last: int) -> Iterator[av.VideoFrame]:
        """Frames after ``last`` that were lost when the decoder was drained.

        A decoder that works on several frames at once tells of damage in the last ones only when it is drained, and
        PyAV then throws away whatever else was in it. One that works on a single frame does not have the problem.
        """
        with_all = self._decoder
        with_one = _open(self._path, self.name, threads="SLICE")
        try:
            if with_all.settled is not None and not with_all.joined:
                with_one.seek(with_all.seconds(with_all.settled))
            while (frame := with_one.read()) is not None:
                if frame.pts is not None and frame.pts > last:
                    with_all.frames += 1
                    yield frame
            with_all.failed += with_one.failed
        finally:
            with_one.close()

    def _check_whole(self) -> None:
        decoder = self._decoder
        cut = is_cut_short(self._path)
        # Codecs may hide frames or split them over packets, so a difference alone is no sign of damage.
        failed = decoder.failed - self._forgiven
        if not cut and not failed:
            if (parts := joined_parts(self._path)) > _PARTS_READ:
                how = f"is {parts} Matroska files, joined byte by byte, of which {_PARTS_READ} can be read"
                raise SourceError(f"{self.name}: {how}: join them by mkvmerge -o OUT A + B + C")
            return
        # Only a whole reading can be compared with what the header promises.
        promised = decoder.stream.frames if cut and not self._seeked else 0
        total = max(decoder.packets, promised)
        lost = max(total - decoder.frames, failed)
        if not lost and promised:
            return  # what is missing at the end is no picture
        what = f"{lost} of {_frames(total)} could not be decoded" if lost else "its end is missing"
        raise SourceError(f"{self.name}: damaged: {what}{' (the file is cut short)' if cut else ''}")

    def other_tracks(self) -> dict[str, int]:
        """How many tracks of each kind there are but the first video and sound.

        Kinds are ``video``, ``audio``, ``subtitle``, ``timecode``, ``data`` and ``attachment``. Those of which there
        are none are left out; cover pictures do not count, nor do chapters, which MP4 has a track for.
        """
        streams = self._decoder.container.streams
        data = [s for s in streams.data if s.discard != av.stream.Discard.all]  # as FFmpeg has it for chapters
        times = sum("timecode" in s.metadata for s in data)
        counts = {
            "video": len(videos_of(self._decoder.container)) - 1,
            "audio": len(streams.audio) - 1,
            "subtitle": len(streams.subtitles),
            "timecode": times,
            "data": len(data) - times,
            "attachment": len(streams.attachments),
        }
        return {kind: count for kind, count in counts.items() if count > 0}

    def description(self) -> Description:
        """What the file says about itself."""
        return description_of(self._decoder.container)

    def close(self) -> None:
        """Close the file."""
        self._frames = iter(())
        self._decoder.close()


def check_range(start: float | None, end: float | None, stride: int, max_frames: int | None) -> None:
    """That there may be frames between two times; as of :class:`FileSource`.

    Raises:
        WrongUsageError: there can be none.
    """
    if start is not None and not 0 <= start < _LATEST:
        raise WrongUsageError(f"start {start:g} is no time in a video: it is counted from 0 s")
    if end is not None and not end > (start or 0.0):
        raise WrongUsageError(f"end {end:g} is not after start {start or 0.0:g}")
    if stride < 1:
        raise WrongUsageError(f"stride {stride} is not 1 or more")
    if max_frames is not None and max_frames < 0:
        raise WrongUsageError(f"max frames {max_frames} is below 0")


def _open(path: Path, name: str, threads: Literal["AUTO", "SLICE"] = "AUTO") -> Decoder:
    try:
        if path.is_dir():
            raise SourceError(f"{name}: a folder, not a video")
        if not path.stat().st_size or not path.is_file():
            raise SourceError(f"{name}: an empty file" if path.is_file() else f"{name}: not a file, nor a camera")
        if lacks_index(path):
            raise SourceError(f"{name}: its index (moov) is missing: the recording was cut off before it was finished")
    except OSError as error:
        raise SourceError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    # The prefix keeps names with a colon from being taken for URLs.
    return Decoder(f"file:{path}", name, threads=threads, persistent=True)


def _times_before(path: Path, decoder: Decoder, start: float) -> tuple[list[int], int]:
    """When the frames before a time are shown, in order, and where in the file, in bytes, the last of them lies.

    Costs the reading of the file that far, but no decoding. Where several parts were joined no frames are told of, for
    nothing can be sought in them.
    """
    times, furthest = [], 0
    with open_to_read(f"file:{path}") as container:
        clock = PictureClock(container, decoder.stream)
        for packet in container.demux(container.streams[decoder.stream.index]):
            clock.set(packet)
            if packet.dts is not None and decoder.seconds(packet.dts - decoder.showing.lateness) >= start:
                break  # whatever is decoded later is shown later
            if clock.joints:
                return [], 0
            furthest = max(furthest, packet.pos or 0)
            shown = decoder.showing.time(packet)
            if packet.size and not packet.is_discard and shown is not None:
                times.append(shown)
    return sorted(time for time in times if decoder.seconds(time) < start), furthest


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
