"""Plots are pictures, with or without anything to show."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from ssdcam.datasets import Dataset
from ssdcam.errors import ImageError
from ssdcam.evaluation import confuse, evaluate, pair

from .cases import random_case

pytest.importorskip("matplotlib", reason="plots need matplotlib")
from ssdcam.evaluation.plots import draw_confusion, draw_curves
from ssdcam.plotting import write_figure


@pytest.mark.parametrize("labels", [("ant", "bee", "cat"), ("$ant", "蜜蜂_$", "cat", *map(str, range(30)))])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_pictures(labels: tuple[str, ...], tmp_path: Path) -> None:
    dataset, detections = random_case(3)
    pairing = pair(Dataset(labels, dataset.samples, ()), detections)
    write_figure(draw_curves(evaluate(pairing)), tmp_path / "curves.png")
    write_figure(draw_confusion(confuse(pairing)), tmp_path / "confusion.png")
    for path in tmp_path.iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert image.std() > 10


def test_nothing_to_draw(tmp_path: Path) -> None:
    pairing = pair(Dataset(("ant",), (), ()), [])
    write_figure(draw_curves(evaluate(pairing)), tmp_path / "curves.png")
    write_figure(draw_confusion(confuse(pairing)), tmp_path / "confusion.png")
    with pytest.raises(ImageError, match="cannot be written"):
        write_figure(draw_curves(evaluate(pairing)), tmp_path / "nowhere/curves.png")
