from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import ssdcam
from ssdcam.checkpoints.checkpoint import (
    METADATA_KEY,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    spec_from_json,
    spec_to_json,
)
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.errors import CheckpointError
from ssdcam.ssd.spec import ModelSpec

from .. import pictures
from .specs import specs

Json = dict[str, Any]


@given(specs())
def test_a_spec_comes_back_as_it_was(spec: ModelSpec) -> None:
    text = json.dumps(spec_to_json(spec), allow_nan=False)
    assert spec_from_json(text) == spec


@given(spec=specs())
@settings(max_examples=20)
def test_a_checkpoint_comes_back_as_it_was(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> None:
    weights = {
        "single": np.float32([[1.5, -0.0], [np.inf, 1e-45]]),
        "half": np.float16([1, 2, 65504]),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32([7]).reshape(()),
    }
    path = tmp_path_factory.mktemp("spec") / "a.safetensors"
    save_checkpoint(Checkpoint(spec, weights), path)
    loaded = load_checkpoint(path)
    assert loaded.spec == spec
    assert loaded.weights.keys() == weights.keys()
    for name, array in weights.items():
        assert loaded.weights[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.weights[name], array)


def test_the_name_it_was_converted_from_may_be_no_utf8(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    spec = replace(tiny_checkpoint.spec, provenance={"source": "converted from bad\udcff.tflite"})
    save_checkpoint(Checkpoint(spec, tiny_checkpoint.weights), tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors").spec == spec


def test_a_checkpoint_can_be_written_over_itself(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(tiny_checkpoint, path)
    before = path.read_bytes()
    save_checkpoint(load_checkpoint(path), path)
    assert path.read_bytes() == before


def test_no_place_to_write(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone/a\.safetensors: cannot be written: No such file or directory"):
        save_checkpoint(tiny_checkpoint, tmp_path / "gone" / "a.safetensors")


@pytest.fixture(scope="module")
def sound(tiny_checkpoint: Checkpoint) -> Json:
    """A spec in JSON to take apart."""
    return spec_to_json(tiny_checkpoint.spec)


GONE = object()


def changed(sound: Json, place: str, value: object) -> str:
    """The JSON text of a spec with another value at ``a.b.0.c``."""
    spec: Any = copy.deepcopy(sound)
    *outer, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    part = spec
    for key in outer:
        part = part[key]
    if value is GONE:
        del part[last]
    else:
        part[last] = value
    return json.dumps(spec)


NUMBERS = ["1", None, True, [1], {"a": 1}, float("nan"), float("inf"), 10**400]
WHOLE = [*NUMBERS, 1.5, 0, -1]
TEXTS = [1, None, True, ["a"], {}]
FLAGS = [0, 1, "true", None, []]
LISTS = ["abc", None, 1, {}, True]
OBJECTS = ["abc", None, 1, [], True]

# What stands where, what cannot stand there, and what the complaint speaks of.
FIELDS: list[tuple[str, list[Any], str]] = [
    ("format", [GONE, *WHOLE], "format"),
    ("architecture", [GONE, *TEXTS], "architecture"),
    ("options", [GONE, *OBJECTS], "options"),
    ("options.width", NUMBERS, "options: width"),
    ("labels", [GONE, *LISTS, []], "labels"),
    ("labels.1", TEXTS, "labels"),
    ("input_size", [GONE, *LISTS], "input_size"),
    ("input_size.0", [*WHOLE, 10**9], "input.size"),
    ("normalisation", [GONE, *OBJECTS], "normalisation"),
    ("normalisation.colour", [GONE, *TEXTS, "gbr", ""], "normalisation: colour"),
    ("normalisation.mean", [GONE, *LISTS, [1, 2], [1] * 4], "normalisation: mean"),
    ("normalisation.mean.2", NUMBERS, "normalisation: mean"),
    ("normalisation.std", [GONE, *LISTS, [1, 2], [1] * 4], "normalisation: std"),
    ("normalisation.std.2", [*NUMBERS, 0, -1], "normalisation: .*std"),
    ("boxes", [GONE, *OBJECTS], "boxes"),
    ("boxes.clip", [GONE, *TEXTS, "some"], "boxes: clip"),
    ("boxes.maps", [GONE, *LISTS], "boxes: maps"),
    ("boxes.maps", [[]], "boxes: .*feature map"),
    ("boxes.maps.3", ["abc", None, 1, []], "boxes"),
    ("boxes.maps.3.rows", [GONE, *WHOLE], "boxes: rows"),
    ("boxes.maps.3.columns", [GONE, *WHOLE], "boxes: columns"),
    ("boxes.maps.3.columns", [2**40], "boxes: .*default boxes"),
    ("boxes.maps.3.step", [GONE, *LISTS, [1], [1] * 3], "boxes: step"),
    ("boxes.maps.3.step.0", NUMBERS, "boxes: step"),
    ("boxes.maps.3.step.0", [0, -1], "boxes: .*steps"),
    ("boxes.maps.3.shapes", [GONE, *LISTS], "boxes: shapes"),
    ("boxes.maps.3.shapes", [[]], "boxes: .*shapes"),
    ("boxes.maps.3.shapes.0", [*LISTS, [1], [1] * 3], "boxes: a shape"),
    ("boxes.maps.3.shapes.0.1", NUMBERS, "boxes: a shape"),
    ("boxes.maps.3.shapes.0.1", [0, -1], "boxes: shapes"),
    ("coding", [GONE, *OBJECTS], "coding"),
    ("coding.variances", [GONE, *LISTS, [1] * 3, [1] * 5], "coding: variances"),
    ("coding.variances.3", [*NUMBERS, 0, -1], "coding: variances"),
    ("coding.max_log_size", ["1", True, [1], {}, float("nan")], "coding: max_log_size"),
    ("score_function", [GONE, *TEXTS, "relu"], "score.function"),
    ("background", [GONE, *FLAGS], "background"),
    ("nms", [GONE, *OBJECTS], "nms"),
    ("nms.iou", [GONE, *NUMBERS], "nms: iou"),
    ("nms.iou", [-0.1, 1.1], "nms: .*IoU"),
    ("nms.before", [GONE, *WHOLE], "nms: before"),
    ("nms.after", [GONE, *WHOLE], "nms: after"),
    ("nms.class_agnostic", [GONE, *FLAGS], "nms: class_agnostic"),
    ("input_size", [[300], [300] * 3, []], "input_size"),
    ("provenance", [GONE, *OBJECTS], "provenance"),
]


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [(place, value, words) for place, values, words in FIELDS for value in values],
)
def test_what_is_missing_or_wrong_is_named(place: str, value: object, complaint: str, sound: Json) -> None:
    with pytest.raises(ValueError, match=complaint):
        spec_from_json(changed(sound, place, value))


def test_softmax_needs_a_background(sound: Json) -> None:
    with pytest.raises(ValueError, match="background"):
        spec_from_json(json.dumps({**sound, "score_function": "softmax", "background": False}))


def test_the_format_of_a_later_ssdcam_says_so(sound: Json) -> None:
    with pytest.raises(ValueError, match=r"format 2 is newer than this ssdcam.*upgrade"):
        spec_from_json(json.dumps({**sound, "format": 2, "labels": "in another way"}))


def test_what_a_later_ssdcam_adds_is_passed_over(sound: Json, tiny_checkpoint: Checkpoint) -> None:
    assert spec_from_json(json.dumps({**sound, "more": [1]})) == tiny_checkpoint.spec


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"a"', "[" * 100_000, '{"format":' + "1" * 5000 + "}"])
def test_what_is_no_json_object(text: str, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_with(tiny_checkpoint, path, text)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: its metadata is wrong"):
        load_checkpoint(path)


def save_with(checkpoint: Checkpoint, path: Path, text: str, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint as any program might, with any text in the place of the spec."""
    tensors = {name: torch.tensor(array).to(dtype) for name, array in checkpoint.weights.items()}
    save_file(tensors, path, {METADATA_KEY: text})


def use(path: Path, score: float = 0.1) -> ssdcam.Detections:
    """Load a file and look at a picture with it."""
    return ssdcam.load(path, score=score, device="cpu").detect(pictures.noise(80, 60, 0))


@pytest.mark.parametrize(
    ("dtype", "usable"),
    [
        (torch.float32, True),
        (torch.float16, True),
        (torch.float64, True),
        (torch.float8_e4m3fn, False),  # numpy has no such numbers
    ],
    ids=str,
)
def test_kinds_of_numbers(
    dtype: torch.dtype, usable: bool, sound: Json, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_with(tiny_checkpoint, path, json.dumps(sound), dtype)
    if usable:
        assert len(use(path)) > 0
    else:
        with pytest.raises(CheckpointError, match="cannot be read"):
            use(path)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        # Nonsense that only shows when the network is built or run.
        ("architecture", "ssd9000", "architecture 'ssd9000' is none of ssd300-vgg16, "),
        ("options.depth", 3, "the architecture has no option"),
        ("options.width", 0.2, "do not fit"),
        ("options.width", 1e30, "cannot be built"),
        ("options.width", -1, "cannot be built"),
        ("labels", ["one too few", "label"], "do not fit"),
        ("background", False, "do not fit"),
        ("input_size", [200, 300], "lays out 1917 default boxes, but its network predicts"),
        ("input_size", [1, 1], "lays out 1917 default boxes, but its network predicts"),
        ("boxes.maps.0.rows", 18, "lays out 1860 default boxes, but its network predicts 1917"),
        ("boxes.maps.5", GONE, "6 feature maps"),
        ("boxes.maps.0.shapes.0", GONE, "do not fit"),
    ],
)
def test_a_spec_that_is_not_of_its_weights(
    place: str, value: object, complaint: str, sound: Json, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_with(tiny_checkpoint, path, changed(sound, place, value))
    with pytest.raises(CheckpointError, match=complaint):
        use(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value: float, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = {**tiny_checkpoint.weights, "loc.0.bias": np.full_like(tiny_checkpoint.weights["loc.0.bias"], value)}
    save_checkpoint(Checkpoint(tiny_checkpoint.spec, weights), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="infinite or no numbers"):
        use(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["backbone.Conv2d_0.weight", "conf.5.bias"])
def test_a_layer_is_missing(name: str, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = {key: array for key, array in tiny_checkpoint.weights.items() if key != name}
    save_checkpoint(Checkpoint(tiny_checkpoint.spec, weights), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=f"do not fit it: .*{name}"):
        use(tmp_path / "a.safetensors")


@pytest.fixture(scope="module")
def data(tiny_model: Path) -> bytes:
    """A sound file to damage."""
    return tiny_model.read_bytes()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to put what is left of it."""
    return tmp_path_factory.mktemp("damage") / "damaged.safetensors"


def works_or_is_told_of(path: Path, damaged: bytes) -> None:
    """Raises anything but a CheckpointError that names the file or says what is wrong with the checkpoint."""
    path.write_bytes(damaged)
    try:
        found = use(path, score=0.95)
    except CheckpointError as error:
        said = str(error)
        assert path.name in said or "checkpoint" in said  # most files are refused, a few work
    else:
        assert np.isfinite(found.boxes).all()


def places(size: int, header: int) -> st.SearchStrategy[int]:
    """Bytes of a file; every other one in its header, where each of them means something."""
    return st.integers(0, size - 1) | st.integers(0, header)


@given(choose=st.data())
@settings(max_examples=50)
def test_a_flipped_bit(choose: st.DataObject, data: bytes, victim: Path) -> None:
    header = 8 + struct.unpack("<Q", data[:8])[0]
    damaged = bytearray(data)
    damaged[choose.draw(places(len(data), header))] ^= 1 << choose.draw(st.integers(0, 7))
    works_or_is_told_of(victim, bytes(damaged))


@given(choose=st.data())
@settings(max_examples=50)
def test_bytes_of_another_value(choose: st.DataObject, data: bytes, victim: Path) -> None:
    header = 8 + struct.unpack("<Q", data[:8])[0]
    damaged = bytearray(data)
    for place, value in choose.draw(st.dictionaries(places(len(data), header), st.integers(0, 255))).items():
        damaged[place] = value
    works_or_is_told_of(victim, bytes(damaged))


@given(length=st.integers(0, 306_000) | st.integers(0, 20) | st.integers(10_000, 12_000))
@example(length=0)
@settings(max_examples=100)
def test_a_file_cut_short_is_never_used(length: int, data: bytes, victim: Path) -> None:
    assert length < len(data)
    victim.write_bytes(data[:length])
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: "):
        open_checkpoint(victim)


def test_bytes_after_the_end(data: bytes, victim: Path) -> None:
    victim.write_bytes(data + b"more")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: cannot be read"):
        open_checkpoint(victim)


def test_a_header_that_claims_to_be_endless(data: bytes, victim: Path) -> None:
    victim.write_bytes(struct.pack("<Q", 2**63) + data[8:])
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: cannot be read"):
        open_checkpoint(victim)


def test_a_safetensors_file_of_someone_else(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="metadata does not say what network it is"):
        load_checkpoint(tmp_path / "other.safetensors")


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch", "named safetensors"])
def test_a_pickle_is_never_opened(kind: str, tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "model.pth"
    if kind in ("torch", "old torch"):
        torch.save(Trap(sprung), path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path = path.with_suffix(".safetensors") if kind == "named safetensors" else path
        path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError, match=r"holds Python objects that could run code|is damaged, or no file of Py"):
        open_checkpoint(path)
    assert not sprung.exists()
    # The trap is one.
    if "torch" not in kind:
        pickle.loads(path.read_bytes())
        assert sprung.exists()
