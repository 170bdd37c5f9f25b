"""Photos for training: several data sets joined by label name, held in memory, in an order that a seed decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ssdcam.cpu import usable_threads
from ssdcam.datasets.aliases import match_labels
from ssdcam.datasets.dataset import Dataset, Sample
from ssdcam.datasets.pictures import read_picture
from ssdcam.detections import Image
from ssdcam.errors import SsdcamError, TrainingError
from ssdcam.training.augment import Example

_BLOCK = 32  # photos read at once before a run: some may be of a hundred megabytes

LEAST_SIDE = 1.0
"""Pixels of the network's input; a thinner object cannot be seen there and is neither object nor background."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo to learn from.

    Attributes:
        sample: the photo and its boxes.
        class_ids: int64 ``(N,)`` into the labels that are learnt, of the objects that ``wanted`` leaves.
        wanted: bool ``(N,)``, which of the sample's objects are of a class that is learnt.
        known: bool ``(C,)``, the learnt classes that the photo's data set labels.
    """

    sample: Sample
    class_ids: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Order:
    """In what order photos come.

    Attributes:
        seed: what chance comes from.
        batch: photos a step, of all processes together.
        balance: classes in a smaller share of the photos than this are shown more often; 0 shows all photos alike.
    """

    seed: int
    batch: int
    balance: float = 0.0


def join(datasets: Sequence[Dataset], labels: Sequence[str]) -> list[Photo]:
    """The photos of several data sets, labels met by name or alias.

    Objects of classes that are not learnt are left out. A class that a data set does not label is unknown in its
    photos: it may be in them, and is not taken for background.
    """
    photos = []
    for dataset in datasets:
        ids = np.array([-1 if i is None else i for i in match_labels(dataset.labels, labels)], np.int64)
        known = np.zeros(len(labels), np.bool_)
        known[ids[ids >= 0]] = True
        for sample in dataset.samples:
            class_ids = ids[sample.class_ids]
            wanted = class_ids >= 0
            photos.append(Photo(sample, class_ids[wanted], wanted, known))
    return photos


def join_labels(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """All classes of several data sets in the order they come in; an alias is not a further class."""
    labels: list[str] = []
    for dataset in datasets:
        found = match_labels(dataset.labels, labels)
        labels += [name for name, i in zip(dataset.labels, found, strict=True) if i is None]
    return tuple(labels)


def repeats(photos: Sequence[Photo], balance: float) -> NDArray[np.float64]:
    """How often each photo is shown an epoch (repeat factor sampling; Gupta et al., arXiv 1908.03195).

    A class in a share f of the photos whose data set labels it asks for ``max(1, sqrt(balance / f))``; a photo gives
    its rarest class what it asks for.
    """
    if not photos:
        return np.zeros(0)
    count = len(photos[0].known)
    shown = np.array([np.bincount(p.class_ids, minlength=count) > 0 for p in photos])
    shares = shown.sum(axis=0) / np.maximum(np.sum([p.known for p in photos], axis=0), 1)
    asked = np.sqrt(balance / np.maximum(shares, 1e-12)).clip(min=1)
    return np.asarray((shown * asked).max(axis=1).clip(min=1), np.float64)


def epoch_order(times: NDArray[np.float64], order: Order, epoch: int) -> NDArray[np.int64]:
    """The photos of an epoch, filled up with its first ones to whole batches.

    A photo that is due r times comes the whole part of r, and once more by chance; every epoch is of the same length.
    """
    rng = np.random.default_rng([order.seed, epoch])
    count = _length(times)
    # Even steps of at most 1 through the photos laid end to end, each as long as its due.
    ends = np.cumsum(times)
    at = (np.arange(count) + rng.random()) * (ends[-1] / count)
    photos = rng.permutation(np.searchsorted(ends, at, side="right").clip(max=len(times) - 1))
    return np.resize(photos, -(-count // order.batch) * order.batch).astype(np.int64)


def _length(times: NDArray[np.float64]) -> int:
    return ceil(float(times.sum()) - 1e-6)


class PhotoStore:
    """Photos by number: those that fit in memory are held there, the others are read each time.

    Args:
        photos: what to learn from.
        budget: bytes to hold.
        progress: told how many photos were looked at so far.

    Attributes:
        photos: those that could be read, or were not looked at.
        problems: a line for each that could not.
        held: how many are in memory.
    """

    def __init__(
        self, photos: Sequence[Photo], budget: int = 0, progress: Callable[[int], None] = lambda count: None
    ) -> None:
        self._images: list[Image | None] = []
        self.photos: list[Photo] = []
        self.problems: list[str] = []
        left, done = budget, 0
        with ThreadPoolExecutor(usable_threads()) as pool:
            while done < len(photos) and left > 0:
                block = photos[done : done + _BLOCK]
                for photo, image in zip(block, pool.map(_try_reading, block), strict=True):
                    if isinstance(image, SsdcamError):
                        self.problems.append(str(image))
                        continue
                    left -= image.nbytes
                    self.photos.append(photo)
                    self._images.append(image if left >= 0 else None)
                done += len(block)
                progress(done)
        self.photos += photos[done:]
        self._images += [None] * (len(photos) - done)
        self.held = sum(image is not None for image in self._images)

    def __len__(self) -> int:
        return len(self.photos)

    def digest(self) -> str:
        """Tells these photos, their objects and their order from others, wherever they lie."""
        digest = hashlib.sha256()
        for photo in self.photos:
            digest.update(photo.sample.id.encode("utf-8", "surrogateescape"))
            for part in (photo.sample.boxes, photo.sample.difficult, photo.wanted, photo.class_ids, photo.known):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def example(self, number: int) -> Example:
        """A photo and its objects in its own pixels.

        Raises:
            SsdcamError: it cannot be read.
        """
        photo, image = self.photos[number], self._images[number]
        sample = photo.sample
        if image is None:
            image = read_picture(sample)
        return Example(image, sample.boxes[photo.wanted], photo.class_ids, sample.difficult[photo.wanted])


def _try_reading(photo: Photo) -> Image | SsdcamError:
    try:
        return read_picture(photo.sample)
    except SsdcamError as error:
        return error


def steps_an_epoch(store: PhotoStore, order: Order) -> int:
    """Steps that every epoch has.

    Raises:
        TrainingError: there are no photos.
    """
    if not store.photos:
        raise TrainingError("there are no photos to train on")
    return -(-_length(repeats(store.photos, order.balance)) // order.batch)
