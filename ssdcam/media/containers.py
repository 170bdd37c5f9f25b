"""What a video file can hold: codecs, containers and which fits which, as data, and the check made before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, is_file, is_folder

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")
"""From the fastest encoding to the smallest file."""

TICKS = 60000
"""Ticks a second, at most: a multiple of nearly every frame rate, and within MPEG-4's limit of 65535."""

MOST_TICKS = 2**31 - 1
"""How many ticks a second, or seconds a tick, FFmpeg can be told of."""


@dataclass(frozen=True)
class VideoCodec:
    """How a codec is asked for.

    Attributes:
        kind: the codec that it writes; several encoders may write one.
        encoder: FFmpeg's name of the encoder.
        crf: the quality where the user says nothing: about alike in all of them.
        crf_range: from the best to the worst; H.264 begins at 1 because 0, lossless, plays in no browser.
        options: the encoder's options, with ``{crf}`` and ``{threads}`` to be filled in. They keep it from holding back
            many frames, which are lost when the process is killed: H.264 holds 4, at 9 % more bits than with 12, H.265
            7, AV1 13, the others none.
        threads: how many are enough: they make AV1 hold back 5 frames more each.
        frame_threads: whether they may work on a frame each, which are held back then, but for one; otherwise on a
            slice each of the same one, which takes H.264 a seventh longer at 1080p on two cores, and about 1 % more
            bits for each.
        presets: the options that each of :data:`PRESETS` adds, in that order; none where the encoder has no presets.
        smallest: the shortest side in pixels; below 64, x265 corrupts memory and SVT-AV1 may never return.
        states_aspect: whether it says itself how wide its pixels are shown, whatever the container says.
        finest: into how many ticks it can divide a second.
    """

    kind: str
    encoder: str
    crf: int
    crf_range: tuple[int, int]
    options: Mapping[str, str]
    threads: int = 4
    frame_threads: bool = False
    presets: tuple[Mapping[str, str], ...] = ({},) * len(PRESETS)
    smallest: int = 2
    states_aspect: bool = True
    finest: int = MOST_TICKS

    def filled(self, *, crf: int | None, preset: str, threads: int) -> dict[str, str]:
        """The encoder's options for these wishes, as FFmpeg takes them."""
        options = {**self.options, **self.presets[PRESETS.index(preset)]}
        wishes = {"crf": self.crf if crf is None else crf, "threads": threads}
        return {name: value.format(**wishes) for name, value in options.items()}


_NAMED = tuple({"preset": name} for name in PRESETS)
# x264's own veryfast spends half of its time on finer motion and smaller blocks, which save 1 to 8 % of the bits: too
# little for the default of a program whose cores have better to do.
_X264_QUICK = {"preset": "veryfast", "x264-params": "sync-lookahead=0:subme=1:partitions=i4x4,i8x8"}
_NVENC = {"rc": "vbr", "cq": "{crf}", "delay": "0"}
_NVENC_PRESETS = tuple({"preset": name} for name in ("p1", "p2", "p3", "p4", "p5", "p6"))

CODECS: Mapping[str, VideoCodec] = {
    "h264": VideoCodec(
        "h264",
        "libx264",
        23,
        (1, 51),
        {"crf": "{crf}", "bf": "1", "rc-lookahead": "3", "x264-params": "sync-lookahead=0"},
        frame_threads=True,
        presets=tuple(_X264_QUICK if name["preset"] == "veryfast" else name for name in _NAMED),
    ),
    "h265": VideoCodec(
        "h265",
        "libx265",
        25,
        (0, 51),
        {
            "crf": "{crf}",
            "x265-params": "log-level=none:frame-threads=1:bframes=1:b-pyramid=0:rc-lookahead=3:pools={threads}",
        },
        threads=8,
        presets=_NAMED,
        smallest=64,
    ),
    "av1": VideoCodec(
        "av1",
        "libsvtav1",
        35,
        (1, 63),
        # With less than four frames to look ahead at, SVT-AV1 now and then mixes its output up when all cores are busy.
        {"crf": "{crf}", "svtav1-params": "hierarchical-levels=2:lp={threads}"},
        threads=3,
        presets=tuple({"preset": number} for number in ("9", "9", "8", "7", "6", "5")),  # from 10 on, for tests only
        smallest=64,
        states_aspect=False,
    ),
    "vp9": VideoCodec(
        "vp9",
        "libvpx-vp9",
        33,
        (0, 63),
        {"crf": "{crf}", "lag-in-frames": "0", "row-mt": "1"},
        threads=8,
        presets=(
            {"deadline": "realtime", "cpu-used": "8"},
            {"deadline": "realtime", "cpu-used": "7"},
            {"deadline": "realtime", "cpu-used": "6"},
            {"deadline": "realtime", "cpu-used": "5"},
            {"deadline": "good", "cpu-used": "5"},
            {"deadline": "good", "cpu-used": "3"},
        ),
        states_aspect=False,
    ),
    "mpeg4": VideoCodec("mpeg4", "mpeg4", 4, (1, 31), {"qmin": "{crf}", "qmax": "{crf}"}, finest=65535),
    "h264_nvenc": VideoCodec("h264", "h264_nvenc", 23, (1, 51), _NVENC, presets=_NVENC_PRESETS),
    "hevc_nvenc": VideoCodec("h265", "hevc_nvenc", 25, (1, 51), _NVENC, presets=_NVENC_PRESETS),
    "av1_nvenc": VideoCodec("av1", "av1_nvenc", 35, (1, 63), _NVENC, presets=_NVENC_PRESETS, states_aspect=False),
}


