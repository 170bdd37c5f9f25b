"""The clock of a file's pictures and sound: where it starts, and what becomes of one that starts anew on the way.

MPEG-TS and its kin let it start anywhere. Such files are often joined, byte by byte, from parts whose clocks know
nothing of each other. Here the first part's clock goes on from part to part by the pictures: they follow each other
without a hole, and each part's sound stays beside its own pictures.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from ssdcam.media.av import Packet, av, lacks_pts

FALLBACK_RATE = Fraction(25)
"""Frames a second where none is stated, as in raw streams."""

_FASTEST = 10_000  # frames a second that are believed

# A clock that goes back further, in seconds, was set: times of decoding rise from packet to packet, also where pictures
# are shown in another order, and what some encoders do to them is less. One that leaps forward further than ``_LEAP``
# was set, too, as ffmpeg has it: a hole so long cannot be told from a part with a later clock.
_DISORDER, _LEAP = Fraction(3, 10), Fraction(10)

# MPEG's clocks count 2^33 of these and begin anew; FFmpeg unwinds that once, and takes a step back for it at times.
_MPEG_UNIT, _MPEG_ROUND = Fraction(1, 90_000), Fraction(2**33, 90_000)

# Seconds. What begins later by a codec's delay, or on purpose, as behind a title that was cut away, does so by less; a
# clock that is further on when pictures and sound begin had run before, as that of a stream when its recording began.
_LATE = Fraction(10)

_HOLE = Fraction(1, 2)  # seconds; sound that pauses no longer goes on in the part where it is
_DISTANCE = 1  # seconds that sound may be nearer to another part's pictures, and yet go on in its own
_FRINGE = Fraction(1, 10)  # seconds that sound may overlap by and nobody is told
_MARKS = 512  # pictures that are kept in mind
_PATIENCE = 500  # packets of sound that wait for the picture behind them
_UNDERWAY = 512  # packets that a decoder works on or keeps at most, with room to spare


def starts_anywhere(container: av.container.InputContainer) -> bool:
    """Whether a file's clock may start at any time, and anew on the way."""
    return bool(container.format.flags & cast(int, av.format.Flags.ts_discont.value))


def starts_anew(container: av.container.InputContainer) -> bool:
    """Whether a file's clock may start anew on the way: FFmpeg reads on into a second file of Matroska."""
    return starts_anywhere(container) or container.format.name.startswith("matroska")


def origin(container: av.container.InputContainer) -> Fraction:
    """Where a file's clock starts, in seconds: when its first stream begins where that may be anywhere.

    Elsewhere 0, for there a stream that begins late was given its time on purpose, unless pictures, and sound if there
    is any, begin later than anybody has them do: then it is when the first of them begins.
    """
    anywhere = starts_anywhere(container)
    streams = container.streams if anywhere else (first_video(container), *container.streams.audio[:1])
    starts = (s.start_time * s.time_base for s in streams if s and s.start_time is not None and s.time_base)
    begins = min(starts, default=Fraction(0))
    return begins if anywhere or begins > _LATE else Fraction(0)


