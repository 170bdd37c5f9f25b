"""COCO's figures are those of pycocotools run on the files themselves."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdcam.datasets import open_dataset
from ssdcam.detections import Detections
from ssdcam.evaluation import evaluate, pair
from ssdcam.evaluation.records import read_found

from .cases import random_case

pytest.importorskip("pycocotools", reason="COCO's metric needs pycocotools")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def perturbed(truth: Any, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each box moved, some twice, some of another class; and crowds to be ignored."""
    categories = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"] * 2:
        box = np.array(annotation["bbox"])
        if rng.random() < 0.7:
            box = box + rng.normal(0, 0.12, 4) * box[[2, 3, 2, 3]]
            category = annotation["category_id"] if rng.random() < 0.9 else int(rng.choice(categories))
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": category,
                    "bbox": [*box[:2].round(2).tolist(), *np.maximum(box[2:], 1).round(2).tolist()],
                    "score": float(rng.random().__round__(3)),
                }
            )
    return results


@pytest.mark.parametrize("crowds", [False, True])
def test_equals_pycocotools(crowds: bool, shared: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    truth = json.loads((shared / "data/coco/val.json").read_text())
    if crowds:
        for annotation in truth["annotations"][::9]:
            annotation["iscrowd"] = 1
    path, results = tmp_path / "truth.json", tmp_path / "results.json"
    path.write_text(json.dumps(truth))
    results.write_text(json.dumps(perturbed(truth, rng)))

    dataset = open_dataset(path, pictures=False)
    found = read_found(str(results), dataset, path)
    result = evaluate(pair(dataset, found.detections, found.labels), "coco")

    with redirect_stdout(StringIO()):
        coco = COCO(str(path))
        judge = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    np.testing.assert_allclose(list(result.figures.values()), judge.stats, atol=1e-6)
    assert 0.1 < result.figures["map"] < result.figures["map50"] < 0.95
    precision = judge.eval["precision"][:, :, :, 0, -1]
    expected = [np.mean(p) if (p := precision[:, :, k]).max() > -1 else np.nan for k in range(80)]
    np.testing.assert_allclose([one.ap for one in result.classes], expected, atol=1e-6)


def test_nothing_found() -> None:
    dataset, detections = random_case(1)
    result = evaluate(pair(dataset, [Detections.empty()] * len(detections)), "coco")
    assert (result.figures["map"], result.figures["ar100"]) == (0, 0)


def test_nothing_there() -> None:
    dataset, _ = random_case(1)
    empty = type(dataset)(("zebra",), dataset.samples[:0], ())
    assert np.isnan(evaluate(pair(empty, []), "coco").figures["map"])
