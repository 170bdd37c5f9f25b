"""Videos made on the spot, whose every picture shows its own number."""

import re
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from ssdcam.media.av import av, open_encoder

MILLISECOND = Fraction(1, 1000)
_COLUMNS, _ROWS = 4, 3

# The display matrices of quarter turns and mirroring: a, b, c, d as in set_matrix, and what each does to a picture.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda stored: stored),
    "quarter": ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),
    "half": ((-1, 0, 0, -1), lambda stored: np.rot90(stored, 2)),
    "three quarters": ((0, -1, 1, 0), np.rot90),
    "left to right": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda stored: np.swapaxes(stored, 0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda stored: np.rot90(np.swapaxes(stored, 0, 1), 2)),
}


def numbered(number, size=(96, 72)):
    """A BGR picture of black and white fields that spell ``number`` in 12 bits, the first bit at the top left."""
    width, height = size
    bits = np.array([number >> bit & 1 for bit in range(_COLUMNS * _ROWS)], bool).reshape(_ROWS, _COLUMNS)
    rows = np.minimum(np.arange(height) * _ROWS // height, _ROWS - 1)
    columns = np.minimum(np.arange(width) * _COLUMNS // width, _COLUMNS - 1)
    return np.where(bits[rows][:, columns, None], 220, 30).astype(np.uint8).repeat(3, axis=2)


def number_of(image):
    """What ``numbered`` wrote, whatever compression did to it."""
    height, width = image.shape[:2]
    centres_y = (np.arange(_ROWS) * 2 + 1) * height // (2 * _ROWS)
    centres_x = (np.arange(_COLUMNS) * 2 + 1) * width // (2 * _COLUMNS)
    bits = image[centres_y][:, centres_x].mean(axis=2).ravel() > 125
    return int((bits * 2 ** np.arange(bits.size)).sum())


def make_video(
    path: Path,
    times: Iterable[int],
    time_base: Fraction = Fraction(1, 30),
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (96, 72),
    pixels: str = "yuv420p",
    rate: Fraction | int = 30,
    b_frames: int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound_from: float | None = None,
    title: str = "",
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write a video whose nth picture shows n at ``times[n] * time_base`` seconds; with silence, if asked for."""
    with av.open(path, "w", options=container_options or {}) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, options={"crf": "18", **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = time_base
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        open_encoder(stream.codec_context)
        sound = None if sound_from is None else container.add_stream("aac", rate=8000, layout="mono")
        if sound is not None:
            for n in range(8):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 8000, int(sound_from * 8000) + n * 1024
                container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number, size), format="bgr24").reformat(format=pixels)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pack_b_frames(path, target):
    """Copy an AVI of MPEG-4 as DivX writes it: a B-frame lies in one packet with the frame before it in the file.

    Where the next frame comes there is a packet with nothing to show, so that there are as many as frames.
    """
    packed = []
    with av.open(path) as given, av.open(target, "w") as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        frames = [re.sub(rb"Lavc[\d.]+", b"DivX503b1393p", bytes(p)) for p in given.demux(video=0) if p.size]
        for frame, following in zip(frames, [*frames[1:], None], strict=True):
            is_b, before_b = _mpeg4_kind(frame) == 2, following is not None and _mpeg4_kind(following) == 2
            if before_b and not is_b:
                packed.append(frame + following)
            elif is_b:
                packed.append(following if before_b else b"\0\0\1\xb6\x50\xdf\x7f")
            else:
                packed.append(frame)
        assert len(packed) == len(frames)
        assert packed != frames
        for number, data in enumerate(packed):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), number, number
            packet.is_keyframe = _mpeg4_kind(data) == 0
            copy.mux(packet)
    return target


def _mpeg4_kind(data):
    """Of the first frame in a packet: 0 is I, 1 P, 2 B."""
    return data[data.index(b"\0\0\1\xb6") + 4] >> 6


def turn(path, quarter_turns):
    """Have an mp4 shown turned clockwise."""
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns % 4]
    set_matrix(path, cosine, sine, -sine, cosine)


def set_matrix(path, a, b, c, d):
    """Have an mp4 shown with x at ``ax + cy`` and y at ``bx + dy``, by writing that into its track header."""
    matrix = [round(value * 2**16) for value in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def packets_of(path):
    """Where the first video stream's packets lie in a file, in decoding order: ``(offset, size, pts)``."""
    with av.open(path) as container:
        return [(packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size]


def spoil(path, *places):
    """Overwrite parts ``(offset, size)`` of a file with what no decoder takes."""
    data = bytearray(path.read_bytes())
    for offset, size in places:
        data[offset : offset + size] = b"\xff" * size
    path.write_bytes(data)


def decoded_times(path):
    """The oracle: when PyAV shows each frame that it can decode, one at a time, in seconds."""
    times = []
    with av.open(path) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            with suppress(av.error.InvalidDataError):
                times += [float(frame.pts * frame.time_base) for frame in packet.decode()]
    return times
