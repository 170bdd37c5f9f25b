"""From what a user calls a model to a checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from ssdcam.cache import is_offline
from ssdcam.checkpoints.caffemodel import read_caffemodel
from ssdcam.checkpoints.checkpoint import Checkpoint, is_ours, load_checkpoint
from ssdcam.checkpoints.families import convert_arrays, find_family
from ssdcam.checkpoints.families.family import BoxSizes
from ssdcam.checkpoints.labels import read_labels, without_background
from ssdcam.checkpoints.prototxt import Description, find_prototxt, read_prototxt
from ssdcam.checkpoints.published import PUBLISHED, Published
from ssdcam.checkpoints.state_files import is_npz, is_torchscript, read_npz, read_safetensors, read_torch
from ssdcam.checkpoints.tflite import FILE_IDENTIFIER, load_tflite
from ssdcam.errors import CheckpointError, WrongUsageError
from ssdcam.files import exists, is_folder
from ssdcam.notes import note

if TYPE_CHECKING:
    from ssdcam.checkpoints.download import Progress

# The embedded detectors, the default first; package data of ssdcam.weights.
EMBEDDED: tuple[str, ...] = ("voc", "coco")


def open_checkpoint(
    model: str | Path | None = None,
    labels: Path | None = None,
    *,
    family: str | None = None,
    boxes: BoxSizes | None = None,
    offline: bool = False,
) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        model: a file of any supported family; or the name of an embedded detector, or of a published one, which is
            downloaded when it is first used; or None for the default one.
        labels: a text file with a name a line, to use instead of the checkpoint's names; the background, which is no
            class, may stand first.
        family: whose checkpoint a file of another code base is; told by its keys if not given.
        boxes: ``voc`` or ``coco``, where such a file's keys do not tell which default boxes it has.
        offline: never touch the network; so it is, too, where the environment has SSDCAM_OFFLINE=1.

    Raises:
        WrongUsageError: there is no such model or family, the label file is for another number of classes, or
            ``family`` or ``boxes`` is given for a checkpoint of which is known what it is.
        CheckpointError: the file cannot be downloaded, read or understood.
    """
    if family is not None:
        find_family(family)
    checkpoint = _open(model, family, boxes, offline)
    if labels is None:
        return checkpoint
    known = len(checkpoint.spec.labels)
    names = without_background(read_labels(labels), known)
    if len(names) != known:
        raise WrongUsageError(f"{labels} names {len(names)} classes, but {model or EMBEDDED[0]} has {known}")
    return replace(checkpoint, spec=replace(checkpoint.spec, labels=names))


def fetch(model: str | Path | None, *, offline: bool = False, progress: Progress | None = None) -> Path | None:
    """Have a published checkpoint in the cache folder.

    Args:
        model: as :func:`open_checkpoint` takes it.
        offline: never touch the network.
        progress: is told how far a download is.

    Returns:
        The file; None if the model is no published one.

    Raises:
        CheckpointError: it is not there and cannot be downloaded.
    """
    published = None if model is None else _find_published(model)
    return None if published is None else obtain(published, offline=offline, progress=progress)


