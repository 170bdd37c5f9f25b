"""One run of ``ssdcam bench``: every combination in turn, round by round, so that drift hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from ssdcam.benchmarking.combinations import Combination
from ssdcam.benchmarking.crew import Worker, start_timed
from ssdcam.benchmarking.figures import Times
from ssdcam.benchmarking.report import Measured, Report
from ssdcam.benchmarking.synthetic import write_scene
from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.errors import BenchmarkError
from ssdcam.media.sources import FileSource
from ssdcam.pipeline.run import default_batch

_STARTS = 2  # the first prepares, the second finds what the first one kept
_SCENE = (1280, 720)
_LEAST_FRAMES = 16  # of a run of the pipeline
_MEDIA_FRAMES = 100  # a second of measuring, for decoding and encoding alone
_WHOLE = 2**31  # frames of a video whose length nobody knows

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how.

    Attributes:
        checkpoint: the network.
        combinations: what to run it with.
        batches: pictures a network call.
        rounds: how often each thing is measured.
        seconds: that each thing is measured for: the network in all rounds together, the pipeline in each.
        score: the threshold that decoding, NMS and the pipeline have.
        threads: for each engine; None is its own choice.
        video: for the pipeline; None is a synthetic one.
        pipeline: whether it is measured at all.
    """

    checkpoint: Checkpoint
    combinations: Sequence[Combination]
    batches: Sequence[int]
    rounds: int
    seconds: float
    score: float
    threads: int | None = None
    video: Path | None = None
    pipeline: bool = True


