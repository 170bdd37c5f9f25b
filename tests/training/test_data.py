from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ssdcam.datasets.dataset import Dataset, Sample
from ssdcam.errors import TrainingError
from ssdcam.training.data import Order, PhotoStore, epoch_order, join, join_labels, repeats, steps_an_epoch

from .scenes import draw, store


def listed(class_ids, name="a"):
    """A sample without a picture."""
    count = len(class_ids)
    boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (count, 1))
    return Sample(name, 10, 10, boxes, np.array(class_ids, np.int64), np.zeros(count, np.bool_), name)


def test_data_sets_meet_by_name():
    voc = Dataset(("aeroplane", "dog", "sofa"), (listed([0, 1, 2, 1]),), ())
    coco = Dataset(("person", "airplane", "couch"), (listed([0, 1]), listed([])), ())
    assert join_labels([voc, coco]) == ("aeroplane", "dog", "sofa", "person")
    photos = join([voc, coco], ("person", "sofa", "aeroplane"))
    assert [p.class_ids.tolist() for p in photos] == [[2, 1], [0, 2], []]
    assert [p.wanted.tolist() for p in photos] == [[True, False, True, False], [True, True], []]
    assert [p.known.tolist() for p in photos] == [[False, True, True], [True] * 3, [True] * 3]


def test_every_photo_once_an_epoch():
    order = Order(seed=3, batch=4)
    epochs = [epoch_order(np.ones(10), order, epoch).tolist() for epoch in range(3)]
    for epoch in epochs:
        assert len(epoch) == 12, "filled up to whole batches"
        assert sorted(epoch[:10]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert epochs[0] == epoch_order(np.ones(10), order, 0).tolist()
    assert epochs[0] != epoch_order(np.ones(10), replace(order, seed=4), 0).tolist()


def test_rare_classes_come_more_often():
    photos = join([Dataset(("often", "rare"), tuple(listed([int(i < 4)]) for i in range(100)), ())], ("often", "rare"))
    times = repeats(photos, 0.16)
    np.testing.assert_allclose(times[:4], 2)  # sqrt(.16 / .04)
    np.testing.assert_allclose(times[4:], 1)
    assert (repeats(photos, 0) == 1).all()
    photos = join([Dataset(("often", "rare"), tuple(listed([int(i < 4)]) for i in range(100)), ())], ("often", "rare"))
    times = repeats(photos, 0.09)  # 1.5 each
    order = Order(0, 1, 0.09)
    counts = Counter(i for epoch in range(400) for i in epoch_order(times, order, epoch).tolist())
    for i in range(4):
        assert 1.35 < counts[i] / 400 < 1.65
    assert {len(epoch_order(times, order, epoch)) for epoch in range(20)} == {102}


def test_a_class_is_rare_among_the_photos_that_would_show_it():
    labelled = Dataset(("dog", "cat"), (listed([0]), listed([1])), ())
    other = Dataset(("dog",), tuple(listed([0]) for _ in range(8)), ())
    times = repeats(join([labelled, other], ("dog", "cat")), 0.5)
    assert (times == 1).all(), "half of the two photos that could show a cat do"


def test_pictures_that_cannot_be_read(tmp_path):
    dataset = draw(tmp_path, 3)
    dataset.samples[1].path.write_text("no picture")
    photos = store(dataset)
    assert len(photos) == 2
    assert len(photos.problems) == 1
    assert "001.png" in photos.problems[0]


def test_memory_budget(tmp_path):
    dataset = draw(tmp_path, 5)
    assert store(dataset).held == 5
    assert store(dataset, budget=2 * 160 * 120 * 3).held == 2
    assert store(dataset, budget=0).held == 0


def test_no_photos():
    with pytest.raises(TrainingError, match="no photos"):
        steps_an_epoch(PhotoStore([]), Order(0, 1))
