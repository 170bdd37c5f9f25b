"""What a data set is: photos and their ground truth, whatever layout they were read from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdcam.datasets import coco, voc, yolo
from ssdcam.datasets.aliases import match_labels
from ssdcam.datasets.layout import Layout, RawPart, RawPhoto, Troubles
from ssdcam.datasets.pictures import picture_size
from ssdcam.errors import DatasetError, ImageError
from ssdcam.files import exists, is_file


@dataclass(frozen=True, eq=False)
class Sample:
    """One photo and its ground truth.

    Attributes:
        path: the picture's file; :func:`ssdcam.datasets.read_picture` reads it the way the boxes mean it.
        width: of the picture in pixels; None if nobody says and the picture was not looked at.
        height: likewise.
        boxes: float32 ``(N, 4)``, ``x1, y1, x2, y2`` in pixels, edges counted from 0, inside the picture.
        class_ids: int64 ``(N,)`` into the data set's labels.
        difficult: bool ``(N,)``, difficult (VOC) or a crowd (COCO): found or not, it counts neither way.
        id: what the data set itself calls the photo ("000007", "139", "train/a"), as text.
        areas: float64 ``(N,)``, the objects' areas in pixels where the data set states them (COCO: of the outlines,
            by which it tells small from large); None where it does not.
        as_shown: whether the boxes lie on the picture as a viewer shows it, turned by its EXIF orientation.
    """

    path: Path
    width: int | None
    height: int | None
    boxes: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    id: str
    areas: NDArray[np.float64] | None = None
    as_shown: bool = False


@dataclass(frozen=True, eq=False)
class Dataset:
    """Photos with their ground truth.

    Attributes:
        labels: names of the classes, by class id.
        samples: the photos, those without objects too.
        problems: a line each, naming the file and what of it was skipped.
        skipped: how many photos the data set names that are not among the samples.
    """

    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    skipped: int = 0


_FINDERS = {
    voc.LOOKED_FOR: voc.find_voc,
    coco.LOOKED_FOR: coco.find_coco,
    yolo.LOOKED_FOR: yolo.find_yolo,
    voc.LOOKED_FOR_BESIDE: voc.find_voc_beside,
    yolo.LOOKED_FOR_BESIDE: yolo.find_yolo_beside,
}

# Names of the same part, as data sets have them.
_SPLIT_NAMES = {
    "val": ("val", "valid", "validation", "val2017", "val2014"),
    "train": ("train", "train2017", "train2014"),
}


def dataset_splits(path: Path) -> tuple[str, ...]:
    """The names of a data set's parts; none if it is not divided.

    Raises:
        DatasetError: there is no data set.
    """
    return tuple(_find(path).splits)


def open_dataset(
    path: Path, split: str | None = None, *, labels: Sequence[str] | None = None, pictures: bool = True
) -> Dataset:
    """Read a data set's ground truth; the layout is told by looking.

    Boxes that end before they start, lie wholly outside or hold NaN are problems and left out; others are clipped.

    Args:
        path: a VOC folder (``ImageSets/Main``, or pictures with an XML file beside each), a COCO json or the folder
            around it, a YOLO folder or its yaml.
        split: which part, such as ``train`` or ``val``; None is everything. A COCO json is a part itself.
        labels: count classes by these names, aliases included, and leave out what is none of them; None is the data
            set's own.
        pictures: whether a photo whose picture is missing is a problem and left out. What is in the pictures is
            looked at by :func:`ssdcam.datasets.check_images`.

    Raises:
        DatasetError: there is no data set, no such split, or nothing of it can be read.
    """
    layout = _find(path)
    troubles = Troubles([])
    part = _reader(path, layout, split)(troubles)
    names = part.labels if labels is None else tuple(labels)
    class_ids = dict(zip(part.labels, match_labels(part.labels, names), strict=True))
    foreign: dict[str, list[str]] = {}
    samples = []
    seen: set[tuple[str, Path]] = set()
    for photo in part.photos:
        if (photo.id, photo.path) in seen:
            troubles.add(f"{photo.path}: is named more than once, and counted once")
            continue
        seen.add((photo.id, photo.path))
        if pictures and not is_file(photo.path):
            troubles.add(f"{photo.path}: no such picture", photos=1)
            continue
        try:
            samples.append(_sample(photo, class_ids, pictures, foreign, troubles))
        except ImageError as error:
            troubles.add(str(error), photos=1)
    for label, places in foreign.items():
        troubles.add(f"{places[0]}: {label!r} is none of the labels: left out, {len(places)} in all")
    if not samples:
        reason = f": {troubles.lines[0]}" if troubles.lines else ""
        raise DatasetError(f"{path}: holds no photo that can be used{reason}")
    return Dataset(names, tuple(samples), tuple(troubles.lines), troubles.skipped)


def coco_file(path: Path, split: str | None) -> Path | None:
    """The file with a part's ground truths, if the data set is in COCO's layout and that is one file."""
    if _find(path).kind != "COCO":
        return None
    if file := coco.lone_file(path):
        return file
    files = coco.part_files(path)
    name = _spelled(split, files) if split else next(iter(files), None)
    return files[name] if name and (split or len(files) == 1) else None


def _spelled(split: str, names: Collection[str]) -> str | None:
    """What a part is called here; CVAT begins its names with a capital."""
    wanted = _SPLIT_NAMES.get(split, (split,))
    exact = (name for name in wanted if name in names)
    return next(exact, next((name for name in names if name.lower() in wanted), None))


def _find(path: Path) -> Layout:
    if not exists(path):
        raise DatasetError(f"{path}: no such file or folder")
    for find in _FINDERS.values():
        if layout := find(path):
            return layout
    raise DatasetError(f"{path}: is no data set: looked for {'; '.join(_FINDERS)}")


def _reader(path: Path, layout: Layout, split: str | None) -> Callable[[Troubles], RawPart]:
    if split is None or path.suffix.lower() == ".json":
        return layout.read_all
    if name := _spelled(split, layout.splits):
        return layout.splits[name]
    parts = f"its parts are {', '.join(layout.splits)}" if layout.splits else "it is not divided"
    raise DatasetError(f"{path}: this {layout.kind} data set has no part {split!r}; {parts}")


def _sample(
    photo: RawPhoto,
    class_ids: Mapping[str, int | None],
    pictures: bool,
    foreign: dict[str, list[str]],
    troubles: Troubles,
) -> Sample:
    width, height = photo.width, photo.height
    if pictures and (width is None or height is None):
        width, height = picture_size(photo.path, as_shown=photo.as_shown)
    known = []
    for one in photo.objects:
        if class_ids[one.label] is None:
            foreign.setdefault(one.label, []).append(one.place)
        else:
            known.append(one)
    stated = np.array([one.box for one in known], np.float64).reshape(-1, 4)
    boxes = stated.clip(0, [width or np.inf, height or np.inf] * 2).astype(np.float32)
    good = np.isfinite(stated).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    for i in np.flatnonzero(~good):
        troubles.add(f"{known[i].place}: {_complaint(stated[i], width, height)}")
    kept = [known[i] for i in np.flatnonzero(good)]
    areas = np.array([one.area for one in kept], np.float64) if all(one.area is not None for one in kept) else None
    return Sample(
        path=photo.path,
        width=width,
        height=height,
        boxes=boxes[good],
        class_ids=np.array([class_ids[one.label] for one in kept], np.int64),
        difficult=np.array([one.difficult for one in kept], np.bool_),
        id=photo.id,
        areas=areas,
        as_shown=photo.as_shown,
    )


def _complaint(box: NDArray[np.float64], width: int | None, height: int | None) -> str:
    shown = ", ".join(f"{side:g}" for side in box.tolist())
    if not np.isfinite(box).all():
        return f"the box ({shown}) is no box"
    if (box[:2] >= box[2:]).any():
        return f"the box ({shown}) has no area"
    return f"the box ({shown}) lies outside the picture of {width or '?'}x{height or '?'}"
