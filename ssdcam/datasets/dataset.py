"""What a data set is: photos and their ground truth, whatever layout they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdcam.errors import SsdcamError


class DatasetError(SsdcamError):
    """A data set that cannot be found, read or understood."""


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


def dataset_splits(path: Path) -> tuple[str, ...]:
    """The names of a data set's parts; none if it is not divided.

    Raises:
        DatasetError: there is no data set.
    """
    raise NotImplementedError


def open_dataset(
    path: Path, split: str | None = None, *, labels: Sequence[str] | None = None, pictures: bool = True
) -> Dataset:
    """Read a data set's ground truth; the layout is told by looking.

    Args:
        path: a VOC folder (``ImageSets/Main``), a COCO json or the folder around it, a YOLO folder or its yaml.
        split: which part, such as ``train`` or ``val``; None is everything.
        labels: count classes by these names and leave out what is none of them; None is the data set's own.
        pictures: whether a photo whose picture is missing is a problem and skipped.

    Raises:
        DatasetError: there is no data set, no such split, or nothing of it can be read.
    """
    raise NotImplementedError
