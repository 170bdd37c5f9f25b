"""What ``video`` and ``webcam`` share: a source run through the detector, watched or not, and its figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from ssdcam.cli import console
from ssdcam.errors import SsdcamError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.detection.detector import Detector
    from ssdcam.detections import Detections
    from ssdcam.media.crops import CropFolder
    from ssdcam.media.drawing import Style
    from ssdcam.media.sources import Source
    from ssdcam.media.surface import Surface
    from ssdcam.pipeline.run import Sink
    from ssdcam.pipeline.timing import Stats, Timing
    from ssdcam.records import Record


# For a source that states no rate: frames keep their own times, this only sizes buffers and the last frame.
COMMON_RATE = Fraction(25)


@dataclass(frozen=True)
class Look:
    """How results look, and whether someone watches.

    Attributes:
        style: of boxes and labels.
        figures: whether rate and latency are drawn.
        window: whether to open one.
    """

    style: Style
    figures: bool
    window: bool

    def draw(self, surface: Surface, detections: Detections, timing: Timing) -> None:
        """Draw what was found, and the figures beneath it: they never cover a label."""
        from ssdcam.media.drawing import draw_detections, draw_panel

        if self.figures and timing.live_fps:  # the first frame has none yet, and is what a video is known by
            draw_panel(surface, [f"{timing.live_fps:.1f} fps  {timing.live_latency_ms:.0f} ms"])
        draw_detections(surface, detections, self.style)


def run(
    source: Source,
    detector: Detector,
    sinks: Sequence[Sink],
    look: Look,
    *,
    timing: Timing,
    stop: Event,
    batch: int = 1,
    max_frames: int | None = None,
    duration: float | None = None,
    tick: Callable[[], None] = lambda: None,
) -> bool:
    """Run a source to its end or until someone quits.

    Returns:
        Whether it came to its end.

    Raises:
        Exception: the first error that any thread met.
    """
    from ssdcam.media.window import Window
    from ssdcam.pipeline.channel import Channel
    from ssdcam.pipeline.run import Pipeline, Result
    from ssdcam.pipeline.sinks import ClipRecorder, ScreenSink
    from ssdcam.pipeline.viewer import Viewer

    # Nobody but the viewer waits for a file: then every frame is shown, at its time. Else the newest will do.
    watched_only = look.window and not source.live and not sinks
    screen: Channel[Result] = Channel(2, stop, newest=not watched_only)
    recorder = ClipRecorder(Path(), source.rate, console.log.info, console.log.warning, source.pixel_aspect)
    watching: list[Sink] = [ScreenSink(screen), recorder] if look.window else []
    window = Window("ssdcam", (source.width, source.height)) if look.window else None
    pipeline = Pipeline(
        source, detector, [*sinks, *watching], look.draw, timing=timing, stop=stop, batch=batch, max_frames=max_frames,
        duration=duration, on_end=screen.close, in_bgr=look.window,
    )  # fmt: skip
    try:
        pipeline.start()
        if window:
            viewer = Viewer(pipeline, screen, window, recorder, Path(), watched_only, console.log.info)
            viewer.run(tick)
            ended = not viewer.quit
        else:
            pipeline.join(tick)
            ended = True
    finally:
        pipeline.stop()
        try:
            recorder.close()
        finally:
            if window:
                window.close()
    if pipeline.failure:
        raise pipeline.failure
    return ended


def write_stats(path: Path, stats: Stats, detector: Detector, model: str | None) -> None:
    """``--stats FILE``."""
    from ssdcam.checkpoints.resolve import EMBEDDED
    from ssdcam.files import write_whole, writing

    engine = detector.engine
    facts = {
        "model": model or EMBEDDED[0],
        "engine": engine.name,
        "precision": engine.precision,
        "device": engine.device,
    }
    with writing(path, SsdcamError):
        write_whole(path, (json.dumps({**stats.to_json(), **facts}) + "\n").encode())


def summary(stats: Stats) -> str:
    """Figures for people."""
    dropped = f", {stats.dropped} dropped" if stats.dropped else ""
    stages = "  ".join(f"{name} {ms:.1f}" for name, ms in stats.stages_ms.items())
    frames = "1 frame" if stats.frames == 1 else f"{stats.frames} frames"
    boxes = "1 box" if stats.boxes == 1 else f"{stats.boxes} boxes"
    return (
        f"{frames} in {stats.wall_s:.1f} s: {stats.fps:.1f} fps{dropped}; "
        f"latency {stats.latency_ms['p50']:.0f} ms (p95 {stats.latency_ms['p95']:.0f}); {boxes}\n"
        f"  ms a frame: {stages}"
    )


class Printer:
    """Records on stdout, each at once.

    Args:
        others: whether results also go elsewhere: then a closed stdout ends the printing alone, not the run.
    """

    def __init__(self, others: bool) -> None:
        self._others = others
        self._closed = False

    def __call__(self, record: Record) -> None:
        """Print a record.

        Raises:
            BrokenPipeError: nobody reads stdout any more, and nothing else is to be done.
        """
        from ssdcam.records import to_line

        self.print(to_line(record))

    def print(self, text: str) -> None:
        """Print a text, likewise."""
        if self._closed:
            return
        try:
            click.echo(text)
        except BrokenPipeError:
            if not self._others:
                raise
            self._closed = True
            console.abandon_stdout()


@contextmanager
def progress(total: int | None, timing: Timing, as_json: bool) -> Iterator[Callable[[str], None]]:
    """A bar on stderr with rate, latency and time left, where someone sees it.

    Args:
        total: frames to come; None if nobody knows.
        timing: where the figures come from.
        as_json: whether records go to stdout: on one terminal with it, the bar would be in their way.

    Yields:
        What brings the bar up to date, told what is being done.
    """
    if not console.shows_progress() or (as_json and sys.stdout.isatty()):
        yield lambda what: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[rate]:.1f} fps  {task.fields[latency]:.0f} ms"), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True)
    with bar:
        task = bar.add_task("", total=total, rate=0.0, latency=0.0)

        def show(what: str) -> None:
            bar.update(
                task, description=escape(console.printable(what)), completed=timing.frames,
                rate=timing.live_fps, latency=timing.live_latency_ms,
            )  # fmt: skip

        yield show


def can_watch(wanted: bool, has_sink: bool) -> bool:
    """Whether a window will be opened.

    Raises:
        WrongUsageError: there is no display, and nothing else to do with the results.
    """
    from ssdcam.media.window import why_no_display

    trouble = why_no_display() if wanted else None
    if trouble is None:
        return wanted
    if not has_sink:
        raise WrongUsageError(f"{trouble}, so no window: say what to do instead with -o, --json or --records")
    console.log.warning("%s: going on without a window", trouble)
    return False


def open_sinks(
    stack: ExitStack, detector: Detector, printer: Printer | None, records: Sequence[str], crops: CropFolder | None
) -> list[Callable[[str], Sink]]:
    """The sinks that do not depend on the source, each as a function of what records call the source."""
    from ssdcam.pipeline.sinks import CropsSink, RecordsSink
    from ssdcam.records import open_records

    makers: list[Callable[[str], Sink]] = []
    if printer:
        makers.append(lambda name: RecordsSink(name, printer))
    for target in records:
        write = stack.enter_context(open_records(target, labels=detector.labels)).write
        makers.append(partial(RecordsSink, write_record=write))
    if crops:
        makers.append(partial(CropsSink, folder=crops))
    return makers


@contextmanager
def reporting(
    timing: Timing, detector: Detector, model: str | None, stats: Path | None, as_json: bool, note: str = ""
) -> Iterator[None]:
    """Tell the run's figures, if there are any, when it ends, however it does: a camera is usually left with Ctrl-C.

    Args:
        timing: where the figures come from.
        detector: what made them.
        model: what the user calls it.
        stats: ``--stats``.
        as_json: whether stdout is for records alone.
        note: is told before the figures.
    """
    try:
        yield
    finally:
        figures = timing.stats()
        if stats:
            write_stats(stats, figures, detector, model)
        lines = [note] if note else []
        if figures.frames:
            lines.append(summary(figures))
        if lines and not as_json and not console.is_quiet():
            console.tell("\n".join(lines))
