"""``ssdcam export``: a detector as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdcam.cli import console, loading, options, outputs, parameters
from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, same_file

if TYPE_CHECKING:
    from ssdcam.checkpoints.families.family import BoxSizes
    from ssdcam.exporting.export import Exported, FormatName, Precision


@click.command("export")
@options.model
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["onnx", "openvino", "torchscript"]),
    required=True,
    help="What to write: x.onnx; x.xml and x.bin for OpenVINO; x.pt or x.torchscript.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The file to write."
)
@click.option("--nms/--no-nms", default=False, show_default=True, help="Put NMS into the file, too.")
@click.option("--score", type=parameters.Number(0, 1), help="With --nms: leave out objects below this score.  [0.5]")
@click.option("--iou", type=parameters.Number(0, 1), help="With --nms: as in ssdcam image; default: the checkpoint's.")
@click.option(
    "--max-det",
    type=parameters.Whole(1, 100_000),
    help="With --nms: objects an image at most; default: the checkpoint's.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp16 stores weights in half the room; int8 in a quarter, and computes in it (onnx, openvino).",
)
@click.option(
    "--calibrate",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="With --precision int8: pictures to choose its ranges on.",
)
@click.option("--opset", type=int, help="Of ONNX; default: what torch's exporter takes.")
@options.labels
@options.foreign
@options.offline
@options.yes
@options.verbosity
def command(
    *,
    model: str | None,
    format_name: FormatName,
    output: Path,
    nms: bool,
    score: float | None,
    iou: float | None,
    max_det: int | None,
    precision: Precision,
    calibrate: Path | None,
    opset: int | None,
    labels: Path | None,
    family: str | None,
    boxes: BoxSizes | None,
    offline: bool,
    yes: bool,
) -> None:
    """Write a detector as a file for ONNX Runtime, OpenVINO, TensorRT, PyTorch and others.

    The input is images (B, 3, H, W): float32, RGB, 0 to 255, whole pictures resized to HxW. The outputs are boxes (B,
    N, 4), x1, y1, x2, y2 relative to the image, and scores (B, N, labels); with --nms boxes (B, K, 4), scores (B, K),
    class_ids (B, K) and counts (B). The file says all this itself. It is run and compared with torch before it gets its
    name.
    """
    from ssdcam.exporting.export import check_precision, export_checkpoint, output_files

    files = output_files(output, format_name)
    if not nms and (score, iou, max_det) != (None, None, None):
        raise WrongUsageError("--score, --iou and --max-det are figures of NMS: give --nms, too")
    check_precision(format_name, precision, calibrated=calibrate is not None)
    if not output.parent.is_dir():
        raise WrongUsageError(f"{output.parent}: no such folder")
    if any(same_file(file, Path(source)) for file in files for source in (model, labels) if source):
        raise WrongUsageError(f"{output}: is an input itself; give another name")
    outputs.agree_on_overwriting([file for file in files if exists(file)], yes)

    from ssdcam.detection.detector import choose

    checkpoint = loading.open_checkpoint(model, labels, family=family, boxes=boxes, offline=offline)
    selection = choose(checkpoint.spec, score=0.5 if score is None else score, iou=iou, max_det=max_det)
    exported = export_checkpoint(
        checkpoint,
        output,
        format_name,
        nms=selection if nms else None,
        precision=precision,
        calibrate=None if calibrate is None else loading.calibration_pictures(calibrate),
        opset=opset,
    )
    spec = checkpoint.spec
    click.echo(
        console.printable(f"{output}: {spec.architecture}, {len(spec.labels)} labels; checked: {_checks(exported)}")
    )


def _checks(exported: Exported) -> str:
    batches = " and ".join(str(size) for size in exported.batches)
    text = f"differs from torch by at most {exported.difference:.1g} on batches of {batches}"
    if exported.agreement:
        pictures, overlap, apart = exported.agreement
        text = (
            f"on {pictures} of the pictures boxes overlap torch's by {overlap:.2f}, scores differ by {apart:.2f}; "
            f"decoding {text}"
        )
    if exported.detections is None:
        return text
    if exported.unpaired:
        return f"{text}, all but {exported.unpaired} of {exported.detections} detections the same"
    return f"{text}, the same {exported.detections} detections"
