"""NMS against a naive oracle: sort, take the best, drop what overlaps it, repeat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.ssd import host
from ssdcam.ssd.host import nms

from .test_box_coder import naive_iou


def oracle(boxes, scores, groups, iou):
    """Kept indices by rising group and falling score; ties by index."""
    kept = []
    for group in sorted(set(groups.tolist())):
        waiting = sorted(np.flatnonzero(groups == group).tolist(), key=lambda i: (-scores[i], i))
        while waiting:
            best = waiting.pop(0)
            kept.append(best)
            overlaps = host.pairwise_iou(boxes[[best]], boxes[waiting])[0]
            waiting = [i for i, overlap in zip(waiting, overlaps, strict=True) if not overlap > iou]
    return kept


@st.composite
def problems(draw):
    """Boxes on a coarse grid, so that overlaps, touching edges, doubles and equal scores are common."""
    n = draw(st.integers(0, 40))
    grid = st.integers(0, 8)
    corners = draw(st.lists(st.tuples(grid, grid, grid, grid), min_size=n, max_size=n))
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners], np.float32)
    scores = np.array(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)), np.float32) / 6
    groups = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int64)
    return boxes.reshape(-1, 4), scores, groups


@given(problem=problems(), iou=st.sampled_from([0.0, 0.3, 0.45, 0.5, 0.99, 1.0]))
def test_against_the_oracle(problem, iou):
    assert nms(*problem, iou).tolist() == oracle(*problem, iou)


@pytest.mark.parametrize("seed", range(3))
def test_crowds(seed):
    """Hundreds of boxes a group, groups of very different size."""
    random = np.random.default_rng(seed)
    n = 1500
    low = random.random((n, 2), np.float32)
    boxes = np.concatenate([low, low + random.random((n, 2), np.float32) * 0.3], axis=1)
    groups = (random.pareto(1.0, n) * 3).astype(np.int64) % 40
    scores = random.random(n, np.float32)
    assert nms(boxes, scores, groups, 0.45).tolist() == oracle(boxes, scores, groups, 0.45)


def test_long_chain():
    """Each box overlaps the next one only: every second one stays, however long the chain."""
    x = np.arange(300, dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 2, 0 * x + 1], axis=1)
    kept = nms(boxes, 1 - x / 1000, np.zeros(300, np.int64), 0.3)
    assert kept.tolist() == list(range(0, 300, 2))


def test_boxes_of_different_groups_do_not_meet():
    boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (3, 1))
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert nms(boxes, scores, np.array([0, 1, 1]), 0.5).tolist() == [0, 1]


def test_iou_equal_to_the_threshold_stays():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 2, 1]], np.float32)
    assert naive_iou(*boxes.tolist()) == 0.5
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, np.zeros(2, np.int64), 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, np.zeros(2, np.int64), 0.49).tolist() == [0]


def test_the_threshold_has_the_precision_of_the_boxes():
    """A threshold that single precision cannot tell from an IoU is equal to it."""
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.3125]], np.float32)
    scores, groups, iou = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), 0.3125 - 1e-9
    assert nms(boxes, scores, groups, iou).tolist() == [0, 1]
    assert nms(boxes.astype(float), scores, groups, iou).tolist() == [0]


def test_nothing_in_nothing_out():
    empty = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0.5)
    assert empty.tolist() == []