def run(plan: Plan, report: Report, tell: Tell = lambda what, done, total: None) -> None:
    """Measure.

    Nothing of it stays: what engines keep between runs goes to a cache of its own.

    Args:
        plan: what to measure.
        report: is filled step by step; what was measured before an exception stays in it.
        tell: is told what is being done, how many steps are done, and of how many.

    Raises:
        BenchmarkError: no combination runs here.
        SsdcamError: the video cannot be read.
    """
    with TemporaryDirectory(prefix="ssdcam-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        _Run(plan, report, Path(folder), stack, tell).run()
    report.complete = True


class _Run:
    def __init__(self, plan: Plan, report: Report, folder: Path, stack: ExitStack, tell: Tell) -> None:
        self._plan = plan
        self._report = report
        self._folder = folder
        self._stack = stack
        self._tell = tell
        self._environment = {"SSDCAM_HOME": str(folder / "home")}
        self._workers: dict[Combination, Worker] = {}
        self._media: Worker | None = None
        self._done = 0
        each = len(plan.combinations)
        self._total = each * (min(plan.rounds, _STARTS) + plan.rounds * len(plan.batches))
        if plan.pipeline:
            self._total += plan.rounds * (each + 1)

    def run(self) -> None:
        plan = self._plan
        save_checkpoint(plan.checkpoint, self._folder / "model.safetensors")
        video, width, height, frames = self._video()
        self._start(width, height)
        for number in range(plan.rounds):
            for batch in plan.batches:
                for one in self._report.measured:
                    self._step(f"network, batch {batch}", partial(self._measure_network, one, batch, number), one)
        for _ in range(plan.rounds if video else 0):
            self._step("decoding and encoding alone", partial(self._measure_media, video))
            for one in self._report.measured:
                self._step("whole pipeline", partial(self._measure_pipeline, one, video, frames), one)

    def _video(self) -> tuple[Path | None, int, int, int]:
        """The video that the pipeline runs on, if any, its width and height, and about how many frames it has."""
        path = self._plan.video
        if path is None:
            if not self._plan.pipeline:
                return None, *_SCENE, 0
            path = self._folder / "scene.mp4"
            self._tell("making a video", 0, self._total)
            write_scene(path, *_SCENE, seconds=min(max(4 * self._plan.seconds, 0.5), 10))
        with FileSource(path) as source:
            return (path if self._plan.pipeline else None), source.width, source.height, source.frame_count or _WHOLE

    def _start(self, width: int, height: int) -> None:
        """Start every combination, cold, in turn; the last start's processes stay."""
        report = self._report
        report.measured = [Measured(one) for one in self._plan.combinations]
        for _ in range(min(self._plan.rounds, _STARTS)):
            for one in report.measured.copy():
                self._step(f"starting {one.combination}", partial(self._start_one, one, width, height))
        if not report.measured:
            lines = "; ".join(f"{combination}: {reason}" for combination, reason in report.unavailable)
            raise BenchmarkError(f"none of what was asked for runs here: {lines}")

    def _start_one(self, one: Measured, width: int, height: int) -> None:
        combination = one.combination
        if combination in self._workers:
            self._workers.pop(combination).close()
        try:
            worker, answer = start_timed(
                self._folder / f"{combination.engine}-{combination.precision}.txt", self._environment,
                checkpoint=str(self._folder / "model.safetensors"), **combination.to_json(),
                threads=self._plan.threads, width=width, height=height,
            )  # fmt: skip
        except BenchmarkError as error:
            self._report.measured.remove(one)
            self._report.unavailable.append((combination, str(error)))
        else:
            self._workers[combination] = self._stack.enter_context(worker)
            one.starts.append(answer)

    def _measure_network(self, one: Measured, batch: int, number: int) -> None:
        plan, worker = self._plan, self._workers[one.combination]
        seconds = plan.seconds / plan.rounds
        answer = worker.ask("network", batch=batch, seconds=seconds, warmup=1 if number else 2)
        # Later rounds begin with small batches, too, when the process already knows the large ones.
        one.memory.setdefault(batch, (answer.pop("peak_memory_mb"), answer.pop("device_memory_mb")))
        one.network.setdefault(batch, Times()).add(
            answer["latencies_s"], answer["pictures"], answer["wall_s"], answer["cpu_s"]
        )
        answer = worker.ask("decoding", batch=batch, score=plan.score, seconds=seconds / 4)
        one.decoding.setdefault(batch, []).extend(answer["latencies_s"])
        if batch == plan.batches[0]:
            one.detection.extend(worker.ask("detection", seconds=seconds / 2)["latencies_s"])

    def _measure_media(self, video: Path | None) -> None:
        if self._media is None:
            self._media = self._stack.enter_context(Worker(self._folder / "media.txt", self._environment))
            self._media.ask("media")
        frames = max(round(_MEDIA_FRAMES * self._plan.seconds), _LEAST_FRAMES)
        for what, more in (("decode", {}), ("encode", {"output": str(self._folder / "encoded.mp4")})):
            answer = self._media.ask(what, video=str(video), frames=frames, **more)
            self._report.stages.setdefault(what, Times()).add([], **_of_frames(answer))

    def _measure_pipeline(self, one: Measured, video: Path | None, frames: int) -> None:
        plan, stages = self._plan, self._report.stages
        usual = default_batch(one.combination.device)
        batch = min((batch for batch in plan.batches if batch >= usual), default=max(plan.batches))
        media = sum(median(times.cpu_s) for times in stages.values()) / self._report.machine["usable_cores"]
        a_frame = max(1 / median(one.network[batch].rates), media)
        wanted = max(round(plan.seconds / a_frame), _LEAST_FRAMES, 2 * batch)
        answer = self._workers[one.combination].ask(
            "pipeline", video=str(video), output=str(self._folder / "pipeline.mp4"), frames=min(wanted, frames),
            batch=batch, score=plan.score,
        )  # fmt: skip
        one.pipeline_batch = batch
        one.pipeline.append(answer["stats"])
        one.pipeline_times.add(
            [], pictures=answer["stats"]["frames"], wall_s=answer["stats"]["wall_s"], cpu_s=answer["cpu_s"]
        )

    def _step(self, what: str, work: Callable[[], None], one: Measured | None = None) -> None:
        """A step; what fails while one combination is measured ends that one, not the run."""
        self._tell(f"{what}: {one.combination}" if one else what, self._done, self._total)
        try:
            if one is None or not one.failure:
                work()
        except BenchmarkError as error:
            if one is None:
                raise
            one.failure = f"{what}: {error}"
        self._done += 1


def _of_frames(answer: dict[str, Any]) -> dict[str, Any]:
    return {"pictures": answer["frames"], "wall_s": answer["wall_s"], "cpu_s": answer["cpu_s"]}
