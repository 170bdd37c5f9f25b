import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ssdcam.errors import TrainingError
from ssdcam.training import batches as batches_module
from ssdcam.training.augment import NOTHING, Augmentation
from ssdcam.training.batches import batches
from ssdcam.training.data import Order, steps_an_epoch

from ..waiting import GUARD
from .scenes import draw, store

SIZE = (48, 64)


def take(photos, order, how=NOTHING, **options):
    last = 2 * steps_an_epoch(photos, order)
    return list(batches(photos, order, SIZE, how, **{"first": 0, "last": last, **options}))


def assert_equal(one, two):
    assert one.photos == two.photos
    torch.testing.assert_close(one.pixels, two.pixels, rtol=0, atol=0)
    for a, b in zip(one.targets, two.targets, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_same_batches_whoever_prepares_them_and_wherever_they_begin(tmp_path):
    photos = store(draw(tmp_path, 10))
    order = Order(seed=1, batch=4)
    how = Augmentation(mosaic=0.3)
    whole = take(photos, order, how)
    assert len(whole) == 6
    for again in (take(photos, order, how, workers=2), take(store(draw(tmp_path, 10), budget=0), order, how)):
        for one, two in zip(whole, again, strict=True):
            assert_equal(one, two)
    for one, two in zip(whole[4:], take(photos, order, how, first=4), strict=True):
        assert_equal(one, two)
    # The shares of two processes are the whole.
    halves = [take(photos, order, how, share=(rank, 2)) for rank in (0, 1)]
    for one, first, second in zip(whole, *halves, strict=True):
        torch.testing.assert_close(torch.cat([first.pixels, second.pixels]), one.pixels, rtol=0, atol=0)
        assert first.photos + second.photos == one.photos
    assert whole[0].pixels.shape == (4, *SIZE, 3)


def test_targets(tmp_path):
    dataset = draw(tmp_path, 4)
    sample = replace(dataset.samples[0], difficult=np.ones(len(dataset.samples[0].boxes), np.bool_))
    dataset = replace(dataset, samples=(sample, *dataset.samples[1:]))
    (batch,) = take(store(dataset), Order(0, 4), last=1)
    for row, path in enumerate(batch.photos):
        (expected,) = (s for s in dataset.samples if str(s.path) == path)
        present = batch.targets.present[row]
        assert int(present.sum()) == len(expected.boxes)
        got = batch.targets.boxes[row][present].numpy() * [160, 120, 160, 120]
        np.testing.assert_allclose(got, expected.boxes, atol=1e-3)
        assert batch.targets.class_ids[row][present].tolist() == expected.class_ids.tolist()
        assert batch.targets.ignored[row][present].tolist() == expected.difficult.tolist()
    assert batch.targets.known.all()


def test_objects_too_thin_to_be_seen_are_ignored(tmp_path):
    dataset = draw(tmp_path, 1)
    boxes = np.array([[5, 5, 7, 60], [5, 5, 60, 60]], np.float32)
    sample = replace(dataset.samples[0], boxes=boxes, class_ids=np.zeros(2, np.int64), difficult=np.zeros(2, np.bool_))
    (batch,) = take(store(replace(dataset, samples=(sample,))), Order(0, 1), last=1)
    assert batch.targets.ignored.tolist() == [[True, False]]  # 2 of 160 pixels are 0.8 of 64


@pytest.mark.parametrize("workers", [0, 2])
def test_another_photo_stands_in_for_one_that_disappears(tmp_path, workers):
    dataset = draw(tmp_path, 10)
    photos, order = store(dataset, budget=0), Order(seed=1, batch=4)
    whole = take(photos, order, Augmentation())
    gone = str(dataset.samples[3].path)
    dataset.samples[3].path.unlink()
    without = take(photos, order, Augmentation(), workers=workers)
    met = 0
    for one, two in zip(whole, without, strict=True):
        places = [i for i, name in enumerate(one.photos) if name == gone]
        assert two.problems == [f"{gone}: no such file"] * len(places)
        assert gone not in two.photos
        for i in set(range(4)) - set(places):
            assert two.photos[i] == one.photos[i]
            torch.testing.assert_close(two.pixels[i], one.pixels[i], rtol=0, atol=0)
        met += len(places)
    assert met
    for sample in dataset.samples:
        sample.path.unlink(missing_ok=True)
    with pytest.raises(TrainingError, match=r"^10 photos in a row cannot be read: [^\n]*no such file$"):
        take(photos, order, workers=workers)


@pytest.mark.parametrize("way", ["", "with a lock in its hands"])
def test_a_worker_that_is_killed(way, tmp_path):
    """In a process of its own: torch tells of it by a signal, which interrupts whatever runs."""
    script = "import sys; from tests.training.test_batches import kill_a_worker; kill_a_worker(*sys.argv[1:])"
    command = [sys.executable, "-c", script, tmp_path, way]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=GUARD)


def kill_a_worker(folder, way):
    photos, order = store(draw(Path(folder), 10)), Order(seed=1, batch=4)
    before = set(multiprocessing.active_children())
    prepared = batches(photos, order, SIZE, NOTHING, first=0, last=300, workers=1)
    next(prepared)
    (worker,) = set(multiprocessing.active_children()) - before
    if way:  # whoever held it, nobody gives it back
        assert prepared.gi_frame.f_locals["prepared"]._workers_done_event._event._cond.acquire()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match="fewer --workers"):
        list(prepared)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "reset"), FileNotFoundError(2, "no socket")])
def test_a_worker_that_is_killed_while_a_batch_is_fetched_from_it(error, tmp_path, monkeypatch):
    """What multiprocessing says of it depends on the moment."""

    def fail(*arguments, **options):
        raise error
        yield

    monkeypatch.setattr(batches_module, "DataLoader", fail)
    prepared = partial(batches, store(draw(tmp_path, 4)), Order(seed=1, batch=4), SIZE, NOTHING, first=0, last=1)
    with pytest.raises(TrainingError, match=r"^a worker process was ended; is memory short\? pass fewer --workers$"):
        list(prepared(workers=1))
    with pytest.raises(type(error)):
        list(prepared(workers=0))
