"""VOC's average precision: published figures, and the naive evaluator on random cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.datasets import Dataset
from ssdcam.evaluation import evaluate, pair
from ssdcam.evaluation.matching import couples
from ssdcam.evaluation.voc import area_under_curve, curves, eleven_points

from .cases import LABELS, found, naive_area, naive_curve, naive_eleven_points, random_case, sample

NAIVE = {"voc07": naive_eleven_points, "voc": naive_area}


def test_golden() -> None:
    """From chainercv's tests."""
    precision, recall = np.array([0, 0.5, 1 / 3]), np.array([0, 0.5, 0.5])
    assert area_under_curve(precision, recall) == pytest.approx(0.25)
    assert eleven_points(precision, recall) == pytest.approx(0.5 * 6 / 11)
    assert eleven_points(precision, recall) == pytest.approx(0.272727, abs=1e-6)


def test_worked_example(shared: Path) -> None:
    """Published with IoU .3: .2457 under the curve, .2684 in 11 points; pixels are counted inclusively there."""
    folder = shared / "reference/voc_metric_example"

    def read(path: Path, scored: bool) -> tuple[list[list[float]], list[float]]:
        rows = [list(map(float, line.split()[1:])) for line in path.read_text().splitlines()]
        boxes = [row[-4:] for row in rows]
        return [[x, y, x + w + 1, y + h + 1] for x, y, w, h in boxes], [row[0] for row in rows] if scored else []

    samples, detections = [], []
    for path in sorted((folder / "groundtruths").glob("*.txt")):
        boxes, _ = read(path, scored=False)
        samples.append(sample(path.stem, boxes, [0] * len(boxes)))
        boxes, scores = read(folder / "detections" / path.name, scored=True)
        detections.append(found(boxes, scores, [0] * len(boxes)))
    dataset = Dataset(LABELS[:1], tuple(samples), ())
    curve = curves(pair(dataset, detections), iou=0.3)[0]
    precision, recall, total = naive_curve(dataset, detections, 0, least=0.3)
    assert (total, curve.num_truths, len(curve.precision)) == (15, 15, 24)
    assert area_under_curve(curve.precision, curve.recall) == pytest.approx(naive_area(precision, recall))
    assert eleven_points(curve.precision, curve.recall) == pytest.approx(naive_eleven_points(precision, recall))
    assert area_under_curve(curve.precision, curve.recall) == pytest.approx(0.2457, abs=1e-4)
    assert eleven_points(curve.precision, curve.recall) == pytest.approx(0.2684, abs=1e-4)


@given(st.integers(0, 2**32), st.sampled_from(["voc07", "voc"]))
def test_equals_the_naive_evaluator(seed: int, metric: str) -> None:
    dataset, detections = random_case(seed)
    result = evaluate(pair(dataset, detections), metric)  # type: ignore[arg-type]
    means = []
    for class_id, one in enumerate(result.classes):
        precision, recall, total = naive_curve(dataset, detections, class_id)
        np.testing.assert_allclose(one.curve.precision, precision)
        np.testing.assert_allclose(one.curve.recall, recall)
        assert one.curve.num_truths == total
        if total:
            means.append(NAIVE[metric](precision, recall))
            assert one.ap == pytest.approx(means[-1], abs=1e-12)
        else:
            assert math.isnan(one.ap)
    assert result.figures["map"] == pytest.approx(np.mean(means) if means else math.nan, nan_ok=True)


BOX = [10.0, 10.0, 50.0, 50.0]


class TestRules:
    @staticmethod
    def score(truths: Dataset, *detections: object) -> tuple[list[float], list[float]]:
        curve = curves(pair(truths, list(detections)))[0]  # type: ignore[arg-type]
        return curve.precision.tolist(), curve.recall.tolist()

    def test_a_second_hit_is_a_false_positive(self) -> None:
        dataset = Dataset(LABELS, (sample("a", [BOX], [0]),), ())
        assert self.score(dataset, found([BOX, BOX], [0.9, 0.8], [0, 0])) == ([1, 0.5], [1, 1])

    def test_a_difficult_one_counts_neither_way(self) -> None:
        dataset = Dataset(LABELS, (sample("a", [BOX, [60, 60, 90, 90]], [0, 0], [True, False]),), ())
        boxes = [BOX, BOX, [60, 60, 90, 90]]
        assert self.score(dataset, found(boxes, [0.9, 0.8, 0.7], [0, 0, 0])) == ([1], [1])

    def test_half_is_enough(self) -> None:
        dataset = Dataset(LABELS, (sample("a", [[0, 0, 20, 10]], [0]),), ())
        assert self.score(dataset, found([[0, 0, 10, 10]], [0.9], [0])) == ([1], [1])
        assert self.score(dataset, found([[0, 0, 9.9, 10]], [0.9], [0])) == ([0], [0])

    def test_nothing_found_and_nothing_there(self) -> None:
        dataset = Dataset(LABELS, (sample("a", [BOX], [0]), sample("b", [], [])), ())
        result = evaluate(pair(dataset, [found([], [], []), found([BOX], [0.9], [1])]))
        assert [one.ap for one in result.classes] == pytest.approx([0, math.nan, math.nan], nan_ok=True)
        assert result.figures == {"map": 0, "map50": 0}


class TestLabels:
    DATA = Dataset(("aeroplane", "sofa", "unicorn"), (sample("a", [BOX, BOX, BOX], [0, 1, 2]),), ())

    def test_meet_by_name(self) -> None:
        detections = found([BOX, BOX], [0.9, 0.8], [0, 1])
        detections = type(detections)(detections.boxes, detections.scores, detections.class_ids, ("couch", "toaster"))
        pairing = pair(self.DATA, [detections], ("toaster", "Airplane", "couch", "oven"))
        assert pairing.labels == ("aeroplane", "sofa")
        assert pairing.left_out == ("unicorn",)
        assert pairing.not_in_data == ("toaster", "oven")
        result = evaluate(pairing)
        assert [one.ap for one in result.classes] == [0, 1]
        assert result.figures["map"] == 0.5

    def test_when_nobody_says_what_can_be_found(self) -> None:
        pairing = pair(self.DATA, [found([], [], [])])
        assert (pairing.labels, pairing.left_out) == (self.DATA.labels, ())


def test_only_what_is_in_the_same_photo_is_compared() -> None:
    """What keeps thousands of photos from taking minutes."""
    dataset, detections = random_case(0, photos=500)
    pairing = pair(dataset, detections)
    truths, found = pairing.truths, pairing.found
    together = couples(found.boxes, found.images, truths.boxes, truths.images)
    assert (found.images[together.found] == truths.images[together.truth]).all()
    counts = [len(one) * len(sample.boxes) for one, sample in zip(detections, dataset.samples, strict=True)]
    assert len(together.found) == sum(counts) > 1000
