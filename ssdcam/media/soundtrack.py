"""The sound of one file for another: copied packet by packet, or encoded anew where the container cannot hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np

from ssdcam.media.av import Packet, av, open_to_read, reason
from ssdcam.media.clock import SoundClock, first_video, starts_anew, starts_anywhere
from ssdcam.media.containers import Container

_BITS_A_CHANNEL = 96_000  # transparent in AAC, Opus and nearly so in MP3
_CHUNK = 1024  # samples
_SEEK_EARLY = 0.5  # seconds before the start, for decoders that need a run-up
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # of so many channels, unless the file says something else
_LONGEST_HOLE = 3600  # seconds that are filled with silence: a wrong time in a small file would fill the disk with it
# FFmpeg looks into the first seconds to find out what a stream holds: sound may begin behind them. It keeps in memory
# what it has seen.
_LOOK_FAR = {"analyzeduration": str(3600 * 10**6), "probesize": str(2**27)}
_LEAST_RATE = 44_100  # of MP3 in AVI: at a telephone's, which is outside the standard, the run-up takes 0.14 s
_AS_GOOD_AS_ZERO = Fraction(1, 20)  # seconds that sound may be late by in a container where it begins at 0


def open_soundtrack(
    source: Path,
    output: av.container.OutputContainer,
    kind: Container,
    *,
    start: float,
    end: float | None,
    warn: Callable[[str], None],
) -> Soundtrack | None:
    """Add the first sound of ``source`` to an output that has not been started yet.

    Args:
        source: a file with the video that the output's frames come from.
        output: gets one more stream.
        kind: what the output is.
        start: when the output begins, in seconds of the source's clock, as a :class:`~ssdcam.media.sources.FileSource`
            of it has it. Sound from before is left out.
        end: when the sound ends, on the same clock; None: it is kept to its own end.
        warn: is told, in a line, of sound that cannot be had; the video needs to go on without.

    Returns:
        None where there is no sound from ``start`` to ``end``, or none that can be read.
    """
    try:
        container = _open_at(source, start - _SEEK_EARLY)
    except (av.FFmpegError, OSError) as error:
        warn(f"{source}: its sound is left out, for it cannot be read: {reason(error)}")
        return None
    if not container.streams.audio:
        container.close()
        return None
    stream = container.streams.audio[0]
    if stream.codec_context is not None and not stream.codec_context.sample_rate:
        container.close()
        container = _open_at(source, start - _SEEK_EARLY, _LOOK_FAR)
        stream = container.streams.audio[0]
    if stream.codec_context is None or not stream.time_base or not stream.codec_context.sample_rate:
        warn(f"{source}: its sound is left out, for its kind is unknown")
        container.close()
        return None
    track = Soundtrack(source, container, output, kind, start, end, warn)
    if track.next_time is not None:
        return track
    if track.dropped:
        warn(f"{source}: its sound is left out, for all of it is broken")
    track.close()
    return None


def _open_at(source: Path, seconds: float, options: dict[str, str] | None = None) -> av.container.InputContainer:
    container = open_to_read(f"file:{source}", options=options)
    if seconds <= (container.start_time or 0) / av.time_base:
        return container
    # Of joined parts several may have that time: only who reads them all can tell. Matroska says where its first ends.
    ends = 0 if starts_anywhere(container) else (container.duration or 0) / av.time_base
    if starts_anew(container) and seconds >= ends:
        return container
    try:
        container.seek(int(seconds * av.time_base))
    except av.FFmpegError:  # it cannot be sought in, and may be anywhere now: read it from its beginning
        container.close()
        container = open_to_read(f"file:{source}", options=options)
    return container


class Soundtrack:
    """Packets of sound for the output, read as they are asked for.

    Attributes:
        dropped: how many packets were left out because they are broken.
        next_time: when the next packet begins, in seconds of the output; None after the last.
    """

    def __init__(
        self,
        source: Path,
        container: av.container.InputContainer,
        output: av.container.OutputContainer,
        kind: Container,
        start: float,
        end: float | None,
        warn: Callable[[str], None],
    ) -> None:
        self._source, self._container, self._kind, self._warn = source, container, kind, warn
        self._stream = container.streams.audio[0]
        self._time_base = Fraction(self._stream.time_base or 1)
        self._start = start
        self._shift = -round(Fraction(start) / self._time_base)
        self._end = inf if end is None else end - start
        self.dropped = 0
        pictures = first_video(container) if starts_anew(container) else None
        self._clock = SoundClock(container, self._stream, pictures) if pictures else None
        for other in container.streams:
            if other is not self._stream and other is not pictures:
                other.discard = av.stream.Discard.all
        late = ((self._stream.start_time or 0) + self._shift) * self._time_base
        self._codec = self._stream.codec_context.codec.canonical_name
        copied = self._codec in kind.sound and not (kind.steady and late > _AS_GOOD_AS_ZERO)
        self._packets = self._copied(output) if copied else self._encoded(output)
        self.next_time: Fraction | None = Fraction(0)
        self._next: Packet | None = None
        self._lasts = 0  # how long the shortest packet that was given is heard, in its own unit
        self._advance()

    def until(self, seconds: float) -> Iterator[Packet]:
        """The packets that begin before a time of the output, from where the last call stopped."""
        while self._next is not None and self.next_time is not None and self.next_time < seconds:
            packet, begins = self._next, self.next_time
            self._advance()
            # Matroska often does not say how long a packet is; in fragments, the next one would begin with it, and the
            # last would not be heard: that one is taken to be as long as the shortest, as holes lengthen others.
            if not packet.duration and self.next_time is not None:
                packet.duration = max(round((self.next_time - begins) / packet.time_base), 0)
            packet.duration = packet.duration or self._lasts
            self._lasts = min(packet.duration, self._lasts or packet.duration)
            yield packet

    def close(self) -> None:
        """Give the source back."""
        self._next = self.next_time = None
        self._packets = iter(())
        self._container.close()

    def _advance(self) -> None:
        try:
            self._next = next(self._packets, None)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._next = None
            self._warn(f"{self._source}: its sound stops at {float(self.next_time or 0):.1f} s: {reason(error)}")
        self.next_time = None if self._next is None else _time(self._next)

    def _copied(self, output: av.container.OutputContainer) -> Iterator[Packet]:
        packets = (p for p in self._audible() if self._start <= 0 or _time(p) >= 0)
        first = next(packets, None)
        if first is None:
            return
        stream = output.add_stream_from_template(self._stream, opaque=True)
        stream.metadata.update(_language(self._stream))
        # A file from a transport stream: every packet has its own header, which MP4 wants once, and not in the packets.
        headed = self._codec == "aac" and not stream.codec_context.extradata
        strip = av.BitStreamFilterContext("aac_adtstoasc", self._stream) if headed and self._kind.fragmented else None
        settings, changed = _adts_settings(first) if headed else b"", False
        for packet in chain([first], packets):
            if not self._fit_in(packet):
                continue
            if headed and _adts_settings(packet) != settings:  # which only the first header tells in the output
                if not changed:
                    what = f"from {float(_time(packet)):.1f} s on its sound has other settings"
                    self._warn(f"{self._source}: {what}, and is left out while it has them: .webm and .avi take it")
                changed = True
                continue
            time_base = packet.time_base  # which the filter takes away with the data
            try:
                ready = strip.filter(packet) if strip else [packet]
            except av.FFmpegError:
                self.dropped += 1
                continue
            for each in ready:
                each.time_base = time_base
                each.stream = stream
                yield each

    def _audible(self) -> Iterator[Packet]:
        """The packets without those that an edit list hides, but for what a decoder needs before the first one."""
        run_up: list[Packet] = []
        for packet in self._read():
            if not packet.is_discard:
                yield from run_up
                yield packet
            if packet.is_discard and _time(packet) < 0:  # where nobody hears it
                run_up.append(packet)
            else:
                run_up.clear()

    def _fit_in(self, packet: Packet) -> bool:
        """Whether the container can hold a packet that may begin before time 0; one that nearly does is put there."""
        # Matroska counts from what a decoder needs to begin with, where FFmpeg knows how much that is.
        counted = self._kind.matroska and (self._container.format.name.startswith("matroska") or self._codec == "opus")
        if self._kind.fragmented or counted or _time(packet) >= 0:
            return True
        if _time(packet) + (packet.duration or 0) * packet.time_base / 2 < 0:
            return False
        packet.pts = packet.dts = 0
        return True

    def _encoded(self, output: av.container.OutputContainer) -> Iterator[Packet]:
        source, name = self._stream.codec_context, self._kind.sound_encoder
        rates = av.Codec(name, "w").audio_rates or [source.sample_rate]
        least = max(source.sample_rate, _LEAST_RATE if self._kind.steady else 0)
        rate = min((r for r in rates if r >= least), default=max(rates))
        layout = source.layout.name
        if layout == f"{source.channels} channels":  # nobody said which is which
            layout = _LAYOUTS.get(source.channels, "stereo")
        if not _encodes(name, rate, layout):
            layout = "stereo"
        # What an encoder puts in front of the sound would delay it where nothing begins before time 0.
        frames = self._decoded(rate, layout, _run_up(name, rate, layout) if self._kind.steady else 0)
        first = next(frames, None)
        if first is None:
            return
        stream = output.add_stream(name, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.metadata.update(_language(self._stream))
        _set_up(stream.codec_context, layout)
        for frame in chain([first], frames, [None]):
            for packet in stream.encode(frame):
                packet.dts = packet.pts
                yield packet

    def _decoded(self, rate: int, layout: str, begin: int) -> Iterator[av.AudioFrame]:
        """Frames in the encoder's rate and layout, without holes: silence stands where something is missing.

        What is heard before sample ``begin`` of the output is left out.
        """
        options = {"async": "1", "first_pts": "0"} if self._kind.steady else {"async": "1"}
        resampler = av.AudioResampler("fltp", layout, rate, _CHUNK, options)
        for frame in _alike(self._heard()):
            yield from _since(begin, resampler.resample(frame))
        yield from _since(begin, resampler.resample(None))

    def _heard(self) -> Iterator[av.AudioFrame]:
        """The source's frames, as they are decoded."""
        heard = Fraction(0) if self._kind.steady else None  # elsewhere it begins with the first packet, however late
        for packet in chain(self._read(), [None]):
            if packet is not None and self._start > 0 and _end(packet) <= 0:
                continue
            if packet is not None:
                if heard is not None and _time(packet) - heard > _LONGEST_HOLE:
                    hole = f"nothing is heard for {float(_time(packet) - heard):.0f} s"
                    self._warn(f"{self._source}: its sound stops at {float(heard):.1f} s: {hole}")
                    break
                heard = _end(packet)
            try:
                yield from self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self.dropped += 1

    def _read(self) -> Iterator[Packet]:
        """The source's packets, with times of the output; what would go backwards is broken, and left out."""
        last: int | None = None
        for packet in self._clock.read() if self._clock else self._container.demux(self._stream):
            if packet.size == 0:
                continue
            times = [t for t in (packet.dts, packet.pts) if t is not None]
            if not times or (last is not None and times[0] + self._shift <= last):
                self.dropped += not packet.is_discard
                continue
            packet.dts, packet.pts = times[0] + self._shift, times[-1] + self._shift
            if _time(packet) >= self._end:
                break
            last = last if packet.is_discard else packet.dts
            yield packet
        if self._clock and self._clock.overlapping:
            count = self._clock.overlapping
            self._warn(f"{self._source}: {count} packets of sound were left out where joined parts overlap")


