"""What a run leaves on the disk, so that whatever ends it can go on from there."""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.errors import TrainingError, first_line
from ssdcam.files import write_whole, writing
from ssdcam.memory import ran_out

STATE, PREVIOUS = "resume.pt", "resume.previous.pt"
DAMAGED = "resume.damaged.pt"
LOG = "log.csv"

_log = logging.getLogger("ssdcam")


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save a run's state; the one before is kept.

    Raises:
        TrainingError: it cannot be written. What was saved before is still there.
    """
    memory = io.BytesIO()
    torch.save(state, memory)
    path = folder / STATE
    with writing(path, TrainingError):
        if path.exists():
            path.replace(folder / PREVIOUS)  # killed here, the run goes on from the one before
        write_whole(path, memory.getbuffer())


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest state that can be read; None if there never was one.

    One that cannot be read is put aside if the one before can, which the next to be saved would replace by it.

    Raises:
        TrainingError: there are states, and none can be read.
    """
    trouble = None
    for path in (folder / STATE, folder / PREVIOUS):
        try:
            _check_whole(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # whatever torch meets in a damaged file
            if ran_out(error):  # which says nothing of the file
                raise
            reason = first_line(error)[:200]
        else:
            if isinstance(state, dict):
                if trouble:
                    _put_aside(folder, trouble)
                return state
            reason = "it holds no state of a run"
        trouble = TrainingError(f"{path}: cannot be read: {reason}")
    if trouble:
        raise trouble
    return None


def _put_aside(folder: Path, trouble: TrainingError) -> None:
    with writing(folder / STATE, TrainingError), suppress(FileNotFoundError):  # another process of the run was first
        (folder / STATE).replace(folder / DAMAGED)
    _log.warning("%s; the run goes on from the state before, and that file is now %s", trouble, DAMAGED)


def _check_whole(path: Path) -> None:
    """What torch does not look at: the checksums in its files."""
    with ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise BadZipFile(f"{damaged} in it is damaged")


def save_weights(path: Path, checkpoint: Checkpoint, *, half: bool) -> None:
    """Save a checkpoint, its weights in float16 if asked; an array that float16 cannot hold stays in float32."""
    weights = {name: _rounded(np.asarray(array, np.float32), half) for name, array in checkpoint.weights.items()}
    save_checkpoint(Checkpoint(checkpoint.spec, weights), path)


def _rounded(array: NDArray[np.float32], half: bool) -> NDArray[Any]:
    holds = half and np.abs(array).max(initial=0) <= np.finfo(np.float16).max
    return array.astype(np.float16) if holds else array
