"""From what a user calls a model to a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from ssdcam.checkpoints.caffemodel import read_caffemodel
from ssdcam.checkpoints.checkpoint import Checkpoint, is_ours, load_checkpoint
from ssdcam.checkpoints.families import convert_arrays, find_family
from ssdcam.checkpoints.families.family import BoxSizes
from ssdcam.checkpoints.labels import read_labels
from ssdcam.checkpoints.prototxt import Description, find_prototxt, read_prototxt
from ssdcam.checkpoints.state_files import is_npz, read_npz, read_safetensors, read_torch
from ssdcam.checkpoints.tflite import FILE_IDENTIFIER, load_tflite
from ssdcam.errors import CheckpointError, WrongUsageError
from ssdcam.files import exists
from ssdcam.notes import note

# The embedded detectors, the default first; package data of ssdcam.weights.
EMBEDDED: tuple[str, ...] = ("voc",)


def open_checkpoint(
    model: str | Path | None = None,
    labels: Path | None = None,
    *,
    family: str | None = None,
    boxes: BoxSizes | None = None,
) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        model: a file of any supported family, the name of an embedded detector, or None for the default one.
        labels: a text file with a name a line, to use instead of the checkpoint's names.
        family: whose checkpoint a file of another code base is; told by its keys if not given.
        boxes: ``voc`` or ``coco``, where such a file's keys do not tell which default boxes it has.

    Raises:
        WrongUsageError: there is no such model or family, the label file is for another number of classes, or
            ``family`` or ``boxes`` is given for a checkpoint that says itself what it is.
        CheckpointError: the file cannot be read or understood.
    """
    if family is not None:
        find_family(family)
    checkpoint = _open(model, family, boxes)
    if labels is None:
        return checkpoint
    names = read_labels(labels)
    if len(names) != len(checkpoint.spec.labels):
        raise WrongUsageError(f"{labels} names {len(names)} classes, but {model} has {len(checkpoint.spec.labels)}")
    return replace(checkpoint, spec=replace(checkpoint.spec, labels=names))


def _open(model: str | Path | None, family: str | None, boxes: BoxSizes | None) -> Checkpoint:
    if model is None:
        model = EMBEDDED[0]
    if str(model) in EMBEDDED:
        _refuse_choices(model, family, boxes)
        with resources.as_file(resources.files("ssdcam.weights") / f"{model}.safetensors") as path:
            return load_checkpoint(path)
    path = Path(model)
    if not exists(path):
        raise WrongUsageError(f"{model}: no such checkpoint file")
    return _load(path, family, boxes)


def _load(path: Path, family: str | None, boxes: BoxSizes | None) -> Checkpoint:
    """Tell the kind of file by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path}: is empty")
    if head[4:8] == FILE_IDENTIFIER:
        _refuse_choices(path, family, boxes)
        return load_tflite(path)
    if head[8:9] == b"{":  # safetensors: the length of a JSON header, then the header
        if is_ours(path):
            _refuse_choices(path, family, boxes)
            return load_checkpoint(path)
        arrays = read_safetensors(path)
    elif head.startswith(b"PK\x03\x04"):
        arrays = read_npz(path) if is_npz(path) else read_torch(path)
    elif head.startswith(b"\x80") and head[1] in range(2, 6):  # a pickle, as torch saved before it used zip
        arrays = read_torch(path)
    elif path.suffix == ".caffemodel":  # protobuf has no first bytes of its own
        return convert_arrays(read_caffemodel(path), path, family, boxes, None if boxes else _describe(path))
    else:
        raise CheckpointError(
            f"{path}: is no checkpoint that ssdcam reads: "
            ".safetensors, PyTorch's .pth, Chainer's .npz, a .caffemodel, TensorFlow's .tflite"
        )
    return convert_arrays(arrays, path, family, boxes)


def _describe(path: Path) -> Description | None:
    """What a ``.prototxt`` beside a ``.caffemodel`` says of it."""
    beside = find_prototxt(path)
    description = read_prototxt(beside) if beside else None
    if description:
        note(f"{path}: default boxes and NMS figures are those of {beside}")
    return description


def _refuse_choices(model: str | Path, family: str | None, boxes: BoxSizes | None) -> None:
    if family or boxes:
        raise WrongUsageError(f"{model} says itself what it is: --family and --boxes are for others' checkpoints")