def _adts_settings(packet: Packet) -> bytes:
    """Of an AAC packet with a header of its own: profile, rate and channels (ISO/IEC 13818-7, 6.2.1)."""
    header = bytes(memoryview(packet)[2:4])
    return bytes((header[0] & 0xFD, header[1] & 0xC0)) if len(header) == 2 else b""


def _time(packet: Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _end(packet: Packet) -> Fraction:
    return _time(packet) + (packet.duration or 0) * packet.time_base


def _language(stream: av.AudioStream) -> dict[str, str]:
    return {"language": stream.language} if stream.language else {}


def _set_up(encoder: av.AudioCodecContext, layout: str) -> None:
    encoder.layout = layout
    encoder.bit_rate = _BITS_A_CHANNEL * av.AudioLayout(layout).nb_channels


def _encodes(name: str, rate: int, layout: str) -> bool:
    """Try an encoder, because a stream that turns out wrong cannot be taken out of an output."""
    try:
        _opened(name, rate, layout)
    except (av.FFmpegError, ValueError):
        return False
    return True


def _opened(name: str, rate: int, layout: str) -> av.AudioCodecContext:
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.format = (av.Codec(name, "w").audio_formats or [av.AudioFormat("fltp")])[0]
    encoder.sample_rate = rate
    _set_up(encoder, layout)
    encoder.open()
    return encoder


def _run_up(name: str, rate: int, layout: str) -> int:
    """How many samples an encoder puts in front of what it is given; FFmpeg tells with the first packet."""
    encoder = _opened(name, rate, layout)
    silence = av.AudioFrame(encoder.format, layout, encoder.frame_size or _CHUNK)
    for plane in silence.planes:
        plane.update(bytes(plane.buffer_size))
    silence.sample_rate, silence.pts, silence.time_base = rate, 0, Fraction(1, rate)
    packets = [*encoder.encode(silence), *encoder.encode(None)]
    return max(-round((packets[0].pts or 0) * packets[0].time_base * rate), 0)


def _alike(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Frames in the format, layout, rate and unit of time of the first; broadcasts change them between programmes."""
    first: av.AudioFrame | None = None
    current, resampler = None, None
    for frame in frames:
        first = first or frame
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != current:
            wanted = first.format.name, first.layout.name, first.sample_rate
            current, resampler = kind, None if kind == wanted else av.AudioResampler(*wanted)
        for part in resampler.resample(frame) if resampler else (frame,):
            if resampler and part.pts is not None and part.time_base and first.time_base:
                part.pts, part.time_base = round(part.pts * part.time_base / first.time_base), first.time_base
            yield part


def _since(begin: int, frames: list[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Frames without the samples from before sample ``begin`` of the output."""
    for frame in frames:
        early = ceil(begin - (frame.pts or 0) * Fraction(frame.time_base or 0) * frame.sample_rate)
        if early <= 0:
            yield frame
        elif early < frame.samples:
            samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, early:])
            rest = av.AudioFrame.from_ndarray(samples, frame.format.name, frame.layout.name)
            rest.sample_rate, rest.pts, rest.time_base = frame.sample_rate, begin, Fraction(1, frame.sample_rate)
            yield rest
