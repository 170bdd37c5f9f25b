"""``ssdcam webcam``: objects in what a camera or stream shows, live."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from ssdcam.addresses import is_url
from ssdcam.cli import completing, console, loading, options, outputs, parameters, session
from ssdcam.errors import WrongUsageError
from ssdcam.files import exists

if TYPE_CHECKING:
    from ssdcam.media.sources import Source
    from ssdcam.media.video_writer import VideoWriter


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size such as 1280x720, of 99999 a side at most", ctx, param)
    return int(match[1]), int(match[2])


def _fourcc(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,4}", value):
        raise click.BadParameter(f"{value!r} is no four-character code such as MJPG", ctx, param)
    return value


def _reconnect(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    if value == "off":
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise click.BadParameter(f"{value!r} is neither seconds nor off", ctx, param)
    return seconds


@click.command("webcam")
@click.argument("source", default="0", shell_complete=completing.files)
@click.option("--list", "list_cameras", is_flag=True, help="Say which cameras are there, with the modes they offer.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT", help="Record with boxes there."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a frame on stdout.")
@options.records
@options.crops
@options.encoding
@click.option("--size", callback=_size, metavar="WxH", help="Ask the camera for pictures of this size.")
@click.option("--fps", type=parameters.Number(0, min_open=True), help="Ask the camera for this rate.")
@click.option(
    "--fourcc",
    default="MJPG",
    show_default=True,
    callback=_fourcc,
    shell_complete=completing.words("MJPG", "YUYV"),
    help="Ask the camera for this encoding.",
)
@click.option("--mirror", is_flag=True, help="Turn pictures left to right.")
@click.option("--no-window", is_flag=True, help="Open no window.")
@click.option("--duration", type=parameters.Seconds(), help="Stop after so long: seconds, MM:SS or HH:MM:SS.")
@click.option("--max-frames", type=parameters.Whole(1), help="Stop after so many frames.")
@click.option(
    "--reconnect",
    default="60",
    show_default=True,
    callback=_reconnect,
    metavar="SECONDS|off",
    shell_complete=completing.words("off"),
    help="Try so long to get a lost source back.",
)
@options.stats
@options.detection
@options.drawing
@options.no_fps
@options.yes
@options.verbosity
def command(
    source: str, list_cameras: bool, output: Path | None, as_json: bool, records: tuple[str, ...], crops: Path | None,
    codec: str | None, crf: int | None, preset: str, size: tuple[int, int] | None, fps: float | None, fourcc: str,
    mirror: bool, no_window: bool, duration: float | None, max_frames: int | None, reconnect: float | None,
    stats: Path | None, line_width: int | None, no_labels: bool, no_fps: bool, yes: bool, **detection: Any,
) -> None:  # fmt: skip
    """Find objects in what a camera or stream shows, live.

    SOURCE is a camera's index (0 if not given) or device, an rtsp:// or http(s):// address, or a video file, which
    plays at its own pace. Keys in the window: q quits, h shows the others.
    """
    from ssdcam.media.claims import Claim, is_claimed
    from ssdcam.media.crops import CropFolder
    from ssdcam.media.drawing import Style
    from ssdcam.media.sources import open_source
    from ssdcam.media.sources.mirror import MirroredSource
    from ssdcam.pipeline.sinks import VideoSink
    from ssdcam.pipeline.timing import Timing

    if list_cameras:
        _list_cameras()
        return
    if output:
        _check_output(output, Path(source), codec, crf, preset)
        if is_claimed(output):
            raise WrongUsageError(f"{output}: is being written by another run")
    existing = [output] if output and exists(output) else []
    read = [Path(source), *outputs.files_read(detection)]
    existing += outputs.check_files(read, records, stats, [output] if output else [])
    outputs.agree_on_overwriting(existing, yes)
    has_sink = bool(output or as_json or records or crops)
    if no_window and not has_sink:
        raise WrongUsageError("--no-window leaves nothing to do with the results: add -o, --json or --records")
    look = session.Look(Style(line_width, not no_labels), not no_fps, session.can_watch(not no_window, has_sink))
    stop = Event()
    with ExitStack() as stack:

        def open_camera() -> Source:
            return stack.enter_context(
                open_source(
                    source,
                    size=size,
                    fps=fps,
                    fourcc=fourcc,
                    reconnect=reconnect,
                    stop=stop,
                    on_event=console.log.warning,
                )
            )

        early = open_camera() if _is_missing(source) else None  # says why, and no detector is loaded for nothing
        detector = loading.load_detector(**detection)  # first, as nobody takes the camera's pictures meanwhile
        camera = early or open_camera()
        if mirror:
            camera = MirroredSource(camera)
        console.log.info("%s: %dx%d at %s fps", camera.name, camera.width, camera.height, _shown(camera.rate))
        timing = Timing()
        crop_folder = CropFolder(crops) if crops else None
        writer: VideoWriter | None = None

        def told_at_end() -> str:
            place = output if writer and writer.whole else None
            return outputs.wrote(place, records, crop_folder, stats) if timing.frames and not as_json else ""

        outputs.tell_at_end(stack, told_at_end)
        printer = session.Printer(others=bool(output or records or crops)) if as_json else None
        sinks = [make(camera.name) for make in session.open_sinks(stack, detector, printer, records, crop_folder)]
        if output:
            stack.enter_context(Claim(output, resumable=False))
            writer = stack.enter_context(_open_writer(output, camera, codec, crf, preset))
            sinks.append(VideoSink(writer))
        stack.enter_context(session.reporting(timing, detector, detection["model"], stats, as_json))
        show_progress = stack.enter_context(session.progress(max_frames, timing, as_json))
        session.run(
            camera,
            detector,
            sinks,
            look,
            timing=timing,
            stop=stop,
            max_frames=max_frames,
            duration=duration,
            tick=lambda: show_progress(camera.name),
        )


def _is_missing(source: str) -> bool:
    """Whether a camera or file seems not to be there.

    Streams are not asked for: a server may be there for one connection only, and that one is to be the run's own.
    """
    if is_url(source):
        return False
    if source.isascii() and source.isdigit():  # only Linux tells without opening it
        return sys.platform == "linux" and not exists(Path(f"/dev/video{int(source)}"))
    return not exists(Path(source))


def _shown(rate: Any) -> str:
    return "unknown" if rate is None else f"{float(rate):g}"


def _check_output(output: Path, source: Path, codec: str | None, crf: int | None, preset: str) -> None:
    from ssdcam.media.containers import check_output, default_codec
    from ssdcam.media.outputs import check_targets

    check_output(output, codec or default_codec(output), crf=crf, preset=preset)
    check_targets([(source, output)])


def _open_writer(output: Path, source: Source, codec: str | None, crf: int | None, preset: str) -> VideoWriter:
    from ssdcam.media.containers import default_codec
    from ssdcam.media.video_writer import VideoWriter

    return VideoWriter(
        output,
        width=source.width,
        height=source.height,
        rate=source.rate or session.COMMON_RATE,
        pixel_aspect=source.pixel_aspect,
        colours=source.colours,
        codec=codec or default_codec(output),
        crf=crf,
        preset=preset,
        live=True,
        warn=console.log.warning,
    )


def _list_cameras() -> None:
    from ssdcam.media.sources import list_cameras

    cameras = list_cameras()
    if not cameras:
        click.echo("no camera is there")
    for camera in cameras:
        click.echo(console.printable(f"{camera.source}  {camera.name}"))
        for mode in camera.modes:
            rates = f" at {', '.join(f'{rate:g}' for rate in mode.rates)} fps" if mode.rates else ""
            click.echo(console.printable(f"  {mode.fourcc}  {mode.width}x{mode.height}{rates}"))