def first_video(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """The first stream of pictures, of those that :func:`videos_of` gives."""
    return next(iter(videos_of(container)), None)


def videos_of(container: av.container.InputContainer) -> list[av.video.stream.VideoStream]:
    """The streams of pictures; a song's cover is none, nor is the still picture that stands in for an animation."""
    cover = av.stream.Disposition.attached_pic
    shown = [s for s in container.streams.video if not s.disposition & cover]
    # An animated AVIF holds its first picture by itself, too, as one that lasts no time.
    return [s for s in shown if s.frames != 1 or s.duration is not None] or shown


def rate_of(stream: av.video.stream.VideoStream) -> Fraction | None:
    """Nominal frames a second; None where none is stated, or one that no video has."""
    rate = stream.average_rate or stream.guessed_rate
    return rate if rate and 0 < rate <= _FASTEST else None


def _difference(later: Fraction, earlier: Fraction, *, mpeg: bool) -> Fraction:
    """Seconds from one time to another, the shorter way around where the clock is MPEG's."""
    if not mpeg:
        return later - earlier
    return (later - earlier + _MPEG_ROUND / 2) % _MPEG_ROUND - _MPEG_ROUND / 2


class PictureClock:
    """Gives the packets of a file's pictures, in the order they are read, their times on the first part's clock.

    Where the clock may start anew, a part whose clock was set goes on a frame after the one before. Matroska does not
    say when pictures are decoded, and FFmpeg's guess is off at a joint: there, only a key frame tells of one, for it is
    shown after all that were decoded before it.

    Args:
        container: the file.
        stream: its pictures.

    Attributes:
        joints: how often the clock was set so far.
        leap: how far it may leap forward, in seconds, before that says that it was set.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> None:
        self.joints = 0
        self._anywhere = starts_anywhere(container)
        self._by_key_frames = starts_anew(container) and not self._anywhere
        self.leap = float(_LEAP) if self._anywhere else math.inf
        self._unit = Fraction(stream.time_base or Fraction(1, av.time_base))
        self._frame = 1 / (rate_of(stream) or FALLBACK_RATE)
        self._shift = 0  # ticks
        self._last: Fraction | None = None  # seconds, as stored
        self._shown: int | None = None  # the latest picture, in ticks

    def set(self, packet: Packet) -> None:
        """Change a packet's times; one without any stays so."""
        stored = packet.dts if packet.dts is not None else packet.pts
        if self._anywhere and stored is not None:
            self._follow(stored * self._unit)
        elif self._by_key_frames and packet.pts is not None:
            step = 0 if self._shown is None else packet.pts + self._shift - self._shown
            if packet.is_keyframe and step * self._unit < -_DISORDER:
                self.joints += 1
                self._shift += round(self._frame / self._unit) - step
            self._shown = max(self._shown or 0, packet.pts + self._shift)
        packet.pts = None if packet.pts is None else packet.pts + self._shift
        packet.dts = None if packet.dts is None else packet.dts + self._shift

    def _follow(self, time: Fraction) -> None:
        """Take note of a packet's time, in seconds, as stored."""
        if self._last is not None:
            step = _difference(time, self._last, mpeg=self._unit == _MPEG_UNIT)
            if not -_DISORDER <= step <= _LEAP:
                self.joints += 1
                step = self._frame
            self._shift += round((step - (time - self._last)) / self._unit)
        self._last = time


class ShowingClock:
    """Says when frames are shown where a file states only when their packets are decoded, as AVI does.

    Where frames are decoded in another order than they are shown in, the decoder keeps some back: with each packet that
    comes it gives the frame whose turn it is, so that what it gives is in order but late. The first frame is shown when
    its packet is to be decoded, for sound begins then, too; so the others are shown that much before the packet with
    which they come.

    Args:
        container: the file; where it does state when frames are shown, all times are left alone.

    Attributes:
        lateness: how long after its time the decoder gives a frame, in ticks, as far as is known.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        self.lateness = 0
        self._needed = lacks_pts(container)
        self._begins: float = math.inf  # the first packet
        self._depth = 0  # how many frames the decoder keeps back
        self._sent: deque[int] = deque(maxlen=_UNDERWAY)
        self._last: int | None = None  # when the last frame is shown

    def begin(self) -> None:
        """The packets and frames that come next are from elsewhere in the file."""
        self._sent.clear()
        self._last = None

    def send(self, packet: Packet) -> None:
        """Take note of a packet that the decoder gets next, its times as they stay."""
        if self._needed and packet.size and packet.dts is not None:
            self._begins = min(self._begins, packet.dts)
            self._sent.append(packet.dts)

    def time(self, packet: Packet) -> int | None:
        """When the frame that comes with a packet is shown, in ticks; None: unknown, or there is none."""
        if not self._needed or packet.dts is None:
            return packet.pts
        return packet.dts - self.lateness if packet.dts >= self._begins + self.lateness else None

    def set(self, frame: av.VideoFrame, depth: int) -> None:
        """Change a frame's time to when it is shown.

        Args:
            frame: the next that the decoder gives.
            depth: how many it keeps back; it may find out on the way that there have to be more.
        """
        if not self._needed:
            return
        if frame.dts is not None:
            if depth != self._depth and frame.dts in self._sent:
                at = self._sent.index(frame.dts)
                self._depth, self.lateness = depth, frame.dts - self._sent[max(at - depth, 0)]
            frame.pts = frame.dts - self.lateness
        elif self._last is not None:  # it was kept back until there were no more packets
            frame.pts = self._last + max(self.lateness // max(depth, 1), 1)
        self._last = frame.pts


@dataclass(frozen=True)
class _Mark:
    """A packet of pictures.

    Attributes:
        at: where it lies in the file, in bytes.
        stored: when it is decoded, in seconds, as stored.
        time: the same on the first part's clock.
        part: the number of its part.
        begins: when the first picture of its part is shown, on the first part's clock: with B-frames, later than it is
            decoded.
    """

    at: int
    stored: Fraction
    time: Fraction
    part: int
    begins: Fraction


class SoundClock:
    """Reads a file's sound, its times on the clock of the pictures that it belongs to.

    Args:
        container: a file whose clock may start anew, at its beginning or in its first part; it holds pictures.
        sound: the stream.

    Attributes:
        overlapping: how many packets were left out because one part's sound is still heard when the next one begins;
            a packet or two, as encoders make them, do not count.
    """

    def __init__(
        self, container: av.container.InputContainer, sound: av.AudioStream, pictures: av.video.stream.VideoStream
    ) -> None:
        self.overlapping = 0
        self._container, self._sound, self._pictures = container, sound, pictures
        self._unit = Fraction(sound.time_base or Fraction(1, av.time_base))
        self._mpeg = self._unit == _MPEG_UNIT
        self._clock = PictureClock(container, pictures)
        self._marks: deque[_Mark] = deque(maxlen=_MARKS)
        self._held: deque[tuple[int, Packet]] = deque()
        self._beside: _Mark | None = None  # of the last packet
        self._last = Fraction(0)  # when it begins, as stored
        self._given: tuple[int, Fraction] | None = None  # the part and the time of the last one that was not left out

    def read(self) -> Iterator[Packet]:
        """The packets of sound, in order; those without a time are given as they are."""
        places = {self._sound.index: 0, self._pictures.index: 0}  # of the last packets; some have none of their own
        for packet in self._container.demux(self._sound, self._pictures):
            if packet.size == 0:
                continue
            index = packet.stream.index
            at = places[index] = places[index] if packet.pos is None else packet.pos
            if index == self._sound.index:
                self._held.append((at, packet))
                if len(self._held) > _PATIENCE:  # the pictures may have ended long ago
                    yield from self._placed(self._held.popleft())
            elif self._mark(packet, at):
                while self._held and self._held[0][0] < at:
                    yield from self._placed(self._held.popleft())
        while self._held:
            yield from self._placed(self._held.popleft())

    def _mark(self, packet: Packet, at: int) -> bool:
        stored = packet.dts if packet.dts is not None else packet.pts
        self._clock.set(packet)
        if stored is None or (self._marks and at <= self._marks[-1].at):
            return False
        unit, part = packet.time_base, self._clock.joints
        decoded = packet.dts if packet.dts is not None else packet.pts
        if self._marks and self._marks[-1].part == part:
            begins = self._marks[-1].begins
        else:
            begins = (packet.pts if packet.pts is not None else decoded or 0) * unit
        self._marks.append(_Mark(at, stored * unit, (decoded or 0) * unit, part, begins))
        return True

    def _placed(self, held: tuple[int, Packet]) -> Iterator[Packet]:
        at, packet = held
        stored = packet.dts if packet.dts is not None else packet.pts
        if stored is None or not self._marks:
            yield packet
            return
        place = bisect_left(self._marks, at, key=lambda mark: mark.at)
        before, after = self._marks[max(place - 1, 0)], self._marks[min(place, len(self._marks) - 1)]
        beside = self._choose(stored * self._unit, before, after)
        self._beside, self._last = beside, stored * self._unit
        time = beside.time + self._apart(self._last, beside)
        overlap = self._overlap(beside.part, time, after)
        if overlap is not None:
            self.overlapping += overlap > _FRINGE
            return
        self._given = beside.part, time
        shift = round(time / self._unit) - stored
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        yield packet

    def _choose(self, stored: Fraction, before: _Mark, after: _Mark) -> _Mark:
        """The picture whose part a packet of sound belongs to, which lies between two of them in the file."""
        current = before if self._beside is None or self._beside.part == before.part else self._beside
        if current.part == before.part == after.part:
            return before
        nearest = min((before, after), key=lambda mark: abs(self._apart(stored, mark)))
        goes_on = self._beside is not None and 0 < stored - self._last <= _HOLE
        if before.part == current.part:  # the joint is somewhere between the two
            return current if goes_on else nearest
        if not goes_on:
            return before
        # Sound may lie behind the pictures that it belongs to, so that the first ones of the next part come before it.
        much_nearer = abs(self._apart(stored, nearest)) + _DISTANCE < abs(self._apart(stored, current))
        return nearest if much_nearer else current

    def _apart(self, stored: Fraction, mark: _Mark) -> Fraction:
        return _difference(stored, mark.stored, mpeg=self._mpeg)

    def _overlap(self, part: int, time: Fraction, after: _Mark) -> Fraction | None:
        """For how long the next part has begun already, or the one before is still heard; None for neither."""
        if part < after.part and time >= after.begins:
            return time - after.begins
        if self._given is not None and part > self._given[0] and time <= self._given[1]:
            return self._given[1] - time
        return None
