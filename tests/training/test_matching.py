import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssdcam.ssd.box_coder import pairwise_iou, to_corners
from ssdcam.ssd.default_boxes import VOC300, default_boxes
from ssdcam.training.matching import BACKGROUND, IGNORED, assign_each, match

from . import naive


def random_boxes(rng, count, grid=None):
    low = rng.random((count, 2)) * 0.8
    boxes = np.concatenate([low, low + 0.02 + rng.random((count, 2)) * 0.5], axis=1)
    if grid:  # coarse positions make equal overlaps likely
        boxes = np.round(boxes * grid) / grid
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1 / grid)
    return boxes


@given(
    seed=st.integers(0, 2**32 - 1),
    truths=st.integers(0, 7),
    count=st.integers(1, 40),
    grid=st.sampled_from([None, 4, 8]),
)
def test_naive_matching(seed, truths, count, grid):
    rng = np.random.default_rng(seed)
    boxes, defaults = random_boxes(rng, truths, grid), random_boxes(rng, count, grid)
    ignored = rng.random(truths) < 0.25
    expected = naive.match(boxes, defaults, ignored)
    got = match(
        torch.from_numpy(boxes)[None],
        torch.ones(1, truths, dtype=torch.bool),
        torch.from_numpy(defaults),
        ignored=torch.from_numpy(ignored)[None],
    )
    assert got[0].tolist() == expected


@given(hnp.arrays(np.float64, (2, 5, 9), elements=st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 1.0])))
def test_rounds_of_mutual_bests_are_the_greedy_order(overlaps):
    got = assign_each(torch.from_numpy(overlaps))
    for picture, rows in zip(got.tolist(), overlaps, strict=True):
        pairs = sorted((-v, g, d) for (g, d), v in np.ndenumerate(rows) if v > 0)
        expected = [-1] * 5
        for _, g, d in pairs:
            if expected[g] == -1 and d not in expected:
                expected[g] = d
        assert picture == expected


def test_every_ground_truth_gets_a_box_of_its_own(rng):
    defaults = to_corners(torch.from_numpy(default_boxes(VOC300.layout())))
    boxes = torch.from_numpy(np.repeat(random_boxes(rng, 4), 3, axis=0)).float()  # three objects at the same place
    matched = match(boxes[None], torch.ones(1, 12, dtype=torch.bool), defaults)[0]
    assert set(range(12)) <= set(matched.tolist())
    overlaps = pairwise_iou(boxes, defaults)
    sure = (overlaps >= 0.5).any(dim=0)
    assert (matched[sure] >= 0).all()
    assert int((matched >= 0).sum()) <= int(sure.sum()) + 12


def test_a_batch_is_its_pictures(rng):
    defaults = torch.from_numpy(random_boxes(rng, 60))
    pictures = [torch.from_numpy(random_boxes(rng, n)) for n in (3, 0, 6)]
    padded = torch.zeros(3, 6, 4, dtype=torch.float64)
    present = torch.zeros(3, 6, dtype=torch.bool)
    for i, boxes in enumerate(pictures):
        padded[i, : len(boxes)], present[i, : len(boxes)] = boxes, True
    together = match(padded, present, defaults)
    for i, boxes in enumerate(pictures):
        alone = match(boxes[None], torch.ones(1, len(boxes), dtype=torch.bool), defaults)
        torch.testing.assert_close(together[i], alone[0])
    assert (together[1] == BACKGROUND).all()


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ([False, True], [0, IGNORED, BACKGROUND]),  # covered by half, wanted by no object
        ([False, False], [0, 1, BACKGROUND]),
        ([True, True], [IGNORED, IGNORED, BACKGROUND]),
    ],
)
def test_ignored_ground_truths(ignored, expected):
    defaults = torch.tensor([[0, 0, 0.2, 0.2], [0.5, 0.5, 0.6, 0.6], [0.8, 0, 1, 0.2]])
    boxes = torch.tensor([[[0, 0, 0.2, 0.2], [0.4, 0.4, 0.9, 0.9]]])
    got = match(boxes, torch.ones(1, 2, dtype=torch.bool), defaults, ignored=torch.tensor([ignored]))
    assert got[0].tolist() == expected


def test_an_object_beside_all_default_boxes_matches_none():
    got = match(
        torch.tensor([[[0.9, 0.9, 1, 1]]]), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[0, 0, 0.5, 0.5]])
    )
    assert got.tolist() == [[BACKGROUND]]


def test_pictures_of_many_objects_are_matched_one_by_one(rng, monkeypatch):
    boxes = torch.stack([torch.from_numpy(random_boxes(rng, 40)) for _ in range(3)]).float()
    present, ignored = torch.from_numpy(rng.random((2, 3, 40)) < 0.5)
    defaults = torch.from_numpy(random_boxes(rng, 200)).float()
    together = match(boxes, present, defaults, ignored=ignored)
    most = []
    monkeypatch.setattr("ssdcam.training.matching._AT_ONCE", 40 * 200)
    monkeypatch.setattr(
        "ssdcam.training.matching.assign_each", lambda overlaps: most.append(overlaps.numel()) or assign_each(overlaps)
    )
    torch.testing.assert_close(match(boxes, present, defaults, ignored=ignored), together, rtol=0, atol=0)
    assert most == [40 * 200] * 3
