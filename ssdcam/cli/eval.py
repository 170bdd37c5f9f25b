"""``ssdcam eval``: how good a detector is, or what records made elsewhere are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ssdcam.cli import completing, console, loading, options, parameters, progress
from ssdcam.errors import ImageError, SsdcamError, WrongUsageError
from ssdcam.files import is_file

if TYPE_CHECKING:
    from ssdcam.datasets import Dataset
    from ssdcam.detection.detector import Detector
    from ssdcam.detection.engine import Engine
    from ssdcam.evaluation import Evaluation, Metric, Pairing

# What means nothing to records that are there already.
_DETECTOR_ONLY = (
    "model", "device", "engine", "precision", "calibrate", "iou", "max_det", "labels", "family", "boxes", "threads",
    "offline",
)  # fmt: skip

# VOC's and COCO's own figures take every detection that could count.
_LEAST_SCORE = 0.01


@click.command("eval", context_settings={"default_map": {"score": _LEAST_SCORE}})
@click.argument("data", required=False, type=click.Path(path_type=Path), metavar="[DATA]")
@click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="With --detections: a data set, or a COCO json without its pictures.",
)
@click.option(
    "--detections",
    metavar="FILE",
    shell_complete=completing.files,
    help="Score these records: x.jsonl, x.csv, x.json (COCO, or a list of COCO results), voc:DIR, yolo:DIR.",
)
@click.option("--split", default="val", show_default=True, help="Which part of the data set.")
@click.option(
    "--metric",
    type=click.Choice(["voc07", "voc", "coco"]),
    default="voc07",
    show_default=True,
    help="AP in 11 points, or under the whole curve, at IoU .5; or COCO's over IoU .50 to .95.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON on stdout.")
@click.option(
    "--plots",
    type=parameters.Folder(),
    metavar="DIR",
    help="Draw precision and recall, and what is taken for what, as PNG there.",
)
@options.detection
@options.verbosity
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: Path | None,
    ground_truth: Path | None,
    detections: str | None,
    split: str,
    metric: Metric,
    as_json: bool,
    plots: Path | None,
    **detection: Any,
) -> None:
    """Score a detector on DATA, or the records of --detections against --ground-truth.

    DATA is a VOC folder, a COCO json or its folder, or a YOLO folder or its yaml. Classes meet by name, photos and
    records by file name. Photos that cannot be read are reported and left out; the exit code is then 1.
    """
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    path = _data(data, ground_truth, detections, given - _by_default_map(ctx))

    from ssdcam.datasets import dataset_splits, open_dataset
    from ssdcam.evaluation import confuse, evaluate
    from ssdcam.evaluation.plots import draw_confusion, draw_curves
    from ssdcam.plotting import check_plotting, write_figure
    from ssdcam.records.jsontext import dump

    if plots:
        check_plotting()
        _make_folder(plots)
    classes = None if detection["classes"] is None else loading.class_names(detection["classes"])
    part = split if "split" in given or is_file(path) or dataset_splits(path) else None
    detector = None if detections else loading.load_detector(**detection)
    dataset = open_dataset(path, part, pictures=detections is None)
    if detector:
        dataset, pairing, problems = _detect(dataset, detector)
    else:
        score = None if "score" in _by_default_map(ctx) else detection["score"]
        pairing, problems = _read(str(detections), dataset, path, part, score, classes)
    console.tell_problems(problems)
    if not pairing.labels:
        raise SsdcamError(f"{path}: the detector knows none of its classes, {', '.join(dataset.labels)}")

    result = evaluate(pairing, metric)
    if plots:
        write_figure(draw_curves(result), plots / "precision_recall.png")
        write_figure(draw_confusion(confuse(pairing)), plots / "confusion.png")
    engine = detector.engine if detector else None
    click.echo(dump(_to_json(result, pairing, dataset, engine)) if as_json else _table(result, pairing, engine))
    if dataset.skipped:
        raise click.exceptions.Exit(1)


def _by_default_map(ctx: click.Context) -> set[str]:
    """Options that nobody gave, but whose default is this command's own."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP}


def _data(data: Path | None, ground_truth: Path | None, detections: str | None, given: set[str]) -> Path:
    """Where the ground truth is, if the way of calling makes sense."""
    if detections is None:
        if ground_truth or not data:
            raise WrongUsageError("give DATA to score a detector on, or --ground-truth and --detections")
        return data
    if data or not ground_truth:
        raise WrongUsageError("--detections needs --ground-truth, and no DATA beside it")
    if useless := [f"--{name.replace('_', '-')}" for name in _DETECTOR_ONLY if name in given]:
        raise WrongUsageError(f"{', '.join(useless)}: means nothing with --detections, which no detector is run for")
    return ground_truth


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsdcamError(f"{path}: cannot be made: {error.strerror}") from error


