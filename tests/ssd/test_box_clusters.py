"""k-means default boxes: against naive re-derivations, on degenerate data, and on a real data set."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.datasets import open_dataset
from ssdcam.ssd import box_clusters
from ssdcam.ssd.box_clusters import best_overlaps, choose_maps, cluster, cluster_layout, first_centres, sure_overlap
from ssdcam.ssd.box_coder import pairwise_iou, to_corners
from ssdcam.ssd.default_boxes import VOC300, BoxLayout, FeatureMapBoxes, default_boxes, layout_tensorflow
from ssdcam.training.matching import match

PAPER = VOC300.layout()


def naive_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    common = min(a[0], b[0]) * min(a[1], b[1])
    return common / (a[0] * a[1] + b[0] * b[1] - common)


def naive_kmeans(shapes: list[tuple[float, float]], centres: list[tuple[float, float]]) -> list[tuple[float, float]]:
    nearest: list[int] = []
    while True:
        again = [max(range(len(centres)), key=lambda k, s=s: naive_iou(s, centres[k])) for s in shapes]  # type: ignore[misc]
        if again == nearest:
            return sorted((centres[k] for k in set(nearest)), key=lambda c: c[0] * c[1])
        nearest = again
        for k in set(nearest):
            mine = [s for s, n in zip(shapes, nearest, strict=True) if n == k]
            centres[k] = (sum(w for w, _ in mine) / len(mine), sum(h for _, h in mine) / len(mine))


def random_shapes(seed: int, count: int) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).uniform(np.log(0.02), 0, (count, 2)))


def random_truths(seed: int, count: int) -> np.ndarray:
    sides = random_shapes(seed, count)
    low = np.random.default_rng(seed + 1).uniform(0, 1 - sides)  # not the shapes' numbers again
    return np.concatenate([low, low + sides], axis=1)


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_equals_naive_kmeans(seed: int, count: int) -> None:
    shapes = random_shapes(seed, 60)
    start = first_centres(shapes, count, np.random.default_rng(seed))
    assert all((shapes == one).all(axis=1).any() for one in start)
    expected = naive_kmeans([tuple(s) for s in shapes.tolist()], [tuple(c) for c in start.tolist()])
    np.testing.assert_allclose(cluster(shapes, count, seed), expected, rtol=1e-12)


def test_first_centres_are_drawn_by_their_distance() -> None:
    """k-means++: each further one with a chance in proportion to its distance from the nearest that stands."""
    shapes = np.array([(0.20, 0.20), (0.22, 0.20), (0.25, 0.22), (0.26, 0.24)])
    far = [[1 - naive_iou(a, b) for b in shapes.tolist()] for a in shapes.tolist()]
    expected = {}
    for i, j, k in itertools.permutations(range(4), 3):
        nearer = [min(x, y) for x, y in zip(far[i], far[j], strict=True)]
        expected[i, j, k] = 1 / 4 * far[i][j] / sum(far[i]) * nearer[k] / sum(nearer)
    assert sum(expected.values()) == pytest.approx(1)
    rng, count = np.random.default_rng(0), 4000
    drawn: Counter[tuple[int, ...]] = Counter()
    for _ in range(count):
        centres = first_centres(shapes, 3, rng)
        assert centres.shape == (3, 2)
        drawn[tuple(int(np.flatnonzero((shapes == one).all(axis=1))[0]) for one in centres)] += 1
    assert drawn.keys() == expected.keys()
    for which, share in expected.items():  # five standard deviations
        assert drawn[which] / count == pytest.approx(share, abs=5 * (share / count) ** 0.5)


def test_no_more_first_centres_than_shapes_that_differ() -> None:
    rng = np.random.default_rng(0)
    assert first_centres(np.full((5, 2), 0.3), 3, rng).tolist() == [[0.3, 0.3]]
    assert sorted(first_centres(np.array([(0.1, 0.2), (0.2, 0.1)] * 4), 5, rng).tolist()) == [[0.1, 0.2], [0.2, 0.1]]
    assert first_centres(random_shapes(0, 5), 1, rng).shape == (1, 2)


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_clusters_that_are_empty_for_a_while(seed: int, count: int) -> None:
    """Centres that start where no shape is: some never have one, some later."""
    shapes, start = random_shapes(seed, 40) / 4, random_shapes(seed + 1, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_clusters, "first_centres", lambda *_: start)
        found = cluster(shapes, count)
    expected = naive_kmeans([tuple(s) for s in shapes.tolist()], [tuple(c) for c in start.tolist()])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_few_shapes_are_clusters_as_they_are() -> None:
    """To the last digit, which a mean of equal numbers need not have."""
    assert cluster(np.array([(0.1, 0.7)] * 3), 1).tolist() == [[0.1, 0.7]]
    shapes = [[0.3, 0.1], [0.1, 0.6], [0.6, 0.1]]
    assert cluster(np.array(shapes[::-1] * 3), 3).tolist() == shapes


def test_the_same_by_seed_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = random_shapes(1, 300)
    whole = cluster(shapes, 7, seed=3)
    assert not np.array_equal(whole, cluster(shapes, 7, seed=4))
    assert np.array_equal(cluster(shapes, 7), cluster(shapes, 7, seed=0))
    assert (
        cluster_layout(shapes, PAPER) == cluster_layout(shapes, PAPER, seed=0) != cluster_layout(shapes, PAPER, seed=1)
    )
    for numbers in (50, 1):
        monkeypatch.setattr(box_clusters, "_AT_ONCE", numbers)
        np.testing.assert_array_equal(whole, cluster(shapes, 7, seed=3))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(0.2, 0.3)], [(0.2, 0.3)]),  # one box
        ([(0.2, 0.3)] * 50, [(0.2, 0.3)]),  # all alike
        ([(0.5, 0.5), (0.2, 0.3)] * 20, [(0.2, 0.3), (0.5, 0.5)]),  # fewer shapes than clusters
        ([(0.2, 0.3 + 1e-16 * i) for i in range(20)], [(0.2, 0.3)]),  # differences below the IoU's precision
        ([(1e-6, 1e-6), (1, 1)], [(1e-6, 1e-6), (1, 1)]),
    ],
)
def test_degenerate_data(shapes: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    found = cluster(np.array(shapes), 5)
    assert found[0] == pytest.approx(expected[0])
    assert found[-1] == pytest.approx(expected[-1])
    layout = cluster_layout(np.array(shapes), PAPER)
    assert min(layout.boxes_per_cell) >= 1
    assert layout.num_boxes <= PAPER.num_boxes


@given(
    cells=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    spread=st.sampled_from([0.8, 1, 1.07]),
    shapes=st.lists(st.tuples(*[st.floats(0.2, 1.1)] * 2), min_size=1, max_size=4),
)
def test_what_is_sure_is_the_worst_of_all_places(
    cells: tuple[int, int], spread: float, shapes: list[tuple[float, float]]
) -> None:
    m = FeatureMapBoxes(*cells, ((0.5, 0.5),), (spread / cells[1], spread / cells[0]))
    expected = []
    for w, h in shapes:
        off = []
        for side, count, step in ((w, m.columns, m.step[0]), (h, m.rows, m.step[1])):
            low = min(side / 2, 0.5)  # what is larger than the picture stands in its middle
            middles = np.linspace(low, 1 - low, 2001)
            off.append(np.abs(middles[:, None] - (np.arange(count) + 0.5) * step).min(axis=1).max())
        common = max(w - off[0], 0) * max(h - off[1], 0)
        expected.append(common / (2 * w * h - common))
    np.testing.assert_allclose(sure_overlap(np.array(shapes), m), expected, atol=4e-3)


def test_the_coarsest_map_that_is_fine_enough() -> None:
    shapes = np.array([(0.01, 0.01), (0.1, 0.1), (0.16, 0.16), (0.3, 0.3), (0.7, 0.7), (0.9, 0.9)])
    assert choose_maps(shapes, PAPER).tolist() == [0, 0, 1, 2, 3, 5]
    # Half a step of .8165 sides: (1 - .1835)^2 = 2/3 of the area in common is an IoU of .5.
    limit = 0.5 / 19 / (1 - np.sqrt(2 / 3))
    even = layout_tensorflow([(19, 19), (10, 10), (5, 5)])
    assert choose_maps(np.array([[limit * 1.9 * 0.999] * 2, [limit * 1.9 * 1.001] * 2]), even).tolist() == [0, 1]


@given(st.integers(0, 2**32), st.sampled_from([None, 1, 6]))
def test_layouts_keep_the_limit(seed: int, clusters: int | None) -> None:
    shapes = random_shapes(seed, 80)
    layout = cluster_layout(shapes, PAPER, clusters, seed=seed)
    assert layout.num_boxes <= PAPER.num_boxes
    assert [(m.rows, m.columns, m.step) for m in layout.maps] == [(m.rows, m.columns, m.step) for m in PAPER.maps]
    assert min(layout.boxes_per_cell) >= 1
    assert sum(layout.boxes_per_cell) <= max(clusters or sum(PAPER.boxes_per_cell), 1) + len(PAPER.maps)


def one_map(shapes: int) -> BoxLayout:
    """Nine cells of so many shapes each."""
    return BoxLayout((FeatureMapBoxes(3, 3, ((0.3, 0.3),) * shapes, (1 / 3, 1 / 3)),), "corners")


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_as_many_clusters_as_the_limit_allows(count: int) -> None:
    shapes = random_shapes(2, 50)
    own = one_map(count)
    for layout in (cluster_layout(shapes, own, seed=3), cluster_layout(shapes, own, count, seed=3)):
        assert (layout.boxes_per_cell, layout.clip) == ((count,), "corners")
        np.testing.assert_array_equal(layout.maps[0].shapes, cluster(shapes, count, seed=3))
    with pytest.raises(ValueError, match="clusters make"):
        cluster_layout(shapes, own, count + 1)


def test_no_more_clusters_than_the_network_has_shapes() -> None:
    """Large shapes stand on the coarsest map, which has boxes to spare."""
    assert sum(cluster_layout(0.9 + random_shapes(2, 50) / 10, PAPER).boxes_per_cell[-1:]) == sum(PAPER.boxes_per_cell)


def test_a_map_that_no_cluster_chose_has_the_one_that_suits_it_best() -> None:
    small, large = (0.1, 0.1), (0.9, 0.9)
    maps = [FeatureMapBoxes(n, n, ((0.5, 0.5),) * 2, (1 / n, 1 / n)) for n in (30, 8, 1)]
    layout = cluster_layout(np.array([small, large]), BoxLayout(tuple(maps)), 2)
    assert sure_overlap(np.array([small, large]), maps[1]) == pytest.approx([0.076, 0.764], abs=1e-3)  # 0.5 is wanted
    assert [m.shapes for m in layout.maps] == [(small,), (large,), (large,)]


def test_too_many_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"40 clusters make .* more than the network's own 8,732"):
        cluster_layout(random_shapes(0, 200) * 0.1, PAPER, 40)


@pytest.mark.parametrize("clip", ["none", "centre", "size", "corners"])
def test_overlaps_are_those_that_matching_sees(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_clusters, "_AT_ONCE", 5000)
    layout = replace(layout_tensorflow([(10, 10), (5, 5), (3, 3), (1, 1)]), clip=clip)  # type: ignore[arg-type]
    truths = random_truths(5, 200)
    overlaps = best_overlaps(truths, layout)
    corners = to_corners(torch.from_numpy(default_boxes(layout)).double())
    dense = pairwise_iou(torch.from_numpy(truths), corners)
    np.testing.assert_allclose(overlaps.best, dense.amax(dim=1).numpy(), rtol=1e-9)
    starts = np.cumsum([m.num_boxes for m in layout.maps])
    held = np.searchsorted(starts, dense.argmax(dim=1).numpy(), side="right")
    assert (overlaps.maps == held).mean() > 0.98  # of equal overlaps, the one or the other
    # One ground truth a picture: matched beyond its own box where a box overlaps it by half.
    boxes = torch.from_numpy(truths)[:, None]
    several = (match(boxes, torch.ones(len(truths), 1, dtype=torch.bool), corners) >= 0).sum(dim=1)
    assert overlaps.recall == (dense.amax(dim=1) >= 0.5).double().mean().item()
    assert ((several > 1).numpy() <= (overlaps.best >= 0.5)).all()


def test_of_equal_overlaps_the_finest_map() -> None:
    alike = FeatureMapBoxes(2, 2, ((0.5, 0.5),), (0.5, 0.5))
    overlaps = best_overlaps(np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.7, 0.7]]), BoxLayout((alike, alike)))
    assert overlaps.best[0] == 1
    assert overlaps.maps.tolist() == [0, 0]


@pytest.mark.parametrize("clip", ["none", "corners"])
def test_ground_truths_that_stick_out_of_the_picture(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their middle may lie before the first cell or behind the last; the numbers are looked at one by one."""
    monkeypatch.setattr(box_clusters, "_AT_ONCE", 1)
    layout = BoxLayout((FeatureMapBoxes(4, 5, ((0.3, 0.2), (0.6, 0.6)), (0.2, 0.25)),), clip)  # type: ignore[arg-type]
    truths = np.concatenate([random_truths(9, 40) + shift for shift in ([-0.3] * 4, [0.3] * 4, [-0.3, 0.3] * 2)])
    assert (truths.reshape(-1, 2, 2).mean(axis=1).min(axis=0) < 0).all()
    dense = pairwise_iou(torch.from_numpy(truths), to_corners(torch.from_numpy(default_boxes(layout)).double()))
    np.testing.assert_allclose(best_overlaps(truths, layout).best, dense.amax(dim=1).numpy(), rtol=1e-9)


