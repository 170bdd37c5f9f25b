"""ssdcam's own checkpoint: a safetensors file whose metadata is a spec, so that the file is enough to run.

The metadata's key ``ssdcam`` holds the spec as JSON; everything else in the file is weights under the network's names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssdcam import json_fields as fields
from ssdcam.errors import CheckpointError
from ssdcam.files import write_whole, writing
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes
from ssdcam.ssd.spec import BoxCoding, ModelSpec, NmsFigures, Normalisation

METADATA_KEY = "ssdcam"
FORMAT_VERSION = 1

_LONGEST_REASON = 300  # characters; safetensors quotes what it does not understand


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A spec and the weights of its network, float16 or float32 arrays by the network's parameter names."""

    spec: ModelSpec
    weights: Mapping[str, NDArray[Any]]


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all: a reader sees the file that was there before, or the new one.

    Raises:
        CheckpointError: it cannot be written.
    """
    weights = {name: np.ascontiguousarray(array) for name, array in checkpoint.weights.items()}
    data = save(weights, {METADATA_KEY: json.dumps(spec_to_json(checkpoint.spec))})
    with writing(path, CheckpointError):
        write_whole(path, data)


def is_ours(path: Path) -> bool:
    """Whether a safetensors file says what network it is.

    Raises:
        CheckpointError: the file cannot be read, or is no safetensors file.
    """
    with _opened(path) as file:
        return METADATA_KEY in (file.metadata() or {})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file cannot be read, is no safetensors file, or says too little or nonsense.
    """
    try:
        with _opened(path) as file:
            metadata = file.metadata() or {}
            if METADATA_KEY not in metadata:
                raise CheckpointError(
                    f"{path}: is a safetensors file, but its metadata does not say what network it is"
                )
            spec = spec_from_json(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is wrong: {error}") from error
    return Checkpoint(spec, read_arrays(path))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a safetensors file, by name.

    Raises:
        CheckpointError: the file cannot be read, is no safetensors file, or holds numbers that NumPy lacks.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, UnicodeError, TypeError, AttributeError) as error:
        # The last two are safetensors' own about kinds of numbers that numpy lacks.
        raise CheckpointError(f"{path}: cannot be read: {str(error)[:_LONGEST_REASON]}") from error


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """A spec as JSON's own types."""
    return {
        "format": FORMAT_VERSION,
        "architecture": spec.architecture,
        "options": dict(spec.options),
        "labels": list(spec.labels),
        "input_size": list(spec.input_size),
        "normalisation": {
            "colour": spec.normalisation.colour,
            "mean": list(spec.normalisation.mean),
            "std": list(spec.normalisation.std),
        },
        "boxes": {
            "clip": spec.boxes.clip,
            "maps": [
                {"rows": m.rows, "columns": m.columns, "step": list(m.step), "shapes": [list(s) for s in m.shapes]}
                for m in spec.boxes.maps
            ],
        },
        "coding": {
            "variances": list(spec.coding.variances),
            "max_log_size": None if spec.coding.max_log_size == inf else spec.coding.max_log_size,
        },
        "score_function": spec.score_function,
        "background": spec.background,
        "nms": {
            "iou": spec.nms.iou,
            "before": spec.nms.before,
            "after": spec.nms.after,
            "class_agnostic": spec.nms.class_agnostic,
        },
        "provenance": dict(spec.provenance),
    }


def spec_from_json(text: str) -> ModelSpec:
    """The inverse of :func:`spec_to_json`, from text.

    Raises:
        ValueError: the text is no JSON, or something in it is missing, of the wrong kind or out of range.
    """
    whole = fields.mapping(json.loads(text))
    version = fields.whole(whole, "format", 1)
    if version != FORMAT_VERSION:
        raise ValueError(f"format {version} is newer than this ssdcam, which reads {FORMAT_VERSION}: upgrade ssdcam")
    with _within("normalisation"):
        part = fields.mapping(whole.get("normalisation"))
        normalisation = Normalisation(
            fields.text(part, "colour"),  # type: ignore[arg-type]  # the class checks its literals
            fields.numbers(part, "mean", 3),
            fields.numbers(part, "std", 3),
        )
    with _within("boxes"):
        part = fields.mapping(whole.get("boxes"))
        maps = tuple(_map_from_json(m) for m in fields.items(part, "maps"))
        boxes = BoxLayout(maps, fields.text(part, "clip"))  # type: ignore[arg-type]  # the class checks it
    with _within("coding"):
        part = fields.mapping(whole.get("coding"))
        limit = inf if part.get("max_log_size") is None else fields.number(part, "max_log_size")
        coding = BoxCoding(fields.numbers(part, "variances", 4), limit)
    with _within("nms"):
        part = fields.mapping(whole.get("nms"))
        nms = NmsFigures(
            iou=fields.number(part, "iou"),
            before=fields.whole(part, "before", 1),
            after=fields.whole(part, "after", 1),
            class_agnostic=fields.flag(part, "class_agnostic"),
        )
    with _within("options"):
        part = fields.mapping(whole.get("options"))
        options = {key: fields.number(part, key) for key in part}
    with _within("provenance"):
        provenance = {key: str(value) for key, value in fields.mapping(whole.get("provenance")).items()}
    labels = fields.items(whole, "labels")
    if not all(isinstance(label, str) for label in labels):
        raise ValueError("labels must be texts")
    height, width = fields.numbers(whole, "input_size", 2)
    if not (height.is_integer() and width.is_integer()):
        raise ValueError("input_size must be whole numbers")
    return ModelSpec(
        architecture=fields.text(whole, "architecture"),
        options=options,
        labels=tuple(labels),
        input_size=(int(height), int(width)),
        normalisation=normalisation,
        boxes=boxes,
        coding=coding,
        score_function=fields.text(whole, "score_function"),  # type: ignore[arg-type]  # likewise
        background=fields.flag(whole, "background"),
        nms=nms,
        provenance=provenance,
    )


def _map_from_json(values: object) -> FeatureMapBoxes:
    part = fields.mapping(values)
    return FeatureMapBoxes(
        rows=fields.whole(part, "rows", 1),
        columns=fields.whole(part, "columns", 1),
        shapes=tuple(fields.numbers({"a shape": s}, "a shape", 2) for s in fields.items(part, "shapes")),
        step=fields.numbers(part, "step", 2),
    )


@contextmanager
def _within(key: str) -> Iterator[None]:
    """Complaints from inside name the object that they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
