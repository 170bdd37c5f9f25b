"""How much of a detector another one keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ssdcam.detection.agreement import compare, pictures_to_compare
from ssdcam.exporting.network import DecodedSSD
from ssdcam.ssd import host

from .. import pictures

BOXES = np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.4, 0.8], [0.5, 0.5, 0.5, 0.9]], np.float32)  # the last is empty
SCORES = np.array([[0.9, 0.1], [0.2, 0.6], [0.3, 0.3]], np.float32)


def test_the_same() -> None:
    assert compare([(BOXES, SCORES)] * 3, [(BOXES, SCORES)] * 3) == (3, 1.0, 0.0)
    assert compare([(BOXES, SCORES)], [(BOXES, SCORES)]).enough


def test_others() -> None:
    """What counts is the score of the class that either takes a box for."""
    moved = BOXES + np.array([0.2, 0, 0.2, 0], np.float32)
    scores = np.array([[0.4, 0.5], [0.2, 0.6], [0.3, 0.3]], np.float32)
    found = compare([(BOXES, SCORES)], [(moved, scores)])
    assert found.overlap == pytest.approx((1 / 3 + 0) / 2)
    assert found.apart == pytest.approx(((0.5 + 0 + 0) + (0.4 + 0 + 0)) / 6)
    assert not found.enough
    assert not compare([(BOXES, SCORES)], [(BOXES, SCORES * math.nan)]).enough


def test_the_likeliest_count() -> None:
    boxes = np.tile(BOXES[:1], (1000, 1))
    scores = np.linspace(1, 0, 1000, dtype=np.float32)[:, None]
    others = boxes.copy()
    others[50:] = 0  # what is there is no object
    assert compare([(boxes, scores)], [(others, scores)]).overlap == pytest.approx(1)


def test_pictures_are_spread() -> None:
    batch = np.arange(45, dtype=np.uint8)[:, None, None, None]
    assert pictures_to_compare(batch).ravel().tolist() == list(range(0, 45, 3))
    assert len(pictures_to_compare(batch[:1])) == 1
    assert len(pictures_to_compare(batch[:20])) == 20


def test_decoded_as_torch_does(tiny_checkpoint) -> None:
    network = DecodedSSD(tiny_checkpoint)
    images = torch.from_numpy(pictures.noise(300, 300, 1)).permute(2, 0, 1)[None].float()
    locations, raw_scores = network.raw(images)
    expected = network.decode(locations, raw_scores)
    found = host.decoded(locations[0].numpy(), raw_scores[0].numpy(), network.defaults.numpy(), network.spec)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-6)
