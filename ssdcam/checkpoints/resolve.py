"""From what a user calls a model to a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from ssdcam.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ssdcam.checkpoints.labels import read_labels
from ssdcam.checkpoints.tflite import FILE_IDENTIFIER, load_tflite
from ssdcam.errors import CheckpointError, WrongUsageError
from ssdcam.files import exists

# The embedded detectors, the default first; package data of ssdcam.weights.
EMBEDDED: tuple[str, ...] = ()


def open_checkpoint(model: str | Path | None = None, labels: Path | None = None) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        model: a file of any supported family, the name of an embedded detector, or None for the default one.
        labels: a text file with a name a line, to use instead of the checkpoint's names.

    Raises:
        WrongUsageError: there is no such model, or the label file is for another number of classes.
        CheckpointError: the file cannot be read or understood.
    """
    checkpoint = _open(model)
    if labels is None:
        return checkpoint
    names = read_labels(labels)
    if len(names) != len(checkpoint.spec.labels):
        raise WrongUsageError(f"{labels} names {len(names)} classes, but {model} has {len(checkpoint.spec.labels)}")
    return replace(checkpoint, spec=replace(checkpoint.spec, labels=names))


def _open(model: str | Path | None) -> Checkpoint:
    if model is None:
        if not EMBEDDED:
            raise WrongUsageError("no detector is embedded in this version yet: pass one with -m FILE")
        model = EMBEDDED[0]
    if str(model) in EMBEDDED:
        with resources.as_file(resources.files("ssdcam.weights") / f"{model}.safetensors") as path:
            return load_checkpoint(path)
    path = Path(model)
    if not exists(path):
        raise WrongUsageError(f"{model}: no such checkpoint file")
    return _load(path)


def _load(path: Path) -> Checkpoint:
    """Tell the family by the file's first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path}: is empty")
    if head[4:8] == FILE_IDENTIFIER:
        return load_tflite(path)
    if head[8:9] == b"{":  # safetensors: the length of a JSON header, then the header
        return load_checkpoint(path)
    raise CheckpointError(f"{path}: is no checkpoint that ssdcam reads: its own .safetensors, TensorFlow's .tflite")
