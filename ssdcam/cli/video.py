"""``ssdcam video``: objects in video files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import console, options, session
from ssdcam.errors import SourceError, SsdcamError, VideoError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.detection.detector import Detector
    from ssdcam.media.sources import FileSource
    from ssdcam.pipeline.run import Sink
    from ssdcam.pipeline.timing import Timing


@dataclass(frozen=True)
class _Job:
    """A video and where it goes, if anywhere.

    Attributes:
        marked: whether a marker beside the target says that it is unfinished, so that a later run can resume.
    """

    path: Path
    target: Path | None = None
    marked: bool = False


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A time: seconds, or minutes and hours before them."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From text to seconds."""
        if isinstance(value, float):
            return value
        try:
            parts = [float(part) for part in str(value).split(":")]
            if len(parts) > 3 or any(part < 0 for part in parts) or any(part >= 60 for part in parts[1:]):
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} is no time such as 12.5, 1:30 or 1:02:03", param, ctx)
        total = 0.0
        for part in parts:
            total = total * 60 + part
        return total


@click.command("video")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Write the video with boxes there: a file for one input, a folder for several.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a frame on stdout.")
@options.records
@options.crops
@options.encoding
@click.option("--no-audio", is_flag=True, help="Leave the sound out.")
@click.option("--start", type=Seconds(), help="Begin at this time: seconds, MM:SS or HH:MM:SS.")
@click.option("--end", type=Seconds(), help="End at this time.")
@click.option("--stride", type=click.IntRange(1), default=1, show_default=True, help="Look at every Nth frame.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--batch", type=click.IntRange(1), help="Frames a network call; default: 1 on a CPU, 8 on a GPU.")
@click.option("--show", is_flag=True, help="Show frames in a window.")
@options.stats
@click.option("--resume", is_flag=True, help="Leave out inputs that an earlier run of this command finished.")
@options.detection
@options.drawing
@options.no_fps
@options.yes
@options.verbosity
def command(
    inputs: tuple[str, ...], output: Path | None, as_json: bool, records: str | None, crops: Path | None,
    codec: str | None, crf: int | None, preset: str, no_audio: bool, start: float | None, end: float | None,
    stride: int, max_frames: int | None, batch: int | None, show: bool, stats: Path | None, resume: bool,
    line_width: int | None, no_labels: bool, no_fps: bool, yes: bool, **detection: Any,
) -> None:  # fmt: skip
    """Find objects in video files: files, folders, quoted globs.

    Sound, times and orientation are kept. The output plays whatever ends the run.
    """
    from ssdcam.media.drawing import Style
    from ssdcam.pipeline.timing import Timing

    session.check_folder(stats)
    if resume and (output is None or records or as_json):
        raise WrongUsageError("--resume leaves finished outputs alone: it needs -o, and neither --json nor --records")
    paths, failed = _find(inputs)
    jobs = _plan(
        paths, output, several=len(inputs) > 1 or paths != [Path(inputs[0])], codec=codec, crf=crf, preset=preset
    )
    if resume:
        jobs = [job for job in jobs if not _is_finished(job)]
    session.agree_on_overwriting(_existing(jobs, records, resume), yes)
    has_sink = bool(output or as_json or records or crops)
    look = session.Look(Style(line_width, not no_labels), not no_fps, session.can_watch(show or not has_sink, has_sink))

    detector = options.load_detector(**detection)
    batch = batch or (1 if detector.engine.device == "cpu" else 8)
    timing = Timing()
    with ExitStack() as stack:
        common = session.open_sinks(stack, detector, as_json, records, crops)
        run = _Run(
            detector, common, look, timing, start, end, stride, max_frames, batch, codec, crf, preset, not no_audio
        )
        show_progress = stack.enter_context(session.progress(run.count_frames(jobs), timing))
        for job in jobs:
            try:
                goes_on = run.process(job, show_progress)
            except (SourceError, VideoError) as error:
                console.log.error("%s", error)
                failed += 1
            else:
                if not goes_on:
                    break
    session.report(timing.stats(), detector, detection["model"], stats, as_json)
    if failed:
        raise click.exceptions.Exit(1)


def _find(inputs: Sequence[str]) -> tuple[list[Path], int]:
    """The video files that arguments lead to, and how many arguments lead to none."""
    from ssdcam.media.containers import INPUT_SUFFIXES
    from ssdcam.media.images import find_pictures

    found = list(find_pictures(inputs, INPUT_SUFFIXES, "videos"))
    failures = [item for item in found if isinstance(item, SsdcamError)]
    for failure in failures:
        console.log.error("%s", failure)
    return [item.path for item in found if not isinstance(item, SsdcamError)], len(failures)


