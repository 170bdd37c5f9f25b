"""Photos for training: several data sets joined by label name, held in memory, in an order that a seed decides.

What the n-th photo of an epoch is and how it is augmented depends on the seed, the epoch and n alone, however many
workers prepare it and wherever a run was resumed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ssdcam.datasets.aliases import match_labels
from ssdcam.datasets.dataset import Dataset, Sample
from ssdcam.datasets.pictures import read_picture
from ssdcam.errors import SsdcamError, TrainingError
from ssdcam.training.augment import Augmentation, Example, Image, augment, mosaic
from ssdcam.training.loss import Targets

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


class Batch(NamedTuple):
    """Inputs of the network and what they show."""

    pixels: Tensor
    """uint8 ``(B, height, width, 3)``, BGR."""
    targets: Targets
    photos: list[str]
    """The files, for complaints; four of a mosaic."""


class Place(NamedTuple):
    """Which photo comes when."""

    epoch: int
    position: int
    photo: int


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
        photos: those that could be read.
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
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while done < len(photos) and left > 0:
                block = photos[done : done + 256]
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


class _Inputs(TorchDataset[Any]):
    """Inputs of the network by place, for torch's loader."""

    def __init__(self, store: PhotoStore, size: tuple[int, int], how: Augmentation, seed: int) -> None:
        self._store, self._size, self._how, self._seed = store, size, how, seed

    def __getitem__(self, place: Place) -> tuple[Example, NDArray[np.bool_], str]:
        rng = np.random.default_rng([self._seed, place.epoch, place.position])
        numbers = [place.photo]
        if rng.random() < self._how.mosaic:
            numbers += rng.integers(len(self._store), size=3).tolist()
            example = mosaic([self._store.example(n) for n in numbers], self._size, self._how, rng)
        else:
            example = augment(self._store.example(place.photo), self._size, self._how, rng)
        known = np.logical_and.reduce([self._store.photos[n].known for n in numbers])
        names = ", ".join(str(self._store.photos[n].sample.path) for n in numbers)
        return example.keep(known[example.class_ids]), known, names


def collate(inputs: Sequence[tuple[Example, NDArray[np.bool_], str]]) -> Batch:
    """Inputs of one size, with their known classes and names, to a batch; ground truths are padded to the most."""
    batch, most = len(inputs), max(len(example.boxes) for example, _, _ in inputs)
    height, width = inputs[0][0].image.shape[:2]
    boxes = np.zeros((batch, most, 4), np.float32)
    class_ids = np.zeros((batch, most), np.int64)
    present, ignored = np.zeros((batch, most), np.bool_), np.zeros((batch, most), np.bool_)
    for i, (example, _, _) in enumerate(inputs):
        count = len(example.boxes)
        boxes[i, :count] = example.boxes
        class_ids[i, :count] = example.class_ids
        thin = (example.boxes[:, 2:] - example.boxes[:, :2] < LEAST_SIDE).any(axis=1)
        present[i, :count], ignored[i, :count] = True, example.ignored | thin
    boxes /= np.array([width, height, width, height], np.float32)
    targets = (boxes, class_ids, present, ignored, np.stack([known for _, known, _ in inputs]))
    pixels = np.stack([example.image for example, _, _ in inputs])
    return Batch(torch.from_numpy(pixels), Targets(*map(torch.from_numpy, targets)), [n for _, _, n in inputs])


def steps_an_epoch(store: PhotoStore, order: Order) -> int:
    """Steps that every epoch has.

    Raises:
        TrainingError: there are no photos.
    """
    if not store.photos:
        raise TrainingError("there are no photos to train on")
    return -(-_length(repeats(store.photos, order.balance)) // order.batch)


def batches(
    store: PhotoStore,
    order: Order,
    size: tuple[int, int],
    how: Augmentation,
    *,
    first: int,
    last: int,
    share: tuple[int, int] = (0, 1),
    workers: int = 0,
    pinned: bool = False,
) -> Iterator[Batch]:
    """The batches of steps ``first`` to ``last`` (not included) of a run, counted from 0 over all epochs.

    Args:
        store: the photos.
        order: in what order they come.
        size: height and width of the network's input.
        how: augmentation.
        first: the first step.
        last: the step after the last.
        share: this process' number and how many there are; each takes an equal part of every batch.
        workers: processes that prepare batches ahead; 0 prepares them here, when they are asked for.
        pinned: put them where a CUDA device copies them from fastest.
    """
    plan = list(_plan(store, order, first, last, share))
    context = "fork" if workers and sys.platform == "linux" else None  # which shares the photos in memory
    loader: DataLoader[Any] = DataLoader(
        _Inputs(store, size, how, order.seed),
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # torch's own random numbers are not touched
    )
    return iter(loader)


def _plan(store: PhotoStore, order: Order, first: int, last: int, share: tuple[int, int]) -> Iterator[list[Place]]:
    times = repeats(store.photos, order.balance)
    steps = steps_an_epoch(store, order)
    rank, world = share
    part = order.batch // world
    for epoch in range(first // steps, -(-last // steps)):
        photos = epoch_order(times, order, epoch).tolist()
        for step in range(max(first - epoch * steps, 0), min(last - epoch * steps, steps)):
            start = step * order.batch + rank * part
            yield [Place(epoch, position, photos[position]) for position in range(start, start + part)]


def _start_worker(number: int) -> None:
    """A worker leaves cores to the others, and stopping to the process that it works for."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