@dataclass(frozen=True)
class Container:
    """A kind of video file.

    Attributes:
        format: FFmpeg's name of it.
        codecs: the kinds of video that it holds and players expect in it, the best first.
        sound: the kinds of sound that are copied into it; the others are encoded anew.
        sound_encoder: with what.
        options: how it is written so that it plays whatever ends the process.
        fragmented: whether it is MP4 or MOV: written in fragments, and made plain when it is whole. These hold sound
            from before time 0, too, which a decoder needs to begin with and nobody hears.
        matroska: whether it is Matroska or WebM, which count in milliseconds.
        steady: whether it is AVI, which holds no times: frames come in order at one rate, sound begins with them.
        texts: which ones about the video it holds, by FFmpeg's names; None: any.
        chapters: whether it holds them.
    """

    format: str
    codecs: tuple[str, ...]
    sound: frozenset[str]
    sound_encoder: str
    options: Mapping[str, str]
    fragmented: bool = False
    matroska: bool = False
    steady: bool = False
    texts: frozenset[str] | None = None
    chapters: bool = True

    def tick(self, rate: Fraction) -> Fraction:
        """The unit in seconds that times are kept in; frames that come at ``rate`` hit it where that can be."""
        if self.steady:
            return 1 / rate
        if self.matroska:
            return Fraction(1, 1000)
        return Fraction(1, TICKS // rate.numerator * rate.numerator or TICKS)


# What has reached the disk survives SIGKILL: all but a tenth of a second of the video and what the encoder holds.
_AT_ONCE = {"flush_packets": "1", "max_interleave_delta": "100000"}
_MP4 = {
    **_AT_ONCE,
    # Only a delayed header (moov) knows where each stream begins and can say so; it is written with the first fragment,
    # which needs a packet of every stream: sound goes first, however late it begins (audio_preload, microseconds).
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "100000",  # microseconds
    "audio_preload": "2147483646",
    "movie_timescale": str(TICKS),
}
_MATROSKA = {**_AT_ONCE, "cluster_time_limit": "100"}
_PCM = frozenset(f"pcm_{kind}" for kind in "s16le s16be s24le s24be s32le s32be f32le f32be u8 mulaw alaw".split())
_MP4_SOUND = frozenset("aac ac3 alac eac3 mp2 mp3".split())

_TEXTS = frozenset("title artist genre copyright comment date".split())  # that all of them hold

_mp4 = Container(
    "mp4",
    ("h264", "h265", "av1", "vp9", "mpeg4"),
    _MP4_SOUND | {"flac", "opus"},
    "aac",
    _MP4,
    fragmented=True,
    texts=_TEXTS
    | frozenset("album album_artist composer creation_time description keywords location synopsis".split()),
)
CONTAINERS: Mapping[str, Container] = {
    ".mp4": _mp4,
    ".m4v": _mp4,
    ".mov": Container(
        "mov",
        ("h264", "h265", "mpeg4"),
        _MP4_SOUND | _PCM,
        "aac",
        _MP4,
        fragmented=True,
        texts=_TEXTS | frozenset("album creation_time location make model".split()),
    ),
    ".mkv": Container(
        "matroska",
        ("h264", "h265", "av1", "vp9", "mpeg4"),
        _MP4_SOUND
        | (_PCM - {"pcm_mulaw", "pcm_alaw", "pcm_f32be"})
        | frozenset("dts flac opus truehd tta vorbis wavpack".split()),
        "aac",
        _MATROSKA,
        matroska=True,
    ),
    ".webm": Container("webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), "libopus", _MATROSKA, matroska=True),
    ".avi": Container(
        "avi",
        ("mpeg4", "h264"),
        frozenset("ac3 mp2 mp3 pcm_s16le pcm_u8".split()),
        "libmp3lame",
        _AT_ONCE,
        steady=True,
        texts=_TEXTS,
        chapters=False,
    ),
}


INPUT_SUFFIXES = frozenset(CONTAINERS) | frozenset(
    (
        ".264 .265 .3g2 .3gp .asf .divx .dv .f4v .flv .h264 .h265 .hevc .ivf .m2ts .m2v .mjpeg .mpe .mpeg .mpg .mts"
        " .mxf .ogv .ts .vob .wmv .y4m"
    ).split()
)
"""What a folder is searched for. A file that is named is read whatever its suffix."""


def container_of(path: Path) -> Container:
    """The kind of file that a name asks for.

    Raises:
        WrongUsageError: the suffix is none of :data:`CONTAINERS`.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        what = f"{suffix} is no video file that can be written" if suffix else "the name says no kind of video file"
        raise WrongUsageError(f"{path}: {what}: use one of {' '.join(CONTAINERS)}")
    return CONTAINERS[suffix]


def default_codec(path: Path) -> str:
    """The codec for a user who names none: h264, or the best that the container holds instead.

    Raises:
        WrongUsageError: the suffix is none of :data:`CONTAINERS`.
    """
    codecs = container_of(path).codecs
    return "h264" if "h264" in codecs else codecs[0]


def check_output(path: Path, codec: str, *, crf: int | None = None, preset: str = "veryfast") -> None:
    """Refuse, before any work, an output that cannot come to anything. Creates nothing.

    Args:
        path: the file to be.
        codec: one of :data:`CODECS`.
        crf: quality on the codec's own scale; None for its default.
        preset: one of :data:`PRESETS`.

    Raises:
        WrongUsageError: what is wrong, in a line that says what to use instead.
        UnavailableError: PyAV is not installed.
    """
    container = container_of(path)
    if codec not in CODECS:
        raise WrongUsageError(f"{codec}: no such video codec: use one of {' '.join(CODECS)}")
    chosen = CODECS[codec]
    if chosen.kind not in container.codecs:
        others = " ".join(s for s, c in CONTAINERS.items() if chosen.kind in c.codecs)
        raise WrongUsageError(
            f"{path}: {path.suffix} cannot hold {codec}: "
            f"use {' or '.join(container.codecs)} there, or one of {others} for {codec}"
        )
    low, high = chosen.crf_range
    if crf is not None and not low <= crf <= high:
        raise WrongUsageError(f"crf {crf}: {codec} takes {low} (best) to {high}, {chosen.crf} being usual")
    if preset not in PRESETS:
        raise WrongUsageError(f"{preset}: no such preset: use one of {' '.join(PRESETS)}")
    if is_folder(path):
        raise WrongUsageError(f"{path}: is a folder: name a file in it, such as {path / f'video{path.suffix}'}")
    if exists(path) and not is_file(path):
        raise WrongUsageError(f"{path}: is no regular file: use another name")
    if not is_folder(path.parent):
        raise WrongUsageError(f"{path}: there is no folder {path.parent}: create it first, or use another")
    _check_encoder(codec)


def _check_encoder(codec: str) -> None:
    from ssdcam.media.av import av  # heavy, and all that is wrong above is found without it

    encoder = CODECS[codec].encoder
    if encoder not in av.codecs_available:
        raise WrongUsageError(f"{codec}: this PyAV was built without {encoder}: use h264, vp9 or mpeg4")
    if not encoder.endswith("_nvenc"):
        return
    trial = av.CodecContext.create(encoder, "w")
    assert isinstance(trial, av.VideoCodecContext)
    trial.width, trial.height, trial.pix_fmt, trial.framerate = 256, 256, "yuv420p", Fraction(25)
    try:
        trial.open()
    except av.FFmpegError as error:
        raise WrongUsageError(
            f"{codec}: no NVIDIA card here encodes it (H100 and H200 have no encoder at all): use {CODECS[codec].kind}"
        ) from error
