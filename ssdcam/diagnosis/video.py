"""Video files: PyAV and its encoders, tried by writing with each and reading again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ssdcam.diagnosis.compute import cuda_of_driver
from ssdcam.diagnosis.finding import Finding, ok, problem, warning
from ssdcam.errors import SsdcamError, UnavailableError, WrongUsageError

_FRAMES = 3
_WHOLE_WHEEL = "pip install --force-reinstall --no-deps av, from a wheel, not built from source"


def check_video() -> Iterator[Finding]:
    """Whether PyAV loads, and whether H.264 is written and read."""
    try:
        from ssdcam.media.av import av
    except UnavailableError as error:
        yield problem("video", str(error), "pip install --force-reinstall --no-deps av", necessary=True)
        return
    about = f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}"
    if trouble := _trouble("h264", "mp4"):
        remedy = f"use --codec vp9 or mpeg4, or {_WHOLE_WHEEL}"
        yield problem("video", f"{about}: H.264 cannot be written: {trouble}", remedy, necessary=True)
    else:
        yield ok("video", f"{about}: H.264 is written and read")


def check_codecs() -> Iterator[Finding]:
    """The other encoders, for pictures and sound, and those of an NVIDIA card."""
    from ssdcam.media.av import av
    from ssdcam.media.containers import CODECS, CONTAINERS, check_output

    others = [name for name, codec in CODECS.items() if not codec.encoder.endswith("_nvenc") and name != "h264"]
    troubles = {name: trouble for name in others if (trouble := _trouble(name, "mkv"))}
    sounds = dict.fromkeys(container.sound_encoder for container in CONTAINERS.values())
    troubles |= {name: f"this PyAV was built without {name}" for name in sounds if name not in av.codecs_available}
    works = [name for name in [*others, *sounds] if name not in troubles]
    if works:
        yield ok("codecs", ", ".join(works))
    for name, trouble in troubles.items():
        yield warning(f"codec {name}", trouble, f"use another one, or {_WHOLE_WHEEL}")
    if cuda_of_driver() is None:
        return
    with TemporaryDirectory() as folder:
        for name in (name for name, codec in CODECS.items() if codec.encoder.endswith("_nvenc")):
            try:
                check_output(Path(folder) / "trial.mkv", name)
            except WrongUsageError as error:
                yield ok(f"codec {name}", f"{error}; it works without")
            else:
                yield ok(f"codec {name}", f"works: --codec {name}")


def _trouble(codec: str, suffix: str) -> str | None:
    """Why a codec cannot be used, found out by using it; None if it can."""
    from ssdcam.media.av import av, reason
    from ssdcam.media.video_writer import VideoWriter

    with TemporaryDirectory() as folder:
        path = Path(folder) / f"trial.{suffix}"
        try:
            with VideoWriter(path, width=96, height=64, rate=Fraction(25), codec=codec, preset="ultrafast") as writer:
                for index in range(_FRAMES):
                    writer.write(np.full((64, 96, 3), 60 * index, np.uint8), index / 25)
            with av.open(path) as container:
                count = sum(1 for _ in container.decode(video=0))
        except SsdcamError as error:
            return str(error)
        except (av.FFmpegError, OSError) as error:
            return f"what was written cannot be read: {reason(error)}"
    return None if count == _FRAMES else f"{count} frames come back of {_FRAMES}"
