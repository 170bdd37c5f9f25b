"""From a checkpoint to a file that other programs run, checked before anybody sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ssdcam import __version__
from ssdcam.checkpoints.checkpoint import Checkpoint, spec_to_json
from ssdcam.detections import Image
from ssdcam.errors import CheckpointError, ExportError, WrongUsageError, first_line
from ssdcam.memory import ran_out
from ssdcam.notes import note
from ssdcam.ssd.spec import ModelSpec, Selection

if TYPE_CHECKING:
    from ssdcam.detection.agreement import Agreement
    from ssdcam.exporting.formats import Format

FormatName = Literal["onnx", "openvino", "torchscript"]
Precision = Literal["fp32", "fp16", "int8"]

SUFFIXES: Mapping[FormatName, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "openvino": (".xml", ".bin"),
    "torchscript": (".pt", ".torchscript"),
}
"""What the names of a format's files may end in; of OpenVINO's two, the first is the one that is named."""

_IN_INTEGERS: tuple[FormatName, ...] = ("onnx", "openvino")
_MANY = 1000  # detections a picture


@dataclass(frozen=True)
class Exported:
    """What was written and how it was checked.

    Attributes:
        files: those that were written.
        batches: sizes of the batches of pictures that it was run on.
        difference: the largest between its boxes and probabilities and torch's; in int8, and those that torch decodes
            from the same network's output.
        detections: how many were compared after NMS; None without NMS inside.
        unpaired: how many of these, torch's or the file's, the other did not have: a difference in the last digit can
            decide which of two boxes suppresses the other.
        agreement: of int8 alone: how much of torch's detector is kept.
    """

    files: tuple[Path, ...]
    batches: tuple[int, ...]
    difference: float
    detections: int | None
    unpaired: int
    agreement: Agreement | None = None


def output_files(path: Path, format_name: FormatName) -> tuple[Path, ...]:
    """The files that an export to ``path`` writes, the named one first.

    Raises:
        WrongUsageError: the name does not end as the format's files do.
    """
    suffixes = SUFFIXES[format_name]
    if format_name == "openvino":
        if path.suffix == suffixes[0]:
            return tuple(path.with_suffix(suffix) for suffix in suffixes)
        suffixes = suffixes[:1]
    elif path.suffix in suffixes:
        return (path,)
    raise WrongUsageError(f"{path}: the name of a file for {format_name} must end in {' or '.join(suffixes)}")


def check_precision(format_name: FormatName, precision: Precision, *, calibrated: bool) -> None:
    """Whether a format has a precision, and pictures come with it where they are needed.

    Raises:
        WrongUsageError: it is not so.
    """
    if precision not in get_args(Precision):
        raise WrongUsageError(f"precision {precision!r} is none of {', '.join(get_args(Precision))}")
    if precision == "int8" and format_name not in _IN_INTEGERS:
        raise WrongUsageError(f"precision int8: not in {format_name}; use --format {' or '.join(_IN_INTEGERS)}")
    if precision == "int8" and not calibrated:
        raise WrongUsageError(
            "precision int8 is chosen on pictures: give --calibrate DIR, a folder of some hundred like those to come"
        )
    if calibrated and precision != "int8":
        raise WrongUsageError(f"calibration is for precision int8, not for {precision}")


def export_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    format_name: FormatName,
    *,
    nms: Selection | None = None,
    precision: Precision = "fp32",
    calibrate: Iterable[Image] | None = None,
    opset: int | None = None,
) -> Exported:
    """Write a detector as a file for other programs: whole and checked, or not at all.

    The input is ``images``, float32 ``(B, 3, H, W)``, RGB, 0 to 255, any B. The outputs are ``boxes`` ``(B, N, 4)``,
    ``x1, y1, x2, y2`` relative to the image, and ``scores`` ``(B, N, labels)``; with NMS inside, ``boxes``
    ``(B, K, 4)``, ``scores`` ``(B, K)`` by falling score, ``class_ids`` ``(B, K)`` and ``counts`` ``(B)``: from an
    image's count on, boxes and scores are 0 and class ids -1.

    Args:
        checkpoint: the detector.
        path: the file to write; what is there is replaced.
        format_name: ``onnx``, ``openvino`` (writes a ``.bin`` beside) or ``torchscript``.
        nms: threshold and figures of the NMS to put inside; None for none.
        precision: with ``fp16`` weights are stored as 16-bit floats; what computes in which, is the runtime's affair.
            With ``int8`` the network computes in 8-bit integers; normalisation, decoding and NMS stay as they are.
        calibrate: for ``int8``, some hundred images to choose its ranges on, of which the first 300 are taken.
        opset: ONNX's; None is what torch's exporter takes.

    Raises:
        CheckpointError: the checkpoint is wrong.
        ExportError: the file cannot be written, or does not do what torch does.
        UnavailableError: what the format needs is not installed.
        WrongUsageError: name, opset or precision do not suit the format, or there are no images for int8.
    """
    files = output_files(path, format_name)
    check_precision(format_name, precision, calibrated=calibrate is not None)
    if nms and nms.classes is not None:
        raise WrongUsageError("an exported file knows all classes of its checkpoint")
    form = _format(format_name)
    if opset is not None and opset not in form.opsets:
        raise WrongUsageError(
            f"opset {opset}: ssdcam writes {form.opsets[0]} to {form.opsets[-1]}"
            if form.opsets
            else f"opset {opset}: {format_name} has none"
        )
    form.require()

    from ssdcam.detection.detector import calibration_batch
    from ssdcam.exporting.check import BATCHES, check_detections, check_outputs, check_quantised, in_torch, lively
    from ssdcam.exporting.formats import nms_room
    from ssdcam.exporting.network import DecodedSSD

    half = precision == "fp16"
    network = DecodedSSD(_rounded(checkpoint) if half else checkpoint)
    facts = _facts(network.spec, precision, nms)
    if nms and (most := nms_room(network.spec, nms).after) > _MANY:
        note(f"{path}: outputs have room for {most} detections a picture, which takes time; --max-det takes fewer")
    with _replacing(files) as parts:
        photos, agreement = None, None
        if form.quantise and calibrate is not None:
            photos = calibration_batch(calibrate, network.spec)
            model, in_integers = form.quantise(network, opset, photos)
            raw = in_torch(in_integers)
        else:
            model, raw = form.build(network, opset, half), network.raw
        _save(form, model, parts[0], facts, path)
        run = form.load(parts[0])
        difference = check_outputs(run, network, raw, str(path))
        if photos is not None:
            agreement = check_quantised(run, network, photos, str(path))
        detections, unpaired = None, 0
        if nms:
            # As it was asked for last, and before with a low threshold, so that there is something to compare.
            for selection in (lively(network, raw, nms), nms):
                _save(form, form.with_nms(model, network.spec, selection), parts[0], facts, path)
                found, alone = check_detections(form.load(parts[0]), network, raw, selection, str(path))
                detections, unpaired = max(found, detections or 0), max(alone, unpaired)
    return Exported(files, BATCHES, difference, detections, unpaired, agreement)


def _format(name: FormatName) -> Format:
    if name == "onnx":
        module = import_module("ssdcam.exporting.onnx_file")
    elif name == "openvino":
        module = import_module("ssdcam.exporting.openvino_file")
    else:
        module = import_module("ssdcam.exporting.torchscript_file")
    form: Format = module.FORMAT
    return form


def _save(form: Format, model: Any, part: Path, facts: Mapping[str, str], path: Path) -> None:
    try:
        form.save(model, part, facts)
    except RuntimeError as error:  # torch's and OpenVINO's own about a full disk
        if ran_out(error):
            raise
        raise ExportError(f"{path}: cannot be written: {first_line(error)}") from error


def _rounded(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as 16-bit floats hold it."""
    with np.errstate(over="ignore"):
        weights = {name: array.astype(np.float16) for name, array in checkpoint.weights.items()}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds weights that are too large for fp16: export in fp32")
    return replace(checkpoint, weights=weights)