def _detect(dataset: Dataset, detector: Detector) -> tuple[Dataset, Pairing, Sequence[str]]:
    """What a detector finds in a data set's photos; those that cannot be read leave the data set."""
    from ssdcam.datasets import read_picture
    from ssdcam.evaluation import pair

    found, samples, problems = [], [], list(dataset.problems)
    with progress.counted(dataset.samples, "evaluating") as waiting:
        for sample in waiting:
            try:
                found.append(detector.detect(read_picture(sample)))
                samples.append(sample)
            except ImageError as error:
                problems.append(str(error))
    lost = len(dataset.samples) - len(samples)
    dataset = replace(dataset, samples=tuple(samples), skipped=dataset.skipped + lost)
    chosen = detector.selection.classes
    known = detector.labels if chosen is None else [detector.labels[i] for i in chosen]
    return dataset, pair(dataset, found, known), problems


def _read(
    target: str, dataset: Dataset, path: Path, part: str | None, score: float | None, names: Sequence[str] | None
) -> tuple[Pairing, Sequence[str]]:
    """What records say was found in a data set's photos, down to a score and of certain classes, if given."""
    from ssdcam.datasets import match_labels
    from ssdcam.evaluation import pair
    from ssdcam.evaluation.records import read_found, select

    for name, place in zip(names or (), match_labels(names or (), dataset.labels), strict=True):
        if place is None:
            raise WrongUsageError(f"the data set has no class {name!r}; it knows {', '.join(dataset.labels)}")
    elsewhere = read_found(target, dataset, path, part)
    found = [select(one, score or -math.inf, names) for one in elsewhere.detections]
    return pair(dataset, found, elsewhere.labels if names is None else names), [*dataset.problems, *elsewhere.problems]


def _to_json(result: Evaluation, pairing: Pairing, dataset: Dataset, engine: Engine | None) -> dict[str, Any]:
    ran = {"engine": engine.name, "precision": engine.precision, "device": engine.device} if engine else {}
    return {
        "metric": result.metric,
        **{name: _or_null(figure) for name, figure in result.figures.items()},
        "classes": {one.label: _or_null(one.ap) for one in result.classes},
        "images": result.num_images,
        "ground_truths": sum(one.curve.num_truths for one in result.classes),
        "detections": len(pairing.found.scores),
        "left_out": list(pairing.left_out),
        "not_in_data": list(pairing.not_in_data),
        "skipped": dataset.skipped,
        **ran,
    }


def _or_null(figure: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(figure) else round(figure, 6)


def _table(result: Evaluation, pairing: Pairing, engine: Engine | None) -> str:
    """A line a class, the means, and what could not be scored."""
    coco = result.metric == "coco"
    width = max([10, *(len(console.printable(label)) for label in pairing.labels)])
    lines = [f"{'':{width}}     AP{'   AP50' if coco else ''}  ground truths  detections"]
    for one in result.classes:
        figures = _figure(one.ap) + (f" {_figure(one.ap50)}" if coco else "")
        label = console.printable(one.label)
        lines.append(f"{label:{width}} {figures} {one.curve.num_truths:14} {one.num_found:11}")
    means = [result.figures["map"], *([result.figures["map50"]] if coco else [])]
    truths, found = (
        sum(counts) for counts in zip(*((c.curve.num_truths, c.num_found) for c in result.classes), strict=True)
    )
    lines.append(f"{'mean':{width}} {' '.join(map(_figure, means))} {truths:14} {found:11}")
    more = [f"{name} {figure:.4f}" for name, figure in result.figures.items() if name not in ("map", "map50")]
    lines += ["  ".join(more[i : i + 4]) for i in range(0, len(more), 4)]
    ran = f"; {engine.name} on {engine.device} in {engine.precision}" if engine else ""
    lines.append(f"{result.num_images} photos, metric {result.metric}{ran}")
    for what, labels in (("the detector does not know", pairing.left_out), ("not in the data", pairing.not_in_data)):
        if labels:
            lines.append(f"left out, {what}: {console.printable(', '.join(labels))}")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return "     -" if math.isnan(value) else f"{value:.4f}"
