"""``ssdcam weights``: checkpoints by name and as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdcam.cli import completing, console, loading, options, outputs, progress
from ssdcam.errors import SsdcamError, WrongUsageError
from ssdcam.files import exists, is_folder, same_file

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.checkpoints.families.family import BoxSizes
    from ssdcam.checkpoints.known import Known


@click.group("weights", no_args_is_help=False)
def command() -> None:
    """List, download, look at and convert checkpoints."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="The same and more as JSON.")
@options.verbosity
def list_(as_json: bool) -> None:
    """Show the names that -m takes: embedded and published detectors, and which are here."""
    from ssdcam.checkpoints.known import all_known
    from ssdcam.records.jsontext import dump

    known = all_known()
    if as_json:
        click.echo(dump([_to_json(one) for one in known]))
        return
    table = [("name", "labels", "size", "mAP", "", "licence", "here"), *map(_row, known)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def _row(one: Known) -> tuple[str, ...]:
    facts = one.facts
    return (
        one.name,
        facts.labels,
        f"{one.megabytes:5.1f} MB" if one.megabytes else "-",
        "-" if facts.map is None else f"{facts.map:.3f}",
        facts.metric or "",
        facts.licence,
        console.printable(str(one.path)) if one.path else "embedded" if one.published is None else "-",
    )


def _to_json(one: Known) -> dict[str, object]:
    facts, published = one.facts, one.published
    return {
        "name": one.name,
        "embedded": published is None,
        "labels": facts.labels,
        "megabytes": one.megabytes,
        "map": facts.map,
        "metric": facts.metric,
        "licence": facts.licence,
        "path": None if one.path is None else str(one.path),
        "publisher": published and published.publisher,
        "url": published and published.url,
        "sha256": published and published.sha256,
    }


@command.command("download")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completing.published)
@options.offline
@options.verbosity
def download(names: tuple[str, ...], offline: bool) -> None:
    """Download published checkpoints, and say where they are.

    One that is there is checked again by its hash. What was cut off goes on where it stopped.
    """
    from ssdcam.checkpoints.known import check_name, have

    for name in names:
        check_name(name)
    failed = False
    for name in dict.fromkeys(names):
        try:
            with progress.download() as show:
                path = have(name, offline=offline, progress=show)
        except SsdcamError as error:
            failed = True
            console.log.error("%s", error)
        else:
            click.echo(console.printable(f"{name}: {path or 'comes along with ssdcam'}"))
    if failed:
        raise click.exceptions.Exit(1)


@command.command("info")
@click.argument("model", metavar="NAME|PATH", shell_complete=completing.models)
@click.option("--json", "as_json", is_flag=True, help="Everything the checkpoint says, as JSON.")
@options.labels
@options.foreign
@options.offline
@options.verbosity
def info(
    model: str, as_json: bool, labels: Path | None, family: str | None, boxes: BoxSizes | None, offline: bool
) -> None:
    """Say what a checkpoint is; a published one is downloaded first."""
    from ssdcam.checkpoints.checkpoint import spec_to_json
    from ssdcam.records.jsontext import dump

    checkpoint = loading.open_checkpoint(model, labels, family=family, boxes=boxes, offline=offline)
    if as_json:
        click.echo(dump(spec_to_json(checkpoint.spec)))
    else:
        click.echo("\n".join(console.printable(f"{name:14} {value}") for name, value in _facts(checkpoint)))


def _facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    spec = checkpoint.spec
    height, width = spec.input_size
    parameters = sum(array.size for array in checkpoint.weights.values())
    order, mean, std = spec.normalisation.colour.upper(), spec.normalisation.mean, spec.normalisation.std
    nms = spec.nms
    return [
        ("architecture", " ".join([spec.architecture, *(f"{key}={value:g}" for key, value in spec.options.items())])),
        ("parameters", f"{parameters:,} ({', '.join(sorted({str(a.dtype) for a in checkpoint.weights.values()}))})"),
        ("input", f"{width}x{height} {order}, minus {mean}, over {std}"),
        ("default boxes", f"{spec.boxes.num_boxes:,} on {len(spec.boxes.maps)} feature maps, clip {spec.boxes.clip}"),
        ("scores", f"{spec.score_function}{' with background' if spec.background else ''}"),
        (
            "NMS",
            f"IoU {nms.iou:g}, {nms.before} before, {nms.after} after"
            + (", class-agnostic" if nms.class_agnostic else ""),
        ),
        ("labels", f"{len(spec.labels)}: {', '.join(spec.labels)}"),
        *spec.provenance.items(),
    ]


@command.command("convert")
@click.argument("source", type=click.Path(path_type=Path), metavar="IN")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.safetensors",
    help="The file to write.",
)
@options.labels
@options.foreign
@options.offline
@options.yes
@options.verbosity
def convert(
    source: Path,
    output: Path,
    labels: Path | None,
    family: str | None,
    boxes: BoxSizes | None,
    offline: bool,
    yes: bool,
) -> None:
    """Turn any supported checkpoint, a file or a name, into one file that says all that is needed to run it."""
    from ssdcam.checkpoints.checkpoint import save_checkpoint

    if output.suffix != ".safetensors":
        raise WrongUsageError(f"{output}: the output's name must end in .safetensors")
    if not is_folder(output.parent):
        raise WrongUsageError(f"{output.parent}: no such folder")
    if same_file(output, source):
        raise WrongUsageError(f"{output}: is the input itself; give another name")
    if exists(output):
        outputs.agree_on_overwriting([output], yes)
    checkpoint = loading.open_checkpoint(source, labels, family=family, boxes=boxes, offline=offline)
    save_checkpoint(checkpoint, output)
    click.echo(console.printable(f"{output}: {checkpoint.spec.architecture}, {len(checkpoint.spec.labels)} labels"))
