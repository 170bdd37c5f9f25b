"""ssdcam's own checkpoint: a safetensors file whose metadata is a spec, so that the file is enough to run.

The metadata's key ``ssdcam`` holds the spec as JSON; everything else in the file is weights under the network's names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssdcam.errors import CheckpointError
from ssdcam.files import write_whole
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes
from ssdcam.ssd.spec import BoxCoding, ModelSpec, NmsFigures, Normalisation

METADATA_KEY = "ssdcam"
FORMAT_VERSION = 1


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
    data = save(weights, {METADATA_KEY: json.dumps(spec_to_json(checkpoint.spec), ensure_ascii=False)})
    try:
        write_whole(path, data)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file cannot be read, is no safetensors file, or says too little or nonsense.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if METADATA_KEY not in metadata:
                raise CheckpointError(
                    f"{path}: is a safetensors file, but its metadata does not say what network it is"
                )
            spec = spec_from_json(metadata[METADATA_KEY])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata is wrong: {error}") from error
    return Checkpoint(spec, weights)


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
    whole = _Fields(json.loads(text), "")
    version = whole.integer("format")
    if version != FORMAT_VERSION:
        raise ValueError(f"format {version} is newer than this ssdcam, which reads {FORMAT_VERSION}: upgrade ssdcam")
    normalisation, boxes, coding, nms = (whole.part(key) for key in ("normalisation", "boxes", "coding", "nms"))
    max_log_size = coding.values.get("max_log_size")
    mean, std = normalisation.numbers("mean", 3), normalisation.numbers("std", 3)
    height, width = whole.numbers("input_size", 2)
    variances = coding.numbers("variances", 4)
    return ModelSpec(
        architecture=whole.text("architecture"),
        options=whole.part("options").every_number(),
        labels=tuple(whole.texts("labels")),
        input_size=(int(height), int(width)),
        normalisation=Normalisation(
            normalisation.text("colour"),  # type: ignore[arg-type]  # checked by the class, like the other literals
            (mean[0], mean[1], mean[2]),
            (std[0], std[1], std[2]),
        ),
        boxes=BoxLayout(
            tuple(_map_from_json(m) for m in boxes.parts("maps")),
            boxes.text("clip"),  # type: ignore[arg-type]
        ),
        coding=BoxCoding(
            (variances[0], variances[1], variances[2], variances[3]),
            inf if max_log_size is None else coding.number("max_log_size"),
        ),
        score_function=whole.text("score_function"),  # type: ignore[arg-type]
        background=whole.flag("background"),
        nms=NmsFigures(nms.number("iou"), nms.integer("before"), nms.integer("after"), nms.flag("class_agnostic")),
        provenance={key: str(value) for key, value in whole.part("provenance").values.items()},
    )


def _map_from_json(fields: _Fields) -> FeatureMapBoxes:
    step_x, step_y = fields.numbers("step", 2)
    shapes = fields.list("shapes")
    if not all(isinstance(s, list) and len(s) == 2 and all(_is_number(v) for v in s) for s in shapes):
        raise ValueError(f"{fields.where}shapes must be pairs of numbers")
    return FeatureMapBoxes(
        fields.integer("rows"), fields.integer("columns"), tuple((w, h) for w, h in shapes), (step_x, step_y)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Fields:
    """A JSON object whose values are asked for by key and kind; every complaint names its place."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise ValueError(f"{where.rstrip('.') or 'it'} is not a JSON object")
        self.values: dict[str, Any] = values
        self.where = where

    def _get(self, key: str, kind: str, fits: bool | None = None) -> Any:
        if key not in self.values:
            raise ValueError(f"{self.where}{key} is missing")
        if fits is False:
            raise ValueError(f"{self.where}{key} is {self.values[key]!r}, not {kind}")
        return self.values[key]

    def text(self, key: str) -> str:
        return str(self._get(key, "a text", isinstance(self.values.get(key), str)))

    def number(self, key: str) -> float:
        return float(self._get(key, "a number", _is_number(self.values.get(key))))

    def integer(self, key: str) -> int:
        value = self.values.get(key)
        return int(self._get(key, "a whole number", _is_number(value) and value == int(value)))

    def flag(self, key: str) -> bool:
        return bool(self._get(key, "true or false", isinstance(self.values.get(key), bool)))

    def list(self, key: str) -> list[Any]:
        return list(self._get(key, "a list", isinstance(self.values.get(key), list)))

    def texts(self, key: str) -> list[str]:
        items = self.list(key)
        if not all(isinstance(item, str) for item in items):
            raise ValueError(f"{self.where}{key} must hold texts only")
        return items

    def numbers(self, key: str, count: int) -> list[float]:
        items = self.list(key)
        if len(items) != count or not all(_is_number(item) for item in items):
            raise ValueError(f"{self.where}{key} must hold {count} numbers")
        return items

    def part(self, key: str) -> _Fields:
        return _Fields(self._get(key, "an object"), f"{self.where}{key}.")

    def parts(self, key: str) -> list[_Fields]:
        return [_Fields(item, f"{self.where}{key}[{i}].") for i, item in enumerate(self.list(key))]

    def every_number(self) -> dict[str, float]:
        return {key: self.number(key) for key in self.values}