def obtain(published: Published, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """The file of a published checkpoint, which is downloaded if it is not there.

    Raises:
        CheckpointError: it is not there and cannot be downloaded.
    """
    path = published.path
    if _is_file(path):
        return path
    from ssdcam.checkpoints.download import by_hand, download

    if offline or is_offline():
        raise CheckpointError(f"{published.name} is not here, and ssdcam is offline: {by_hand(published.url, path)}")
    size = f" ({published.megabytes:g} MB)" if published.megabytes else ""
    note(f"downloading {published.name}{size} from {published.url} to {path}")

    # A hash says that it is the file that was published; where there is none, it is read before it is kept.
    def check(part: Path) -> None:
        if not published.sha256:
            _load(part, published.family, None)

    digest = download(published.url, path, sha256=published.sha256, check=check, progress=progress)
    if digest and not published.sha256:
        note(f"{published.name}: its publisher states no hash to check it by; the SHA-256 of what came is {digest}")
    return path


def embedded_file(name: str) -> AbstractContextManager[Path]:
    """The file of an embedded detector."""
    return resources.as_file(embedded_folder() / f"{name}.safetensors")


def embedded_folder() -> Traversable:
    """Where what is embedded lies; where Python runs in a clone, which hides what is installed, the clone's."""
    try:
        return resources.files("ssdcam.weights")
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "weights"


def _find_published(model: str | Path) -> Published | None:
    """An existing file wins over a name."""
    return None if _is_file(Path(model)) else PUBLISHED.get(str(model))


def _open(model: str | Path | None, family: str | None, boxes: BoxSizes | None, offline: bool) -> Checkpoint:
    if model is None or (str(model) in EMBEDDED and not _is_file(Path(model))):
        name = str(model or EMBEDDED[0])
        _refuse_choices(name, family, boxes)
        with embedded_file(name) as path:
            return load_checkpoint(path)
    if published := _find_published(model):
        _refuse_choices(model, family, boxes)
        return _with_origin(_load(obtain(published, offline=offline), published.family, None), published)
    path = Path(model)
    if not exists(path):
        raise WrongUsageError(no_such(str(model)))
    return _load(path, family, boxes)


def _is_file(path: Path) -> bool:
    """Whether something is there that is no folder, which many a data set has: ``voc``, ``coco``."""
    return exists(path) and not path.is_dir()


def _with_origin(checkpoint: Checkpoint, published: Published) -> Checkpoint:
    """What it was converted to later says where it came from."""
    provenance = {**checkpoint.spec.provenance, "url": published.url, "licence": published.facts.licence}
    return replace(checkpoint, spec=replace(checkpoint.spec, provenance=provenance))


def no_such(model: str) -> str:
    """The complaint about what is neither a file nor a name, with names that are like it."""
    if Path(model).suffix or Path(model).name != model:
        return f"{model}: no such checkpoint file"
    close = get_close_matches(model, [*EMBEDDED, *PUBLISHED], cutoff=0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return f"{model}: no such checkpoint file, nor a name that `ssdcam weights list` shows{hint}"


def _load(path: Path, family: str | None, boxes: BoxSizes | None) -> Checkpoint:
    """Tell the kind of file by its first bytes."""
    if is_folder(path):
        best = path / "best.safetensors"  # as ssdcam train calls it
        such = f", such as {best}" if exists(best) else ""
        raise CheckpointError(f"{path}: is a folder: name a checkpoint file in it{such}")
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
        if is_torchscript(path):
            raise _for_others(path)
        arrays = read_npz(path) if is_npz(path) else read_torch(path)
    elif head.startswith(b"\x80") and head[1] in range(2, 6):  # a pickle, as torch saved before it used zip
        arrays = read_torch(path)
    elif path.suffix == ".caffemodel":  # protobuf has no first bytes of its own
        return convert_arrays(read_caffemodel(path), path, family, boxes, None if boxes else _describe(path))
    elif path.suffix in (".onnx", ".xml"):
        raise _for_others(path)
    else:
        raise CheckpointError(
            f"{path}: is no checkpoint that ssdcam reads: "
            ".safetensors, PyTorch's .pth, Chainer's .npz, a .caffemodel, TensorFlow's .tflite"
        )
    return convert_arrays(arrays, path, family, boxes)


def _for_others(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: is for other programs, if ssdcam export wrote it; -m takes what it was made of")


def _describe(path: Path) -> Description | None:
    """What a ``.prototxt`` beside a ``.caffemodel`` says of it."""
    beside = find_prototxt(path)
    description = read_prototxt(beside) if beside else None
    if description:
        note(f"{path}: default boxes and NMS figures are those of {beside}")
    return description


def _refuse_choices(model: str | Path, family: str | None, boxes: BoxSizes | None) -> None:
    if family or boxes:
        raise WrongUsageError(f"what {model} is, is known: --family and --boxes are for other checkpoints")
