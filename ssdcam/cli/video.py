"""``ssdcam video``: objects in video files."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import completing, console, loading, options, outputs, parameters, session
from ssdcam.errors import ImageError, SourceError, SsdcamError, VideoError, WrongUsageError
from ssdcam.files import is_file

if TYPE_CHECKING:
    from ssdcam.detection.detector import Detector
    from ssdcam.media.description import Description
    from ssdcam.media.images import Picture
    from ssdcam.media.sources import FileSource
    from ssdcam.media.video_outputs import VideoJob
    from ssdcam.media.video_writer import VideoWriter
    from ssdcam.pipeline.run import Sink
    from ssdcam.pipeline.timing import Timing


# The options that show in the output; and so do the contents of the model and of the labels.
_SHOWS = (
    "family", "boxes", "precision", "score", "iou", "max_det", "classes", "line_width", "no_labels", "no_fps", "codec",
    "crf", "preset", "no_audio", "start", "end", "stride", "max_frames", "crops",
)  # fmt: skip


@click.command("video")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", shell_complete=completing.files)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    shell_complete=completing.files,
    help="Write the video with boxes there: a file for one input, a folder (for one: ending with a slash) for several.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a frame on stdout.")
@options.records
@options.crops
@options.encoding
@click.option("--no-audio", is_flag=True, help="Leave the sound out.")
@click.option("--start", type=parameters.Seconds(), help="Begin at this time: seconds, MM:SS or HH:MM:SS.")
@click.option("--end", type=parameters.Seconds(), help="End at this time.")
@click.option("--stride", type=parameters.Whole(1), default=1, show_default=True, help="Look at every Nth frame.")
@click.option("--max-frames", type=parameters.Whole(1), help="Stop after so many frames.")
@click.option("--batch", type=parameters.Whole(1, 256), help="Frames a network call; default: 4 on a CPU, 8 on a GPU.")
@click.option("--show", is_flag=True, help="Show frames in a window.")
@options.stats
@click.option("--resume", is_flag=True, help="Leave out inputs that an earlier run of this command finished.")
@options.detection
@options.drawing
@options.no_fps
@options.yes
@options.verbosity
def command(
    inputs: tuple[str, ...], output: str | None, as_json: bool, records: tuple[str, ...], crops: Path | None,
    codec: str | None, crf: int | None, preset: str, no_audio: bool, start: float | None, end: float | None,
    stride: int, max_frames: int | None, batch: int | None, show: bool, stats: Path | None, resume: bool,
    line_width: int | None, no_labels: bool, no_fps: bool, yes: bool, **detection: Any,
) -> None:  # fmt: skip
    """Find objects in video files: files, folders, quoted globs.

    Sound, times and orientation are kept. The output plays whatever ends the run.
    """
    from ssdcam.media.crops import CropFolder
    from ssdcam.media.drawing import Style
    from ssdcam.media.outputs import check_targets
    from ssdcam.media.sources.file import check_range
    from ssdcam.media.video_outputs import plan_videos
    from ssdcam.pipeline.run import default_batch
    from ssdcam.pipeline.timing import Timing

    check_range(start, end, stride, max_frames)
    videos, failed = _find(inputs)
    if not videos:
        raise click.exceptions.Exit(1)
    several = len(inputs) > 1 or [video.path for video in videos] != [Path(inputs[0])]
    jobs = plan_videos(videos, output, several=several, codec=codec, crf=crf, preset=preset)
    comment = f"{_OURS} {_digest(click.get_current_context().params)}" if output else ""
    planned = len(jobs)
    if resume:
        if as_json or records or not all(job.in_folder for job in jobs):
            raise WrongUsageError(
                "--resume needs a folder as -o (for one input, its name ends with a slash), "
                "and goes with neither --json nor --records"
            )
        jobs = _unfinished(jobs, comment, yes)
    else:
        _tell_of_abandoned(jobs)
    existing = check_targets((job.path, job.target) for job in jobs if job.target)
    if resume:
        existing = [job.target for job in jobs if job.target in existing and not job.left_unfinished]
    read = [*(job.path for job in jobs), *outputs.files_read(detection)]
    existing += outputs.check_files(read, records, stats, [job.target for job in jobs if job.target])
    outputs.agree_on_overwriting(existing, yes)
    has_sink = bool(output or as_json or records or crops)
    look = session.Look(Style(line_width, not no_labels), not no_fps, session.can_watch(show or not has_sink, has_sink))

    detector = loading.load_detector(**detection)
    batch = batch or default_batch(detector.engine.device)
    timing = Timing()
    crop_folder = CropFolder(crops) if crops else None
    written: list[Path] = []
    done: list[VideoJob] = []

    looked_at: VideoJob | None = None

    def told_at_end() -> str:
        if not timing.frames or as_json:
            return ""
        place = None if not written else written[0] if len(jobs) == 1 else output
        stopped = "" if jobs == done else _stopped(looked_at, done, bool(records))
        lines = stopped, outputs.wrote(place, records, crop_folder, stats)
        return "\n".join(filter(None, lines))

    with ExitStack() as stack:
        outputs.tell_at_end(stack, told_at_end)
        printer = session.Printer(others=bool(output or records or crops)) if as_json else None
        common = session.open_sinks(stack, detector, printer, records, crop_folder)
        note = f"{planned - len(jobs)} of {planned} already done" if len(jobs) < planned else ""
        stack.enter_context(session.reporting(timing, detector, detection["model"], stats, as_json, note))
        run = _Run(
            detector, common, look, timing, start, end, stride, max_frames, batch, codec, crf, preset, not no_audio,
            comment, written, done,
        )  # fmt: skip
        show_progress = stack.enter_context(session.progress(run.count_frames(jobs), timing, as_json))
        for job in jobs:
            looked_at = job
            try:
                goes_on = run.process(job, show_progress)
            except (SourceError, VideoError) as error:
                console.log.error("%s", error)
                failed += 1
            else:
                if not goes_on:
                    break
        else:
            looked_at = None
        if failed:  # inside, for who writes records to know
            raise click.exceptions.Exit(1)


def _find(inputs: Sequence[str]) -> tuple[list[Picture], int]:
    """The video files that arguments lead to, and how many arguments lead to none.

    Raises:
        WrongUsageError: one is the address of a stream.
    """
    from ssdcam.media.containers import INPUT_SUFFIXES
    from ssdcam.media.images import find_pictures

    outputs.refuse_addresses(inputs, "is a stream, not a file: use ssdcam webcam {}")
    found = [_no_still(item) for item in find_pictures(inputs, INPUT_SUFFIXES, "videos")]
    failures = [item for item in found if isinstance(item, SsdcamError)]
    for failure in failures:
        console.log.error("%s", failure)
    return [item for item in found if not isinstance(item, SsdcamError)], len(failures)


def _moves(path: Path) -> bool:
    """Whether it is a PNG that holds an animation, which says so before its first picture."""
    try:
        with path.open("rb") as file:
            return b"acTL" in file.read(2**16)
    except OSError:  # told when its turn comes
        return True


_BEGUN_ANEW = "; --resume begins it anew and leaves alone what is done"
_OURS = "ssdcam options"  # how a line of ours in a video's comment begins
_END = 2**16  # bytes of a video, at either end, that tell it from others of its size


def _stopped(job: VideoJob | None, done: Sequence[VideoJob], records: bool) -> str:
    """A line about the video in which a run was stopped, or that was the last one, if it was stopped."""
    if job is None:
        return ""
    how, advice = ("after", "; --resume goes on with what is left") if job in done else ("in", _BEGUN_ANEW)
    return console.printable(f"stopped {how} {job.path}{advice if job.in_folder and not records else ''}")


def _no_still(found: Picture | ImageError) -> Picture | ImageError:
    """What was found, but of a picture, of which FFmpeg would make a video, an error that says what looks at it."""
    from ssdcam.media.images import ANIMATED, SUFFIXES

    if isinstance(found, ImageError) or found.path.suffix.lower() not in SUFFIXES - ANIMATED or _moves(found.path):
        return found
    return ImageError(
        f"{found.path}: is no video, but by its name a picture: use ssdcam image {shlex.quote(str(found.path))}"
    )


def _digest(options: Mapping[str, Any]) -> str:
    """What stands for everything that the user chose and that shows in the output: the same choices give the same."""
    chosen = {name: options[name] for name in _SHOWS}
    for name in ("model", "labels"):
        chosen[name] = options[name]
        if options[name] and is_file(Path(options[name])):
            # Whether it can be read is told when it is used.
            with suppress(OSError), Path(options[name]).open("rb") as file:
                chosen[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(chosen, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _without_ours(description: Description) -> Description:
    """The same, where the input is an output itself, without the comment that says what it was made of."""
    texts = dict(description.texts)
    lines = texts.pop("comment", "").splitlines()
    theirs = "\n".join(line for line in lines if not line.startswith(_OURS))
    return replace(description, texts={**texts, "comment": theirs} if theirs else texts)


def _made_of(video: Path, comment: str) -> str:
    """The comment of an output: what stands for the options, and for the video by its size and its two ends."""
    digest = hashlib.sha256()
    with suppress(OSError), video.open("rb") as file:  # whether it can be read is told when it is used
        size = file.seek(0, os.SEEK_END)
        digest.update(b"%d" % size)
        for place in (0, max(0, size - _END)):
            file.seek(place)
            digest.update(file.read(_END))
    return f"{comment} input {digest.hexdigest()[:16]}"


def _tell_of_abandoned(jobs: Sequence[VideoJob]) -> None:
    """Say which outputs an earlier run did not finish, before a new one begins from the start."""
    for job in jobs:
        if job.abandoned:
            advice = _BEGUN_ANEW if job.in_folder else ""
            console.log.warning("%s: an earlier run left this unfinished%s", job.target, advice)


def _unfinished(jobs: Sequence[VideoJob], comment: str, yes: bool) -> list[VideoJob]:
    """The jobs that no earlier run finished, of the same video with the same options.

    Raises:
        WrongUsageError: one was finished otherwise, and the user does not say that it may be replaced.
    """
    finished = [job for job in jobs if job.finished]
    other = [job for job in finished if not job.made_with(_made_of(job.path, comment))]
    for job in other:
        if not yes:
            raise WrongUsageError(
                f"{job.target}: was not made of this video with these options: -y makes it anew, or name another folder"
                " as -o"
            )
        console.log.warning("%s: was not made of this video with these options, and is made anew", job.target)
    return [job for job in jobs if job not in finished or job in other]


@dataclass(frozen=True)
class _Run:
    """What is the same for every video of a command; which outputs are whole, and which videos came to their end."""

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
    comment: str
    written: list[Path]
    done: list[VideoJob]

    def open(self, path: Path) -> FileSource:
        from ssdcam.media.sources import FileSource

        return FileSource(path, start=self.start, end=self.end, stride=self.stride, max_frames=self.max_frames)

    def count_frames(self, jobs: Sequence[VideoJob]) -> int | None:
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

    def _check_range(self, path: Path) -> None:
        """Refuse times that leave no frame, before an older output is opened to be replaced."""
        if self.start is None and self.end is None:
            return
        with self.open(path) as source:
            if source.read() is None:
                raise SourceError(f"{path}: has no frame between the times that were asked for")

    def process(self, job: VideoJob, show_progress: Callable[[str], None]) -> bool:
        """Run one video; False if someone quit."""
        from ssdcam.pipeline.run import batch_that_fits
        from ssdcam.pipeline.sinks import VideoSink

        self._check_range(job.path)
        with ExitStack() as stack:
            source = stack.enter_context(self.open(job.path))
            batch = batch_that_fits(self.batch, source.width, source.height)
            if batch < self.batch:
                text = "%s: memory does not hold enough frames of %dx%d for --batch %d: it is %d"
                console.log.warning(text, job.path, source.width, source.height, self.batch, batch)
            sinks = [make(str(job.path)) for make in self.common]
            claim = job.claim()
            writer = None
            if claim and job.target:
                stack.enter_context(claim)
                writer, zero = self._open_writer(job.path, job.target, source)
                sinks.append(VideoSink(writer, zero))
            ended = False
            try:
                ended = session.run(
                    source,
                    self.detector,
                    sinks,
                    self.look,
                    timing=self.timing,
                    stop=Event(),
                    batch=batch,
                    tick=lambda: show_progress(str(job.path)),
                )
                if writer:
                    ends = None if source.ends is None else source.ends - zero
                    writer.close(ended=ended and self.max_frames is None, ends=ends)
            finally:
                if claim and writer:
                    writer.abort()  # where close was not reached
                    claim.finished = ended and writer.whole
                    if writer.whole:
                        self.written.append(writer.path)
                if ended and (writer is None or writer.whole):
                    self.done.append(job)
            return ended

    def _tell_left_out(self, path: Path, source: FileSource) -> None:
        """Say which tracks the output will lack, but for sound that nobody wants."""
        counts = {kind: count for kind, count in source.other_tracks().items() if self.audio or kind != "audio"}
        if counts:
            tracks = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            console.log.warning("%s: the output holds the first video and sound; tracks left out: %s", path, tracks)

    def _open_writer(self, path: Path, target: Path, source: FileSource) -> tuple[VideoWriter, float]:
        """The output, and the time of the source's clock at which it begins, in seconds."""
        from ssdcam.media.containers import default_codec
        from ssdcam.media.video_writer import VideoWriter

        self._tell_left_out(path, source)
        if source.interlaced:
            text = "%s: is interlaced: what moves has combs in the output, unless ffmpeg's -vf bwdif comes before"
            console.log.warning(text, path)
        # Frames and sound keep their times, so that sound from before the first frame is kept, too.
        zero = min(source.origin, source.begins) if self.start is None else source.start_time
        writer = VideoWriter(
            target,
            width=source.width,
            height=source.height,
            rate=source.rate or session.COMMON_RATE,
            stride=self.stride,
            pixel_aspect=source.pixel_aspect,
            colours=source.colours,
            ends=None if source.ends is None else source.ends - zero,
            codec=self.codec or default_codec(target),
            crf=self.crf,
            preset=self.preset,
            audio_from=path if self.audio else None,
            start=zero,
            end=None if self.end is None else source.end_time,
            description=_without_ours(source.description()),
            comment=_made_of(path, self.comment),
            warn=console.log.warning,
        )
        return writer, zero
