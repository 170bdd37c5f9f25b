"""What becomes of fragmented MP4 files: plain ones when they are whole, shorter ones when the last fragment is not."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from ssdcam.media.av import Packet, av, open_to_read
from ssdcam.media.containers import TICKS
from ssdcam.media.description import TEXTS, Chapter, set_chapters


def make_plain(path: Path, format_name: str, frame_time: Fraction, chapters: Sequence[Chapter] = ()) -> None:
    """Rewrite an MP4 or MOV file without encoding anything, whole or not at all.

    It gets its index, first of all, so that it starts at once over a network and seeks everywhere. For a while the disk
    holds the file twice.

    Args:
        path: a file with video and perhaps sound, fragmented or not.
        format_name: ``"mp4"`` or ``"mov"``.
        frame_time: how long the last frame is shown, in seconds.
        chapters: that it gets, in order and no longer than the video.

    Raises:
        av.FFmpegError: it cannot be read or written; it is as it was.
        OSError: likewise.
    """
    target = path.resolve()  # where path is a link, the file behind it is replaced
    with NamedTemporaryFile(dir=target.parent, prefix=".ssdcam-", suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        try:
            _remux(target, temporary, format_name, frame_time, chapters)
            os.fsync(file.fileno())
            temporary.chmod(target.stat().st_mode & 0o777)  # a temporary file is its owner's alone
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _remux(source: Path, target: Path, format_name: str, frame_time: Fraction, chapters: Sequence[Chapter]) -> None:
    options = {"movflags": "faststart", "movie_timescale": str(TICKS)}
    with (
        open_to_read(f"file:{source}") as given,
        av.open(f"file:{target}", "w", format=format_name, container_options=options) as made,
    ):
        made.metadata.update({name: text for name, text in given.metadata.items() if name in TEXTS})
        set_chapters(made, chapters)
        streams = {}
        for stream in given.streams:
            streams[stream.index] = copy = made.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            if isinstance(stream, av.VideoStream) and isinstance(copy, av.VideoStream) and stream.sample_aspect_ratio:
                # Otherwise FFmpeg takes it from the encoded video, and VP9 and AV1 do not say it.
                copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
            if stream.codec_context.codec_tag == "hvc1":  # which Apple's players insist on
                copy.codec_context.codec_tag = "hvc1"
        for packet in _ending(given, frame_time):
            packet.stream = streams[packet.stream.index]
            made.mux(packet)


def _ending(given: av.container.InputContainer, frame_time: Fraction) -> Iterator[Packet]:
    """The packets, the video's so long that the last frame is shown for ``frame_time`` seconds."""
    last: Packet | None = None
    delay = latest = 0  # in the video's unit: from decoding to showing of the first picture; when the last one is shown
    for packet in given.demux():
        if not packet.size:
            continue
        if packet.stream.type != "video" or packet.pts is None or packet.dts is None:
            yield packet
            continue
        if last is None:
            delay = packet.pts - packet.dts
        else:
            yield last
        packet.duration = round(frame_time / packet.time_base)  # of VP9, FFmpeg does not read it back
        last, latest = packet, max(latest, packet.pts)
    if last is not None and last.pts is not None and last.dts is not None:
        # MP4 adds up times between decodings. With B-frames, what is decoded last may not be what is shown last.
        ends = latest + (last.duration or 0)
        last.duration = max(min(ends - delay - last.dts, ends - last.pts), 1)
        yield last


def cut_to_fragments(path: Path) -> None:
    """Cut a fragment that is not whole off the end of a file: decoders would stumble over it.

    Raises:
        OSError: it cannot be read or cut.
    """
    with path.open("r+b") as file:
        # After a moof comes the mdat that it describes.
        whole = max((end for kind, end in _whole_boxes(file) if kind in {b"moov", b"mdat"}), default=0)
        if whole:
            file.truncate(whole)


def has_fragment(path: Path) -> bool:
    """Whether a file holds one fragment at least, so that there is something to play.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return any(kind == b"mdat" for kind, _ in _whole_boxes(file))


def _whole_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The kind of each box that is whole, and where it ends."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:  # too long for four bytes
            length = int.from_bytes(file.read(8), "big")
        at += length
        if length < 8 or at > size:
            return
        yield kind, at
