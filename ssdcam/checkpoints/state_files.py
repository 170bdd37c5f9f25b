"""Files of plain arrays: PyTorch's state dicts, foreign safetensors, NumPy archives. Nothing in them is executed."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import read_arrays
from ssdcam.errors import CheckpointError

Arrays = dict[str, NDArray[Any]]

# Under which training programs store the weights among other things, the better ones first.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema_state_dict", "ema")
# What wrapping a network in another module puts before every name.
_PREFIXES = re.compile(r"((module|_orig_mod|model|net|ssd)\.)+")
# What an average of weights (torch.optim.swa_utils.AveragedModel) keeps beside them.
_BOOKKEEPING = frozenset(("n_averaged",))

# How PyTorch's careful reader says that a file names a function or class to be called.
_NAMES_CODE = re.compile(r"GLOBAL|unrecognized function|Unsupported class")

_LOADING = Lock()  # what PyTorch's careful reader lets through is the process', not the thread's

# Weights hardly shrink in an archive; what grows more than this was made to fill memory.
_MOST_GROWTH = 20


class _Options:
    """Stands in for an ``argparse.Namespace``, as training scripts save theirs, and keeps nothing of it."""

    def __setstate__(self, state: object) -> None:
        """Pass over the options: as attributes of a real one, they could replace its methods."""


def read_torch(path: Path) -> Arrays:
    """The arrays of a file that ``torch.save`` wrote: a state dict, on its own or among a training's state.

    Raises:
        CheckpointError: the file is damaged, holds more than tensors and plain values, or holds no state dict.
    """
    import torch  # seconds to import, and needed for this kind of file only

    zipped = zipfile.is_zipfile(path)
    if zipped:
        _refuse_bombs(path, growth=1)
    try:
        options = torch.serialization.safe_globals([(_Options, "argparse.Namespace")])
        with _LOADING, options, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storage classes that old files name
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except UnpicklingError as error:
        if _NAMES_CODE.search(str(error)):
            raise CheckpointError(
                f"{path}: holds Python objects that could run code when loaded, so it is not: save the state_dict alone"
            ) from error
        raise CheckpointError(f"{path}: is damaged, or no file of PyTorch") from error
    except Exception as error:  # a damaged file can make the reader raise anything
        raise CheckpointError(f"{path}: is damaged, or no file of PyTorch that holds weights alone") from error
    tensors = {name: value for name, value in _state_dict(content).items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no state_dict")
    most = 2 * path.stat().st_size
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > most:
        raise CheckpointError(f"{path}: claims more weights than the file has room for")
    try:
        return _unprefixed(
            {
                name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
                for name, tensor in tensors.items()
            }
        )
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: has weights that are no plain arrays: {error}") from error


def read_safetensors(path: Path) -> Arrays:
    """The arrays of a safetensors file that somebody else wrote.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return _unprefixed(read_arrays(path))


def read_npz(path: Path) -> Arrays:
    """The arrays of a NumPy archive, as Chainer writes it; names become PyTorch's.

    Raises:
        CheckpointError: the file is damaged, or holds more than arrays of numbers.
    """
    _refuse_bombs(path, growth=_MOST_GROWTH)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {_from_chainer(name): file[name] for name in file.files}
    except Exception as error:  # zip, zlib and NumPy each have their own about damage
        raise CheckpointError(f"{path}: is damaged, or holds more than arrays of numbers") from error


def _from_chainer(name: str) -> str:
    """Chainer's ``multibox/loc/0/W`` as PyTorch would call it."""
    layer, _, kind = name.replace("/", ".").rpartition(".")
    return f"{layer}.{ {'W': 'weight', 'b': 'bias', 'scale': 'weight'}.get(kind, kind) }"


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds NumPy's arrays."""
    return any(name.endswith(".npy") for name in _names(path))


def is_torchscript(path: Path) -> bool:
    """Whether a zip archive is a program of PyTorch's: its constants lie apart from its weights."""
    return any(name.endswith("/constants.pkl") for name in _names(path))


def _names(path: Path) -> list[str]:
    """What a zip archive's table of contents names; nothing if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _refuse_bombs(path: Path, growth: int) -> None:
    """Look at an archive's table of contents before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: is damaged: its table of contents cannot be read") from error
    if unpacked > growth * path.stat().st_size:
        raise CheckpointError(f"{path}: would grow to {unpacked:,} bytes when unpacked, so it is not")


def _state_dict(content: object) -> Mapping[str, object]:
    """What holds the weights, however deep in a training's state."""
    for _ in range(len(_WRAPPERS)):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {name: value for name, value in content.items() if isinstance(name, str)}
        content = inner
    return {}


def _unprefixed(arrays: Arrays) -> Arrays:
    arrays = {name: array for name, array in arrays.items() if name not in _BOOKKEEPING}
    matches = {match[0] if (match := _PREFIXES.match(name)) else "" for name in arrays}
    prefix = matches.pop() if len(matches) == 1 else ""
    return {name.removeprefix(prefix): array for name, array in arrays.items()}
