"""``ssdcam weights``: checkpoints as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdcam.cli import console, options, session
from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, is_folder, same_file

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.checkpoints.families.family import BoxSizes


@click.group("weights", no_args_is_help=False)
def command() -> None:
    """Look at checkpoints and convert them."""


@command.command("info")
@click.argument("model", metavar="NAME|PATH")
@click.option("--json", "as_json", is_flag=True, help="Everything the checkpoint says, as JSON.")
@options.labels
@options.foreign
@options.verbosity
def info(model: str, as_json: bool, labels: Path | None, family: str | None, boxes: BoxSizes | None) -> None:
    """Say what a checkpoint is."""
    from ssdcam.checkpoints.checkpoint import spec_to_json
    from ssdcam.checkpoints.resolve import open_checkpoint
    from ssdcam.records.jsontext import dump

    checkpoint = open_checkpoint(model, labels, family=family, boxes=boxes)
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
@options.yes
@options.verbosity
def convert(
    source: Path, output: Path, labels: Path | None, family: str | None, boxes: BoxSizes | None, yes: bool
) -> None:
    """Turn any supported checkpoint into one file that says all that is needed to run it."""
    from ssdcam.checkpoints.checkpoint import save_checkpoint
    from ssdcam.checkpoints.resolve import open_checkpoint

    if output.suffix != ".safetensors":
        raise WrongUsageError(f"{output}: the output's name must end in .safetensors")
    if not is_folder(output.parent):
        raise WrongUsageError(f"{output.parent}: no such folder")
    if same_file(output, source):
        raise WrongUsageError(f"{output}: is the input itself; give another name")
    if exists(output):
        session.agree_on_overwriting([output], yes)
    checkpoint = open_checkpoint(source, labels, family=family, boxes=boxes)
    save_checkpoint(checkpoint, output)
    click.echo(console.printable(f"{output}: {checkpoint.spec.architecture}, {len(checkpoint.spec.labels)} labels"))
