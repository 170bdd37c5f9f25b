"""Networks made ready for an engine: made once, and kept in the cache folder under a digest of all they depend on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Generic, TypeVar

import numpy as np

from ssdcam.cache import cache_folder
from ssdcam.checkpoints.checkpoint import Checkpoint, spec_to_json
from ssdcam.errors import CheckpointError
from ssdcam.files import is_file
from ssdcam.notes import note

Made = TypeVar("Made")
Ready = TypeVar("Ready")

# Seconds after which a part that nobody finished is a killed process'. Writing takes a moment; a lock would not do, as
# engines open their files themselves, and not every file system has locks.
_LEFT_BEHIND = 24 * 3600

_OF_THE_NETWORK = ("architecture", "options", "input_size", "normalisation")


@dataclass(frozen=True)
class Form(Generic[Made, Ready]):
    """How an engine's networks are kept.

    Attributes:
        engine: its name, which the folder in the cache has, too.
        suffixes: of the files that :attr:`write` makes; the last one is looked for, and comes into place last.
        write: from memory to the file of the last suffix, and others beside it.
        open: what the engine runs, from that file or from memory; raises whatever it likes for a damaged file.
    """

    engine: str
    suffixes: tuple[str, ...]
    write: Callable[[Made, Path], None]
    open: Callable[[Made | Path], Ready]

    @property
    def folder(self) -> Path:
        """Where they are; it may not exist yet."""
        return cache_folder() / self.engine


def digest(checkpoint: Checkpoint, *facts: Any) -> str:
    """32 hexadecimal digits for a network with its normalisation and weights, and further facts that JSON can hold.

    Other names for the classes, or other NMS figures, make no other network.
    """
    spec = {name: value for name, value in spec_to_json(checkpoint.spec).items() if name in _OF_THE_NETWORK}
    outputs = [checkpoint.spec.boxes.boxes_per_cell, checkpoint.spec.num_columns]
    made = hashlib.sha256(json.dumps([facts, spec, outputs], sort_keys=True).encode())
    for name, array in sorted(checkpoint.weights.items()):
        made.update(f"{name} {array.dtype} {array.shape}".encode())
        made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()[:32]


def find(form: Form[Made, Ready], name: str) -> Ready | None:
    """What is kept under a name; None if it is not there or damaged."""
    path = form.folder / f"{name}{form.suffixes[-1]}"
    if is_file(path):
        with suppress(Exception):  # every engine has errors of its own for a damaged file
            return form.open(path)
    return None


def prepared(form: Form[Made, Ready], name: str, make: Callable[[], Made], how: str = "") -> Ready:
    """What is kept under a name; where there is nothing, it is made, which is said in a line, and kept.

    Args:
        form: how the engine keeps networks.
        name: what it is kept under.
        make: makes it.
        how: words for that line.
    """
    found = find(form, name)
    if found is not None:
        return found
    tell_preparing(form, how)
    made = make()
    try:
        _keep(form, name, made)
    except (OSError, RuntimeError) as error:  # a folder that is not ours, or a full disk: it works without
        tell_not_kept(form, error)
    # As it will be opened from now on: what an engine makes of it may be kept beside the file.
    opened = find(form, name)
    return form.open(made) if opened is None else opened


def tell_preparing(form: Form[Any, Any], how: str = "") -> None:
    """Say that the first start takes longer."""
    note(f"{form.engine}: preparing this network{how}, to be kept in {form.folder}: it starts faster from then on")


def tell_not_kept(form: Form[Any, Any], error: Exception) -> None:
    """Say that so will the next one, and why."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).strip() or type(error).__name__
    last = reason.splitlines()[-1]  # OpenVINO begins with where in its source it was
    note(f"{form.engine}: it cannot be kept in {form.folder} ({last}), and will be prepared again the next time")


def _keep(form: Form[Made, Ready], name: str, made: Made) -> None:
    form.folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(form)
    part = form.folder / f"{name}.{token_hex(4)}{form.suffixes[-1]}"
    try:
        form.write(made, part)
        for suffix in form.suffixes:
            part.with_suffix(suffix).replace(form.folder / f"{name}{suffix}")
    finally:
        for suffix in form.suffixes:
            part.with_suffix(suffix).unlink(missing_ok=True)


def _remove_leftovers(form: Form[Made, Ready]) -> None:
    """Remove what killed processes were writing; the parts of those that write now are younger."""
    parts = [".ssdcam-*.part", *(f"*.{'[0-9a-f]' * 8}{suffix}" for suffix in form.suffixes)]
    for part in (path for pattern in parts for path in form.folder.glob(pattern)):
        with suppress(OSError):  # another process was faster, or it is not ours
            if time.time() - part.stat().st_mtime > _LEFT_BEHIND:
                part.unlink()


def check_boxes(default_boxes: int, predicted: int) -> None:
    """That a network predicts as many boxes as its checkpoint lays out.

    Raises:
        CheckpointError: it does not.
    """
    if predicted != default_boxes:
        raise CheckpointError(
            f"the checkpoint is wrong: it lays out {default_boxes} default boxes, but its network predicts {predicted}"
        )
