"""Batches for training: photos augmented, joined to inputs of the network, and prepared ahead by workers.

What the n-th photo of an epoch is and how it is augmented depends on the seed, the epoch and n alone, however many
workers prepare it and wherever a run was resumed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ssdcam.errors import SsdcamError, TrainingError, first_line
from ssdcam.training.augment import Augmentation, Example, augment, mosaic
from ssdcam.training.data import LEAST_SIDE, Order, PhotoStore, epoch_order, repeats, steps_an_epoch
from ssdcam.training.loss import Targets

_TRIES = 10  # photos in a row that cannot be read until a run gives up
_LOCK_S = 5.0  # seconds to wait for a lock that others hold for microseconds
_END_S = 5.0  # seconds to wait for the end of a worker whose connection has ended


class Batch(NamedTuple):
    """Inputs of the network and what they show."""

    pixels: Tensor
    """uint8 ``(B, height, width, 3)``, BGR."""
    targets: Targets
    photos: list[str]
    """The files, for complaints; four of a mosaic."""
    problems: list[str]
    """What could not be read, a line each; another photo stands in for it."""


class Place(NamedTuple):
    """Which photo comes when."""

    epoch: int
    position: int
    photo: int


class Input(NamedTuple):
    """One input of the network."""

    example: Example
    known: NDArray[np.bool_]
    """bool ``(C,)``: the classes that are labelled in all of its photos."""
    photos: str
    """The files."""
    problems: list[str]
    """As in :class:`Batch`."""


class _Inputs(TorchDataset[Any]):
    """Inputs of the network by place, for torch's loader.

    An error is handed on, not raised: a worker's would reach the user with the worker's traceback in its text.
    """

    def __init__(self, store: PhotoStore, size: tuple[int, int], how: Augmentation, seed: int) -> None:
        self._store, self._size, self._how, self._seed = store, size, how, seed

    def __getitem__(self, place: Place) -> Input | TrainingError:
        try:
            return self._input(place)
        except TrainingError as error:
            return error

    def _input(self, place: Place) -> Input:
        rng = np.random.default_rng([self._seed, place.epoch, place.position])
        numbers = [place.photo]
        problems: list[str] = []
        if rng.random() < self._how.mosaic:
            numbers += rng.integers(len(self._store), size=3).tolist()
            read = [self._read(n, place, problems) for n in numbers]
            example = mosaic([example for _, example in read], self._size, self._how, rng)
        else:
            read = [self._read(place.photo, place, problems)]
            example = augment(read[0][1], self._size, self._how, rng)
        photos = [self._store.photos[n] for n, _ in read]
        known = np.logical_and.reduce([photo.known for photo in photos])
        names = ", ".join(str(photo.sample.path) for photo in photos)
        return Input(example.keep(known[example.class_ids]), known, names, problems)

    def _read(self, number: int, place: Place, problems: list[str]) -> tuple[int, Example]:
        """A photo, or another where it cannot be read; chance of its own, so that all else stays as it would be."""
        others = np.random.default_rng([self._seed, place.epoch, place.position, number])
        for _ in range(_TRIES):
            try:
                return number, self._store.example(number)
            except SsdcamError as error:
                problems.append(str(error))
                number = int(others.integers(len(self._store)))
        raise TrainingError(f"{_TRIES} photos in a row cannot be read: {problems[-1]}")


def collate(inputs: Sequence[Input | TrainingError]) -> Batch | TrainingError:
    """Inputs of one size to a batch, ground truths padded to the most; or the error that is among them."""
    given = [one for one in inputs if isinstance(one, Input)]
    for one in inputs:
        if isinstance(one, TrainingError):
            return one
    batch, most = len(given), max(len(one.example.boxes) for one in given)
    height, width = given[0].example.image.shape[:2]
    boxes = np.zeros((batch, most, 4), np.float32)
    class_ids = np.zeros((batch, most), np.int64)
    present, ignored = np.zeros((batch, most), np.bool_), np.zeros((batch, most), np.bool_)
    for i, (example, *_) in enumerate(given):
        count = len(example.boxes)
        boxes[i, :count] = example.boxes
        class_ids[i, :count] = example.class_ids
        thin = (example.boxes[:, 2:] - example.boxes[:, :2] < LEAST_SIDE).any(axis=1)
        present[i, :count], ignored[i, :count] = True, example.ignored | thin
    boxes /= np.array([width, height, width, height], np.float32)
    targets = (boxes, class_ids, present, ignored, np.stack([one.known for one in given]))
    pixels = torch.from_numpy(np.stack([one.example.image for one in given]))
    problems = [problem for one in given for problem in one.problems]
    return Batch(pixels, Targets(*map(torch.from_numpy, targets)), [one.photos for one in given], problems)


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

    Raises:
        TrainingError: no photo can be read any more, or a worker was ended from outside.
    """
    context = "fork" if workers and sys.platform == "linux" else None  # which shares the photos in memory
    loader: DataLoader[Any] = DataLoader(
        _Inputs(store, size, how, order.seed),
        batch_sampler=_plan(store, order, first, last, share),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # torch's own random numbers are not touched
    )
    prepared: Any = iter(loader)
    if workers:
        with suppress(AttributeError):  # it is torch's own, and another torch may have none
            prepared._workers_done_event = _DoneEvent(prepared._workers_done_event)
    while True:
        try:
            batch = next(prepared, None)
        except (RuntimeError, EOFError, OSError) as error:
            # Torch's, of a worker that is gone; Python's own, of one that goes while a batch is fetched from it.
            if not workers:
                raise
            if isinstance(error, EOFError | ConnectionError | FileNotFoundError):
                reason = "a worker process was ended"
                # Torch tells of it, too, when the system has: here nobody minds, later it would be taken for a bug.
                with suppress(RuntimeError, AttributeError):
                    wait([worker.sentinel for worker in prepared._workers], _END_S)
            else:
                reason = getattr(error, "strerror", None) or first_line(error)
            raise TrainingError(f"{reason}; is memory short? pass fewer --workers") from error
        if batch is None:
            return
        if isinstance(batch, TrainingError):
            raise batch
        yield batch


class _DoneEvent:
    """What tells workers that they are no longer wanted, for the process that has them, which alone says so.

    Looking at it and setting it take a lock that workers take, too, now and then. One that is killed in that moment
    keeps it, and torch would wait for ever.
    """

    def __init__(self, event: Event) -> None:
        self._event = event
        self._done = False

    def is_set(self) -> bool:
        return self._done

    def set(self) -> None:
        self._done = True
        lock: Any = self._event._cond  # type: ignore[attr-defined]  # Python's types leave out what is private
        if lock.acquire(timeout=_LOCK_S):
            lock.release()
            self._event.set()  # else torch ends its workers when they do not end by themselves


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
    if hasattr(signal, "SIGHUP"):  # a terminal that is closed sends it to workers, too
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
