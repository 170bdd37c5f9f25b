"""Specs: what is refused, at the edge and beyond, and in which words; what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes
from ssdcam.ssd.spec import BoxCoding, NmsFigures, Normalisation, Selection

SPEC = new_spec("ssd300-mobilenet-v1", ["a", "b", "c"], options={"width": 0.1})
ONE_CELL = FeatureMapBoxes(1, 1, ((0.5, 0.5),), (1, 1))


def cells(rows: int, columns: int) -> BoxLayout:
    """That many default boxes."""
    return BoxLayout((replace(ONE_CELL, rows=rows, columns=columns),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normalisation("rgb", (-1e9, 0, 1e9), (1e-9, 1, 1e9)),
        lambda: BoxCoding((1e-9, 1e9, 1, 1)),
        lambda: NmsFigures(iou=0, before=1, after=1),
        lambda: NmsFigures(iou=1),
        lambda: replace(SPEC, input_size=(1, 1)),
        lambda: replace(SPEC, input_size=(4096, 4096)),
        # 2^28 scores: 2^19 default boxes of 511 labels and the background
        lambda: replace(SPEC, labels=("x",) * 511, boxes=cells(2**10, 2**9)),
    ],
)
def test_the_edges_are_allowed(make: Callable[[], Any]) -> None:
    assert make() == make()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Normalisation("grey", (0,) * 3, (1,) * 3), "^colour order 'grey' is none of rgb, bgr$"),  # type: ignore[arg-type]
        (
            lambda: Normalisation("rgb", (0, nan, 0), (1,) * 3),
            r"^mean \(0, nan, 0\) or std \(1, 1, 1\) cannot normalise$",
        ),
        (lambda: Normalisation("rgb", (0,) * 3, (1, 1, inf)), "cannot normalise"),
        (lambda: Normalisation("rgb", (0,) * 3, (1, 0, 1)), "cannot normalise"),
        (lambda: BoxCoding((0.1, 0, 0.2, 0.2)), r"^variances \(0.1, 0, 0.2, 0.2\) must be positive$"),
        (lambda: BoxCoding((0.1, 0.1, 0.2, inf)), "must be positive"),
        (lambda: NmsFigures(iou=-0.01), "^an NMS IoU of -0.01 is not in 0..1$"),
        (lambda: NmsFigures(iou=1.01), "is not in 0..1"),
        (lambda: NmsFigures(before=0), "^NMS must take and keep at least one box, not 0 and 200$"),
        (lambda: NmsFigures(after=0), "not 400 and 0"),
        (lambda: replace(SPEC, labels=()), "^a model needs labels$"),
        (lambda: replace(SPEC, score_function="tanh"), "^score function 'tanh' is none of softmax, sigmoid$"),
        (
            lambda: replace(SPEC, score_function="softmax", background=False),
            "^softmax scores need a background column$",
        ),
        (lambda: replace(SPEC, input_size=(0, 300)), r"^input size \(0, 300\) is not between 1 and 4096$"),
        (lambda: replace(SPEC, input_size=(300, 4097)), "is not between"),
        (
            lambda: replace(SPEC, labels=("x",) * 512, boxes=cells(2**10, 2**9)),
            "^524288 default boxes of 512 classes are too many$",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_columns_of_the_scores() -> None:
    no_background = replace(SPEC, background=False)
    assert (SPEC.num_columns, no_background.num_columns) == (4, 3)
    for classes, expected in [(None, [0, 1, 2]), ((2, 0, 2), [0, 2]), ((), [])]:
        selection = Selection(0.5, NmsFigures(), classes)
        assert selection.columns(no_background).tolist() == expected
        assert selection.columns(SPEC).tolist() == [column + 1 for column in expected]  # the background is column 0
        assert selection.columns(SPEC).dtype == "int64"


def test_what_stands_when_nothing_is_said() -> None:
    """Equation 2 has no variances; its release has these. Section 2.2: IoU 0.45, the top 200."""
    assert BoxCoding() == BoxCoding((0.1, 0.1, 0.2, 0.2), inf)
    assert NmsFigures() == NmsFigures(0.45, 400, 200, False)