def test_caffes_steps_that_do_not_fill_the_picture() -> None:
    truths = random_truths(6, 300)
    corners = to_corners(torch.from_numpy(default_boxes(PAPER)).double())
    dense = pairwise_iou(torch.from_numpy(truths), corners).amax(dim=1)
    np.testing.assert_allclose(best_overlaps(truths, PAPER).best, dense.numpy(), rtol=1e-9)


def test_cells_that_leave_a_margin() -> None:
    truths = random_truths(7, 300)
    layout = BoxLayout((FeatureMapBoxes(3, 4, ((0.3, 0.2), (0.5, 0.5)), (0.2, 0.25)),))
    dense = pairwise_iou(torch.from_numpy(truths), to_corners(torch.from_numpy(default_boxes(layout)).double()))
    np.testing.assert_allclose(best_overlaps(truths, layout).best, dense.amax(dim=1).numpy(), rtol=1e-9)


@pytest.mark.parametrize("clip", ["none", "corners"])
def test_many_ground_truths_take_no_more_memory_than_few(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_clusters, "_AT_ONCE", 2**15)
    layout = replace(layout_tensorflow([(10, 10), (5, 5)]), clip=clip)  # type: ignore[arg-type]
    truths = random_truths(8, 4000)
    tracemalloc.start()
    try:
        best_overlaps(truths, layout)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3e6  # all overlaps with the first map at once are 9.6e6 bytes


def relative(path: Path, split: str) -> np.ndarray:
    samples = open_dataset(path, split, pictures=False).samples
    return np.concatenate([s.boxes / np.array([s.width, s.height] * 2) for s in samples]).astype(np.float64)


def test_voc_is_covered_better_than_by_the_papers_boxes(shared: Path) -> None:
    train, val = (relative(shared / "data/voc", split) for split in ("train", "val"))
    layout: BoxLayout = cluster_layout(train[:, 2:] - train[:, :2], PAPER)
    assert layout.num_boxes <= PAPER.num_boxes
    for truths in (train, val):  # val was not looked at
        paper, ours = best_overlaps(truths, PAPER), best_overlaps(truths, layout)
        assert ours.recall > paper.recall + 0.03
        assert ours.best.mean() > paper.best.mean() + 0.01
