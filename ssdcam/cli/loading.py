"""What the options about models and data describe, opened: detectors, checkpoints, networks, parts of data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdcam.cli import console, progress
from ssdcam.errors import WrongUsageError

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.datasets import Dataset
    from ssdcam.detection.detector import Detector
    from ssdcam.detections import Image
    from ssdcam.ssd.spec import ModelSpec


def class_names(classes: str) -> list[str]:
    """The names that ``--classes`` gives.

    Raises:
        WrongUsageError: there is none.
    """
    found = [name.strip() for name in classes.split(",") if name.strip()]
    if not found:
        raise WrongUsageError("--classes names no class")
    return found


def load_detector(
    *,
    model: str | None,
    device: str,
    engine: Any,
    precision: Any,
    calibrate: Path | None,
    score: float,
    iou: float | None,
    max_det: int | None,
    classes: str | None,
    labels: Path | None,
    family: str | None,
    boxes: Any,
    threads: int | None,
    offline: bool,
) -> Detector:
    """The detector that the detection options describe."""
    from ssdcam.detection.detector import load

    wanted = None if classes is None else class_names(classes)
    fetch(model, family, boxes, offline)
    return load(
        model,
        score=score,
        iou=iou,
        max_det=max_det,
        classes=wanted,
        labels=labels,
        family=family,
        boxes=boxes,
        device=device,
        engine=engine,
        precision=precision,
        calibrate=None if calibrate is None else calibration_pictures(calibrate),
        threads=threads,
        offline=offline,
    )


def fetch(model: str | Path | None, family: str | None, boxes: str | None, offline: bool) -> None:
    """Download what ``-m`` names, if need be, with a bar where someone sees it.

    With ``--family`` or ``--boxes`` it is no published one, or wrong usage: that is told when it is opened.
    """
    from ssdcam.checkpoints import resolve

    if model is not None and not (family or boxes):
        with progress.download() as show:
            resolve.fetch(model, offline=offline, progress=show)


def open_checkpoint(
    model: str | Path | None, labels: Path | None = None, *, family: str | None, boxes: Any, offline: bool
) -> Checkpoint:
    """The checkpoint that ``-m`` and the options about it describe, downloaded if need be."""
    from ssdcam.checkpoints import resolve

    fetch(model, family, boxes, offline)
    return resolve.open_checkpoint(model, labels, family=family, boxes=boxes, offline=offline)


def calibration_pictures(folder: Path) -> Iterator[Image]:
    """Pictures of a folder to calibrate on, spread over it; those that cannot be read are named and left out.

    Of a folder that has none itself, those of its folders are taken: a data set can be named as it is.
    """
    from ssdcam.detection.detector import CALIBRATION_PICTURES
    from ssdcam.errors import ImageError
    from ssdcam.media.images import SUFFIXES, Picture, find_pictures, read_image

    found = list(find_pictures([str(folder)]))
    if not any(isinstance(each, Picture) for each in found):
        below = find_pictures([str(Path(escape(str(folder))) / "**")])
        found = [e for e in below if isinstance(e, Picture) and e.path.suffix.lower() in SUFFIXES] or found
    taken = found[:: -(-len(found) // CALIBRATION_PICTURES) or 1]
    with progress.counted(taken, "calibrating") as pictures:
        for picture in pictures:
            try:
                if isinstance(picture, ImageError):
                    raise picture
                yield read_image(picture.path)
            except ImageError as error:
                console.log.warning("%s", error)


def open_part(path: Path, split: str) -> Dataset:
    """A part of a data set; of one that is not divided, all of it."""
    from ssdcam.datasets import dataset_splits, open_dataset

    return open_dataset(path, split if dataset_splits(path) else None)


def network(
    labels: tuple[str, ...],
    model: str | None,
    arch: str | None,
    arch_options: Sequence[str],
    side: int | None,
    *,
    family: str | None = None,
    offline: bool = False,
) -> tuple[ModelSpec, Checkpoint | None]:
    """The network that ``-m`` or ``--arch``, and the options about them, describe, for some labels.

    Returns:
        Its spec, and the checkpoint that it is of; None of an architecture alone.
    """
    from ssdcam.ssd.architectures import architecture, map_sizes, new_spec
    from ssdcam.training.transfer import retarget

    size = (side, side) if side else None
    if model is None and arch is not None:
        if family:
            raise WrongUsageError("--family is for a checkpoint: give -m as well")
        try:
            return new_spec(arch, labels, input_size=size, options=_arch_options(arch_options)), None
        except ValueError as error:
            raise WrongUsageError(str(error)) from error
    checkpoint = open_checkpoint(model, family=family, boxes=None, offline=offline)
    spec = retarget(checkpoint.spec, labels)
    if arch not in (None, spec.architecture):
        raise WrongUsageError(f"{model} is {spec.architecture}: give either -m or --arch")
    if arch_options:
        raise WrongUsageError("--arch-option is for --arch: a checkpoint has its own")
    if size and size != spec.input_size:
        try:
            boxes = architecture(spec.architecture).boxes(size, map_sizes(spec.architecture, size, spec.options))
        except ValueError as error:
            raise WrongUsageError(str(error)) from error
        spec = replace(spec, input_size=size, boxes=boxes)
    return spec, checkpoint


def _arch_options(texts: Sequence[str]) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in (text.split("=", 1) for text in texts)}
    except ValueError as error:
        raise WrongUsageError("--arch-option takes a name and a number, such as width=0.5") from error
