"""``ssdcam bench``: what this machine does with each engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import bench_tables, completing, console, loading, options, outputs, parameters
from ssdcam.errors import WrongUsageError

if TYPE_CHECKING:
    from ssdcam.benchmarking.bench import Plan
    from ssdcam.benchmarking.report import Report
    from ssdcam.checkpoints.checkpoint import Checkpoint

_BUSY = 0.5  # load a core from which on figures mean little


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """Whole numbers from 1 on, separated by commas."""

    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """From text, in rising order, each once."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = sorted({int(part) for part in value.split(",")})
        except ValueError:
            numbers = []
        if not numbers or not 1 <= numbers[0] <= numbers[-1] <= 4096:
            self.fail(f"{value!r} is no list such as 1,8: whole numbers from 1 to 4096", param, ctx)
        return tuple(numbers)


@click.command("bench")
@click.argument("video", required=False, type=click.Path(path_type=Path), metavar="[VIDEO]")
@options.model
@click.option(
    "--arch",
    metavar="NAME",
    shell_complete=completing.architectures,
    help="Measure this architecture, with random weights; no file is needed.",
)
@options.arch_size
@click.option(
    "--engines", "--engine", default="all", show_default=True, metavar="all|NAME,...", help="What runs the network."
)
@click.option(
    "--precisions",
    "--precision",
    default="all",
    show_default=True,
    metavar="all|NAME,...",
    help="Of its arithmetic: fp32, bf16, fp16, ...; all is what each engine can be expected to run well.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|mps",
    shell_complete=completing.devices,
    help="Where to run; auto is on the CPU, and on a GPU as well if there is one.",
)
@click.option("--batch", type=_Numbers(), default="1,8", show_default=True, help="Pictures a network call.")
@click.option(
    "--rounds", type=parameters.Whole(1, 1000), default=3, show_default=True, help="How often each thing is measured."
)
@click.option(
    "--seconds",
    type=parameters.Number(0, 3600),
    default=1.0,
    show_default=True,
    help="To measure each thing: the network in all rounds together, the pipeline in each.",
)
@click.option(
    "--score",
    type=parameters.Number(0, 1),
    default=0.5,
    show_default=True,
    help="Threshold of the boxes that enter NMS and are drawn.",
)
@click.option(
    "--threads", type=parameters.Whole(1, 1024), help="CPU threads of each engine; default: all cores it may use."
)
@click.option("--no-pipeline", is_flag=True, help="Measure the network alone.")
@options.labels
@options.foreign
@options.offline
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON on stdout.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png", help="Draw the figures as bars."
)
@options.yes
@options.verbosity
def command(
    video: Path | None, model: str | None, arch: str | None, arch_options: tuple[str, ...], input_size: int | None,
    engines: str, precisions: str, device: str, batch: tuple[int, ...], rounds: int, seconds: float, score: float,
    threads: int | None, no_pipeline: bool, labels: Path | None, family: str | None, boxes: Any, offline: bool,
    as_json: bool, plot: Path | None, yes: bool,
) -> None:  # fmt: skip
    """Measure what this machine does with each engine and precision: the network alone, start-up, and the whole way.

    The whole way is decoding VIDEO (a synthetic one if none is given), detecting, drawing and encoding to H.264.
    Everything is measured in turn, round by round; ratios are to plain torch in the same run. Whatever else the machine
    does shows in the figures. Nothing is left behind.
    """
    if plot:
        if plot.suffix.lower() != ".png":
            raise WrongUsageError(f"{plot}: the plot's name must end in .png")
        inputs = [*([video] if video else []), *([Path(model)] if model else [])]
        outputs.agree_on_overwriting(outputs.check_files(inputs, (), plot), yes)
    if video and no_pipeline:
        raise WrongUsageError(f"{video}: is for the pipeline, which --no-pipeline leaves out")

    from ssdcam.benchmarking.bench import Plan, run
    from ssdcam.benchmarking.combinations import combinations
    from ssdcam.benchmarking.machine import machine
    from ssdcam.benchmarking.report import Report
    from ssdcam.plotting import check_plotting

    if plot:
        check_plotting()
    if video:
        _check_video(video)
    chosen = combinations(_names(engines), _names(precisions), _devices(device))
    checkpoint = _checkpoint(model, arch, arch_options, input_size, labels, family, boxes, offline)
    plan = Plan(checkpoint, chosen, batch, rounds, seconds, score, threads, video, not no_pipeline)
    report = Report(machine(), _settings(plan, model, arch))
    _warn_if_busy(report)
    try:
        with _progress() as tell:
            run(plan, report, tell)
    finally:  # what was measured before Ctrl-C, too
        if report:
            _show(report, as_json, plot)
    for combination, reason in report.failures:
        console.log.error("%s: %s", combination, reason)
    if report.failures:
        raise click.exceptions.Exit(1)


