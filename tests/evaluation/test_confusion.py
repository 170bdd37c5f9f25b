"""What is taken for what."""

from __future__ import annotations

from ssdcam.datasets import Dataset
from ssdcam.evaluation import confuse, pair

from .cases import LABELS, found, random_case, sample

A, B, C = [0, 0, 20, 20], [40, 40, 80, 80], [85, 0, 99, 30]


def test_counts() -> None:
    dataset = Dataset(LABELS, (sample("a", [A, B, C], [0, 1, 2]), sample("b", [A, B], [1, 2], [True, False])), ())
    detections = [
        found([A, A, B, C], [0.9, 0.8, 0.7, 0.4], [0, 1, 2, 2]),  # right, again, wrong class, below the score
        found([A, A, [50, 0, 70, 20]], [0.9, 0.8, 0.6], [0, 1, 0]),  # difficult twice, nothing there
    ]
    confusion = confuse(pair(dataset, detections))
    #                                   ant bee cat missed
    assert confusion.counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2], [1, 1, 0, 0]]


def test_the_best_overlap_is_taken_and_nothing_twice() -> None:
    dataset = Dataset(LABELS, (sample("a", [[0, 0, 20, 20], [0, 0, 20, 24]], [0, 1]),), ())
    detections = [found([[0, 0, 20, 23], [0, 0, 20, 22]], [0.9, 0.8], [1, 1])]
    assert confuse(pair(dataset, detections)).counts.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_every_ground_truth_is_in_one_place() -> None:
    for seed in range(20):
        dataset, detections = random_case(seed)
        pairing = pair(dataset, detections)
        confusion = confuse(pairing, score=0.3)
        counted = [int(((pairing.truths.classes == i) & ~pairing.truths.difficult).sum()) for i in range(3)]
        assert confusion.counts.sum(axis=1)[:-1].tolist() == counted
