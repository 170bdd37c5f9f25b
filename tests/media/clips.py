"""Short clips to write and to read back, and what can be asked of a video file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.media.av import av
from ssdcam.media.video_writer import VideoWriter

BURST = 0.05  # seconds


def image(index: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """A picture that says which it is: a bright column wanders over a smooth ground."""
    x = np.linspace(40, 120, width, dtype=np.float32)
    picture = np.repeat(np.stack([x, x[::-1], x], axis=1)[None], height, axis=0).astype(np.uint8)
    at = index * 4 % (width - 8)
    picture[:, at : at + 8] = 230
    return picture


def index_of(picture: NDArray[np.uint8]) -> int:
    """The inverse of :func:`image`, up to the column's way around."""
    bright = picture.astype(np.float32).mean(axis=(0, 2))
    return round(float(np.convolve(bright, np.ones(8), "valid").argmax()) / 4)


def write(path: Path, times: Sequence[float], *, width: int = 96, height: int = 64, **wishes: Any) -> None:
    """A whole clip of :func:`image` at these times."""
    wishes = {"rate": Fraction(25), **wishes}
    with VideoWriter(path, width=width, height=height, **wishes) as writer:
        for index, time in enumerate(times):
            writer.write(image(index, width, height), time)


def steady(count: int, rate: Fraction = Fraction(25)) -> list[float]:
    """Times of frames at a rate."""
    return [float(i / rate) for i in range(count)]


@dataclass(frozen=True)
class Packet:
    """A packet of a file, times in seconds."""

    time: Fraction
    decoded: Fraction | None
    duration: Fraction
    data: bytes


def packets(path: Path, kind: str, index: int = 0) -> list[Packet]:
    """A stream's packets, as stored."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][index]
        return [
            Packet(
                Fraction(p.pts if p.pts is not None else p.dts) * p.time_base,
                None if p.dts is None else p.dts * p.time_base,
                (p.duration or 0) * p.time_base,
                bytes(p),
            )
            for p in container.demux(stream)
            if p.size
        ]


def frames(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """Times and pictures of a video, by the colours that it says it has."""
    with av.open(str(path)) as container:
        return [(frame.time, np.asarray(frame.to_ndarray(format="bgr24"))) for frame in container.decode(video=0)]


def frame_times(path: Path) -> list[float]:
    """Times of the frames that can be decoded."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def boxes(path: Path) -> list[str]:
    """The kinds of an MP4's outermost boxes, in order; the last may be cut short."""
    data, found, at = path.read_bytes(), [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8].decode("latin-1"))
        at += size if size > 1 else int.from_bytes(data[at + 8 : at + 16], "big") or len(data)
    return found


def sound(path: Path) -> tuple[NDArray[np.float32], float, int]:
    """A file's first sound, mixed to one channel: samples, when the first is heard in seconds, and the rate."""
    parts, begins, rate = [], None, 0
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp")
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                begins = part.time if begins is None else begins
                rate = part.sample_rate
                parts.append(np.asarray(part.to_ndarray(), np.float32).mean(axis=0))
    return np.concatenate(parts), begins or 0.0, rate


def burst_time(path: Path) -> float:
    """When the burst of :func:`film` is heard, in seconds of the file."""
    samples, begins, rate = sound(path)
    return begins + float(np.argmax(np.abs(samples) > 0.1)) / rate


def film(
    path: Path,
    codec: str = "aac",
    *,
    rate: int = 48000,
    layout: str = "stereo",
    seconds: float = 2.0,
    sound_seconds: float | None = None,
    video_begins: float = 0.0,
    sound_begins: float = 0.0,
    burst: float = 1.0,
    hole: tuple[float, float] = (0.0, 0.0),
    b_frames: int = 0,
    pictures: str = "mpeg4",
    damage: Callable[[int, bytes], bytes] = lambda index, data: data,
) -> Path:
    """A file with video (25 a second) and silence, but for a burst of sound ``burst`` seconds into the file.

    The container is the suffix's. There is no sound in ``hole``, and ``damage`` may change the packets of sound.
    """
    with av.open(str(path), "w") as container:
        unit = Fraction(1, 25 if pictures == "mpeg2video" else 25000)  # which takes no other
        video = container.add_stream(pictures, 25, width=64, height=48, time_base=unit)
        video.codec_context.max_b_frames = b_frames
        audio = container.add_stream(codec, rate, layout=layout)
        for index in range(round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(image(index, 64, 48), "bgr24")
            frame.pts, frame.time_base = round(video_begins * 25000) + index * 1000, Fraction(1, 25000)
            container.mux(video.encode(frame))
        made = []
        for index in range(round((seconds if sound_seconds is None else sound_seconds) * rate / 1024)):
            time = sound_begins + (index * 1024 + np.arange(1024)) / rate
            if hole[0] <= time[0] < hole[1]:
                continue
            samples = np.where((time >= burst) & (time < burst + BURST), np.sin(time * 6000), 0)
            channels = audio.codec_context.layout.nb_channels
            frame = av.AudioFrame.from_ndarray(np.tile(samples, (channels, 1)).astype(np.float32), "fltp", layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(sound_begins * rate) + index * 1024
            made += audio.encode(frame)
        made += audio.encode(None)
        for index, packet in enumerate(made):
            changed = av.Packet(damage(index, bytes(packet)))
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
            changed.time_base, changed.stream = packet.time_base, audio
            container.mux(changed)
        container.mux(video.encode(None))
    return path