def _names(text: str) -> list[str] | None:
    """A list of names; None is all."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise WrongUsageError(f"{text!r} names nothing")
    return None if names == ["all"] else names


def _check_video(video: Path) -> None:
    """Open it, before anything is measured."""
    from ssdcam.media.sources import FileSource

    with FileSource(video):
        pass


def _devices(device: str) -> list[str]:
    """Where to run.

    Raises:
        UnavailableError: the device is not there.
        WrongUsageError: there is no such device.
    """
    from ssdcam.detection.devices import cuda_may_be_there, device_kind, mps_may_be_there

    if device_kind(device) == "cpu" or not (device != "auto" or cuda_may_be_there() or mps_may_be_there()):
        return ["cpu"]
    from ssdcam.detection.torch_engine import find_device  # takes its time to import

    found = str(find_device(device))
    return list(dict.fromkeys(["cpu", found])) if device == "auto" else [found]


def _checkpoint(
    model: str | None, arch: str | None, arch_options: tuple[str, ...], input_size: int | None, labels: Path | None,
    family: str | None, boxes: Any, offline: bool,
) -> Checkpoint:  # fmt: skip
    """The network to measure: a checkpoint's, or an architecture's with random weights."""
    from ssdcam.benchmarking.random_weights import random_checkpoint
    from ssdcam.checkpoints.labels import VOC, read_labels

    if arch is None:
        if arch_options or input_size:
            raise WrongUsageError("--arch-option and --input-size are for --arch: a checkpoint has its own")
        return loading.open_checkpoint(model, labels, family=family, boxes=boxes, offline=offline)
    if model is not None or family or boxes:
        raise WrongUsageError("--arch needs no file: give either it or -m")
    spec, _ = loading.network(read_labels(labels) if labels else VOC, None, arch, arch_options, input_size)
    return random_checkpoint(spec)


def _settings(plan: Plan, model: str | None, arch: str | None) -> dict[str, Any]:
    from ssdcam.checkpoints.resolve import EMBEDDED

    spec = plan.checkpoint.spec
    height, width = spec.input_size
    return {
        "model": f"{arch}, random weights" if arch else model or EMBEDDED[0],
        "network": f"{spec.architecture}, {width}x{height}, {spec.boxes.num_boxes} boxes, {len(spec.labels)} classes",
        "video": str(plan.video) if plan.video else "synthetic" if plan.pipeline else None,
        "batches": list(plan.batches),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "score": plan.score,
        "threads": plan.threads,
    }


def _warn_if_busy(report: Report) -> None:
    load, cores = report.machine["load"], report.machine["usable_cores"]
    if load and load > _BUSY * cores:
        console.log.warning("the machine is busy with something else (load %.1f on %g cores): it shows", load, cores)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr with what is being measured, where someone sees it."""
    if not console.shows_progress():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True)
    with bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=escape(what), completed=done, total=total)


def _show(report: Report, as_json: bool, plot: Path | None) -> None:
    figures = report.to_json()
    if as_json:
        click.echo(json.dumps(figures, ensure_ascii=False))
    else:
        bench_tables.show(figures)
    if plot and figures["network"]:
        from ssdcam.benchmarking.plot import draw_bench
        from ssdcam.plotting import write_figure

        write_figure(draw_bench(figures), plot)
