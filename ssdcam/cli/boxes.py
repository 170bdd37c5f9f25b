"""``ssdcam boxes``: default boxes that suit a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import completing, console, loading, options, outputs, parameters
from ssdcam.errors import SsdcamError, WrongUsageError
from ssdcam.files import same_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ssdcam.datasets import Dataset
    from ssdcam.ssd.box_clusters import Overlaps
    from ssdcam.ssd.default_boxes import BoxLayout
    from ssdcam.ssd.spec import ModelSpec

_PAPERS = "ssd300-vgg16"


@click.command("boxes")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA...")
@click.option(
    "-m", "--model", metavar="NAME|PATH", shell_complete=completing.models, help="Checkpoint that the boxes are for."
)
@click.option(
    "--arch",
    metavar="NAME",
    shell_complete=completing.architectures,
    help=f"Architecture that they are for; default: {_PAPERS}, the paper's.",
)
@options.arch_size
@options.family
@click.option("--split", default="train", show_default=True, help="Part of the data to look at.")
@click.option(
    "--clusters",
    type=parameters.Whole(1, 1000),
    help="Shapes to look for; default: as many as make no more boxes than the network's own.",
)
@click.option("--seed", type=parameters.Whole(0), default=0, show_default=True, help="Of k-means' first centres.")
@click.option("--json", "as_json", is_flag=True, help="The figures and boxes as JSON on stdout.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the boxes there, as JSON for `ssdcam train --boxes`.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw the data's box shapes with the network's own default boxes and those found.",
)
@options.offline
@options.yes
@options.verbosity
def command(
    data: tuple[Path, ...],
    model: str | None,
    arch: str | None,
    arch_options: tuple[str, ...],
    input_size: int | None,
    family: str | None,
    split: str,
    clusters: int | None,
    seed: int,
    as_json: bool,
    output: Path | None,
    plot: Path | None,
    offline: bool,
    yes: bool,
) -> None:
    """Find default boxes for data sets in VOC, COCO or YOLO layout: k-means over their boxes' shapes.

    A shape goes to the coarsest feature map whose cells are close enough together for an object of that shape to be
    matched (IoU .5) wherever in the picture it is: finer maps would spend more boxes on what is found already, coarser
    ones would miss what lies between their cells. Every map gets a shape, and there are no more boxes than the network
    has of its own. Difficult objects and crowds, and what is thinner than a pixel of the network's input, are left out,
    as they are when training.
    """
    _check_outputs([*data, *([Path(model)] if model else [])], output, plot, yes)

    from ssdcam.evaluation.plots import draw_box_shapes
    from ssdcam.plotting import check_plotting, write_figure
    from ssdcam.records.jsontext import dump
    from ssdcam.ssd.box_clusters import best_overlaps, cluster_layout

    if plot:
        check_plotting()
    if model is None and arch is None:
        arch = _PAPERS
    own, _ = loading.network(("object",), model, arch, arch_options, input_size, family=family, offline=offline)
    datasets = [loading.open_part(path, split) for path in data]
    console.tell_problems([line for dataset in datasets for line in dataset.problems])
    truths = _truths(datasets, own.input_size)
    if len(truths) == 0:
        raise SsdcamError(f"{', '.join(map(str, data))}: there is no box to learn shapes from")
    shapes = truths[:, 2:] - truths[:, :2]
    try:
        found = cluster_layout(shapes, own.boxes, clusters, seed)
    except ValueError as error:
        raise WrongUsageError(f"--clusters: {error}") from error

    layouts = {_name(own, model): own.boxes, "k-means": found}
    overlaps = {name: best_overlaps(truths, layout) for name, layout in layouts.items()}
    if output:
        _write(output, _boxes_json(own, found))
    if plot:
        write_figure(draw_box_shapes(shapes, [(n, layouts[n], overlaps[n].recall) for n in layouts]), plot)
    photos = sum(len(dataset.samples) for dataset in datasets)
    if as_json:
        figures = [_figures(name, layouts[name], overlaps[name]) for name in layouts]
        counts = {"photos": photos, "ground_truths": len(truths)}
        click.echo(dump({**counts, "layouts": figures, "boxes": _boxes_json(own, found)}))
    else:
        click.echo(_table(found, overlaps["k-means"]))
        click.echo(f"\n{_comparison(layouts, overlaps)}\n{len(truths)} ground truths in {photos} photos")
    if any(dataset.skipped for dataset in datasets):
        raise click.exceptions.Exit(1)


def _check_outputs(inputs: Sequence[Path], output: Path | None, plot: Path | None, yes: bool) -> None:
    """Before the work: outputs that replace nothing, or what may be replaced."""
    if plot and plot.suffix.lower() != ".png":
        raise WrongUsageError(f"{plot}: the plot's name must end in .png")
    if output and plot and (output == plot or same_file(output, plot)):
        raise WrongUsageError(f"{output}: cannot be both -o and --plot")
    existing = [file for out in (output, plot) if out for file in outputs.check_files(inputs, (), out)]
    outputs.agree_on_overwriting(existing, yes)


def _name(own: ModelSpec, model: str | None) -> str:
    return f"{Path(model).name if model else own.architecture}'s own"


def _truths(datasets: Sequence[Dataset], input_size: tuple[int, int]) -> NDArray[np.float64]:
    """The boxes that training would use, ``(N, 4)``, corners relative to the picture."""
    import numpy as np

    from ssdcam.training.data import LEAST_SIDE

    samples = (sample for dataset in datasets for sample in dataset.samples)
    boxes = (s.boxes[~s.difficult] / np.array([s.width, s.height] * 2, np.float64) for s in samples)
    every = np.concatenate([np.zeros((0, 4)), *boxes])
    height, width = input_size
    seen: NDArray[np.float64] = every[((every[:, 2:] - every[:, :2]) * (width, height) >= LEAST_SIDE).all(axis=1)]
    return seen


def _boxes_json(own: ModelSpec, layout: BoxLayout) -> dict[str, Any]:
    from ssdcam.checkpoints.checkpoint import spec_to_json

    boxes: dict[str, Any] = spec_to_json(replace(own, boxes=layout))["boxes"]
    return boxes


def _write(path: Path, boxes: dict[str, Any]) -> None:
    from ssdcam.files import write_whole, writing

    with writing(path, SsdcamError):
        write_whole(path, (json.dumps(boxes, indent=1) + "\n").encode())


def _shares(layout: BoxLayout, overlaps: Overlaps) -> list[float]:
    """The share of ground truths whose best default box is on each feature map."""
    import numpy as np

    counts = np.bincount(overlaps.maps, minlength=len(layout.maps))
    return [float(count) / len(overlaps.maps) for count in counts]


def _figures(name: str, layout: BoxLayout, overlaps: Overlaps) -> dict[str, Any]:
    return {
        "name": name,
        "default_boxes": layout.num_boxes,
        "boxes_per_cell": list(layout.boxes_per_cell),
        "mean_best_iou": round(float(overlaps.best.mean()), 6),
        "recall50": round(overlaps.recall, 6),
        "shares": [round(share, 6) for share in _shares(layout, overlaps)],
    }


def _table(layout: BoxLayout, overlaps: Overlaps) -> str:
    """A line a shape; the first of each level says what the level is."""
    lines = ["level  cells  shapes  best for  width x height  aspect"]
    shares = _shares(layout, overlaps)
    for number, (m, share) in enumerate(zip(layout.maps, shares, strict=True), 1):
        what = f"{number:5} {f'{m.columns}x{m.rows}':>6} {len(m.shapes):7} {share:9.1%}"
        for w, h in m.shapes:
            lines.append(f"{what:{len(what)}}  {w:5.3f} x {h:5.3f} {w / h:9.2f}")
            what = " " * len(what)
    return "\n".join(lines)


def _comparison(layouts: dict[str, BoxLayout], overlaps: dict[str, Overlaps]) -> str:
    names = [console.printable(name) for name in layouts]
    width = max(map(len, names))
    lines = [f"{'':{width}}  default boxes  mean best IoU  recall at IoU .5"]
    for name, layout, over in zip(names, layouts.values(), overlaps.values(), strict=True):
        lines.append(f"{name:{width}} {layout.num_boxes:14} {over.best.mean():14.4f} {over.recall:17.4f}")
    return "\n".join(lines)