def _facts(spec: ModelSpec, precision: Precision, nms: Selection | None) -> dict[str, str]:
    """What a user of the file alone wants to know, each as a text; lists and objects as JSON."""
    whole = spec_to_json(spec)
    height, width = spec.input_size
    outputs = "boxes (B, N, 4): x1, y1, x2, y2 relative to the image; scores (B, N, labels): probabilities"
    if nms:
        outputs = (
            "boxes (B, K, 4): x1, y1, x2, y2 relative to the image; scores (B, K), falling; class_ids (B, K), from 0, "
            "places in labels; counts (B): how many of the K are detections"
        )
    facts = {
        "ssdcam_version": __version__,
        "architecture": spec.architecture,
        "labels": spec.labels,
        "input": f"images (B, 3, {height}, {width}): float32, RGB, 0 to 255; the whole picture, resized bilinearly",
        "input_size": spec.input_size,
        "colour": "rgb",
        "normalisation": {**whole["normalisation"], "applied": "inside"},
        "outputs": outputs,
        "nms": {**spec_to_json(replace(spec, nms=nms.nms))["nms"], "score": nms.score, "applied": "inside"}
        if nms
        else {**whole["nms"], "applied": "not inside"},
        "score_function": f"{spec.score_function}, applied inside",
        "precision": precision,
        "provenance": dict(spec.provenance),
    }
    return {
        name: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()
    }


@contextmanager
def _replacing(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Names to write to, which become the files when all went well, and are gone otherwise.

    Of several, the first is what readers look for. It is away while the others are replaced: whatever happens, nobody
    finds a new one beside an old one.

    Raises:
        ExportError: the files cannot be written.
    """
    targets = [Path(os.path.realpath(file)) for file in files]
    name = f".ssdcam-{token_hex(8)}.part"
    parts = [target.with_name(name + target.suffix) for target in targets]
    kept = targets[0].with_name(f"{name}.old")
    try:
        try:
            for part, target in zip(parts, targets, strict=True):  # before the work, which takes a while
                if target.exists() and not target.is_file():
                    raise ExportError(f"{target}: cannot be written: is no file")
                part.touch()
            yield parts
            for part, target in zip(parts, targets, strict=True):
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                if target.exists():
                    part.chmod(target.stat().st_mode & 0o777)
            if len(targets) > 1 and targets[0].exists():
                targets[0].replace(kept)
            for part, target in reversed(list(zip(parts, targets, strict=True))):
                part.replace(target)
        except OSError as error:
            raise ExportError(f"{files[0]}: cannot be written: {error.strerror or error}") from error
    finally:
        if kept.exists() and not targets[0].exists() and parts[-1].exists():
            kept.replace(targets[0])  # nothing was replaced yet
        for leftover in (*parts, kept):
            leftover.unlink(missing_ok=True)