def _plan(
    paths: Sequence[Path], output: Path | None, *, several: bool, codec: str | None, crf: int | None, preset: str
) -> list[_Job]:
    """Where each video goes, refused before any work if it cannot."""
    from ssdcam.media.containers import CONTAINERS, check_output, default_codec

    if output is None:
        return [_Job(path) for path in paths]
    if several and output.suffix.lower() in CONTAINERS and not output.is_dir():
        raise WrongUsageError(f"{output}: several inputs need a folder to go to, and this names a video file")
    if not several and not output.is_dir() and output.suffix:
        check_output(output, codec or default_codec(output), crf=crf, preset=preset)
        return [_Job(paths[0], output)] if paths else []
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUsageError(f"{output}: cannot be made: {error.strerror}") from error
    jobs = []
    for path in paths:
        suffix = path.suffix.lower()
        holds = suffix in CONTAINERS and (codec is None or codec.partition("_")[0] in CONTAINERS[suffix].codecs)
        target = output / (path.name if holds else f"{path.stem}.mp4")
        check_output(target, codec or default_codec(target), crf=crf, preset=preset)
        jobs.append(_Job(path, target, marked=True))
    return jobs


def _existing(jobs: Sequence[_Job], records: str | None, resume: bool) -> list[Path]:
    from ssdcam.media.outputs import check_targets

    existing = check_targets((job.path, job.target) for job in jobs if job.target)
    if resume:  # what an earlier run left unfinished is its to replace
        existing = [target for target in existing if not _marker(target).exists()]
    return [*existing, *session.existing_records(records)]


def _marker(target: Path) -> Path:
    """A file beside an output that is there only while the output is being made."""
    return target.with_name(f".{target.name}.unfinished")


def _is_finished(job: _Job) -> bool:
    return job.target is not None and job.target.exists() and not _marker(job.target).exists()


@dataclass(frozen=True)
class _Run:
    """What is the same for every video of a command."""

    detector: Detector
    common: Sequence[Callable[[str], Sink]]
    look: session.Look
    timing: Timing
    start: float | None
    end: float | None
    stride: int
    max_frames: int | None
    batch: int
    codec: str | None
    crf: int | None
    preset: str
    audio: bool

    def open(self, path: Path) -> FileSource:
        from ssdcam.media.sources import FileSource

        return FileSource(path, start=self.start, end=self.end, stride=self.stride, max_frames=self.max_frames)

    def count_frames(self, jobs: Sequence[_Job]) -> int | None:
        """About how many frames there are in all; None where one video does not say."""
        if not console.shows_progress():
            return None
        counts = []
        for job in jobs:
            try:
                with self.open(job.path) as source:
                    counts.append(source.frame_count)
            except SsdcamError:
                continue  # told when its turn comes
        return None if None in counts else sum(count or 0 for count in counts)

    def process(self, job: _Job, show_progress: Callable[[str], None]) -> bool:
        """Run one video; False if someone quit."""
        from ssdcam.media.containers import default_codec
        from ssdcam.media.video_writer import VideoWriter
        from ssdcam.pipeline.sinks import VideoSink

        with self.open(job.path) as source:
            sinks = [make(str(job.path)) for make in self.common]
            writer = None
            if job.target:
                if job.marked:
                    _marker(job.target).touch()
                rate = (source.rate or session.COMMON_RATE) / self.stride
                writer = VideoWriter(
                    job.target,
                    width=source.width,
                    height=source.height,
                    rate=rate,
                    codec=self.codec or default_codec(job.target),
                    crf=self.crf,
                    preset=self.preset,
                    audio_from=job.path if self.audio else None,
                    start=source.start_time - source.begins,
                    end=None if self.end is None else source.end_time - source.begins,
                    warn=console.log.warning,
                )
                sinks.append(VideoSink(writer, source.start_time))
            try:
                ended = session.run(
                    source,
                    self.detector,
                    sinks,
                    self.look,
                    timing=self.timing,
                    stop=Event(),
                    batch=self.batch,
                    tick=lambda: show_progress(str(job.path)),
                )
            except BaseException:
                if writer:
                    writer.abort()
                raise
            if writer and job.target:
                writer.close(ended=ended and self.max_frames is None)
                if job.marked and ended:
                    _marker(job.target).unlink(missing_ok=True)
            return ended
