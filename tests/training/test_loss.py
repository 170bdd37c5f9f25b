from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdcam.ssd.box_coder import to_corners
from ssdcam.ssd.default_boxes import VOC300, default_boxes, layout_from_scales
from ssdcam.ssd.spec import ModelSpec, Normalisation
from ssdcam.training.loss import LossFigures, Targets, hard_negatives, multibox_loss, total_loss
from ssdcam.training.matching import match

from ..torchvision_here import torchvision
from . import naive
from .test_matching import random_boxes

LAYOUT = layout_from_scales([(4, 4), (2, 2)], [0.2, 0.5, 0.9], [(2,), (2, 3)])
SPEC = ModelSpec("none", ("a", "b", "c", "d"), (300, 300), Normalisation("rgb", (0, 0, 0), (1, 1, 1)), LAYOUT)
SIGMOID = replace(SPEC, score_function="sigmoid", background=False)
DEFAULTS = torch.from_numpy(default_boxes(LAYOUT)).double()


def make(rng, counts, known=1.0, spec=SPEC, dtype=torch.float64, defaults=DEFAULTS):
    """Raw output and targets of a batch with so many objects a picture."""
    batch, most, labels = len(counts), max(counts, default=0), len(spec.labels)
    boxes = torch.zeros(batch, most, 4, dtype=dtype)
    class_ids = torch.zeros(batch, most, dtype=torch.int64)
    present, ignored = torch.zeros(batch, most, dtype=torch.bool), torch.zeros(batch, most, dtype=torch.bool)
    knows = rng.random((batch, labels)) < known
    knows[:, 0] = True
    for i, count in enumerate(counts):
        boxes[i, :count] = torch.from_numpy(random_boxes(rng, count))
        class_ids[i, :count] = torch.from_numpy(rng.choice(np.flatnonzero(knows[i]), count))
        present[i, :count] = True
        ignored[i, :count] = torch.from_numpy(rng.random(count) < 0.2)
    locations = torch.from_numpy(rng.normal(size=(batch, len(defaults), 4))).to(dtype).requires_grad_()
    scores = torch.from_numpy(rng.normal(size=(batch, len(defaults), spec.num_columns)) * 2).to(dtype).requires_grad_()
    return locations, scores, Targets(boxes, class_ids, present, ignored, torch.from_numpy(knows))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    known=st.sampled_from([1.0, 0.5]),
    kind=st.sampled_from(["softmax", "sigmoid", "focal"]),
)
def test_naive_loss(seed, counts, known, kind):
    spec = SPEC if kind == "softmax" else SIGMOID
    locations, scores, targets = make(np.random.default_rng(seed), counts, known, spec)
    sums = multibox_loss(locations, scores, targets, DEFAULTS, spec, LossFigures(kind))
    expected = [
        naive.loss_sums(
            locations[i].detach().numpy(),
            scores[i].detach().numpy(),
            targets.boxes[i, :count].double().numpy(),
            targets.class_ids[i, :count].numpy(),
            targets.ignored[i, :count].numpy(),
            targets.known[i].numpy(),
            DEFAULTS.double().numpy(),
            spec.coding.variances,
            kind,
        )
        for i, count in enumerate(counts)
    ]
    for got, wanted in zip(sums, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_torchvision_agrees(rng):
    """On its own matches it computes the same localisation, mining and classification."""
    package = torchvision()
    layout = VOC300.layout()
    defaults = torch.from_numpy(default_boxes(layout))
    spec = replace(SPEC, boxes=layout)
    locations, scores, targets = make(rng, [3, 1, 5, 2], spec=spec, dtype=torch.float32, defaults=defaults)
    targets = targets._replace(ignored=torch.zeros_like(targets.ignored))
    coder = package.models.detection._utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    model = SimpleNamespace(box_coder=coder, neg_to_pos_ratio=3)  # all that its loss needs of its network
    matched = match(targets.boxes, targets.present, to_corners(defaults))
    pixels = [
        {"boxes": boxes[there] * 300, "labels": ids[there] + 1}
        for boxes, ids, there in zip(targets.boxes, targets.class_ids, targets.present, strict=True)
    ]
    outputs = {"bbox_regression": locations, "cls_logits": scores}
    compute_loss = package.models.detection.ssd.SSD.compute_loss
    expected = compute_loss(model, pixels, outputs, [to_corners(defaults) * 300] * 4, list(matched))
    wanted = torch.autograd.grad(sum(expected.values()), (locations, scores))

    sums = multibox_loss(locations, scores, targets, defaults, spec, LossFigures())
    positives = sums.positives.sum()
    torch.testing.assert_close(sums.location.sum() / positives, expected["bbox_regression"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sums.classification.sum() / positives, expected["classification"], rtol=1e-5, atol=1e-5)
    got = torch.autograd.grad(total_loss(sums, positives, 1.0), (locations, scores))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "focal"])
def test_no_objects_at_all(rng, kind):
    spec = SPEC if kind == "softmax" else SIGMOID
    locations, scores, targets = make(rng, [0, 0], spec=spec)
    sums = multibox_loss(locations, scores, targets, DEFAULTS, spec, LossFigures(kind))
    loss = total_loss(sums, sums.positives.sum(), 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss > 0, "a photo without objects says what background is"
    assert not locations.grad.any()
    if kind != "focal":  # as many negatives as if there were one positive
        assert (scores.grad.abs().sum(dim=2) > 0).sum(dim=1).tolist() == [3, 3]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "focal"])
def test_unknown_classes_learn_nothing(rng, kind):
    spec = SPEC if kind == "softmax" else SIGMOID
    locations, scores, targets = make(rng, [4, 0], spec=spec)
    known = torch.tensor([[True, False, True, True], [False, True, True, False]])
    ids = torch.zeros_like(targets.class_ids)
    targets = targets._replace(known=known, class_ids=ids)
    sums = multibox_loss(locations, scores, targets, DEFAULTS, spec, LossFigures(kind))
    total_loss(sums, sums.positives.sum(), 1.0).backward()
    learns = scores.grad[..., int(spec.background) :].abs().sum(dim=1) > 0
    torch.testing.assert_close(learns, known)


def test_a_teacher_speaks_of_unknown_classes_only(rng):
    locations, scores, targets = make(rng, [2], spec=SIGMOID)
    known = torch.tensor([[True, False, False, True]])
    targets = targets._replace(known=known, class_ids=torch.zeros_like(targets.class_ids))
    said = scores.detach().sigmoid()
    said[..., 1] = -1  # a class that the teacher does not know either
    sums = multibox_loss(locations, scores, targets, DEFAULTS, SIGMOID, LossFigures("focal"), said.float())
    sums.classification.sum().backward()
    assert scores.grad[..., 2].abs().max() < 1e-6, "the student agrees with its teacher"
    assert not scores.grad[..., 1].any()
    assert (scores.grad[..., [0, 3]].abs() > 1e-4).any()
    wrong = (1 - said.clamp(min=0)).float()
    worse = multibox_loss(locations, scores, targets, DEFAULTS, SIGMOID, LossFigures("focal"), wrong)
    assert worse.classification > sums.classification


def test_bf16_is_computed_in_fp32(rng):
    locations, scores, targets = make(rng, [3], dtype=torch.float32, defaults=DEFAULTS)
    half = multibox_loss(locations.bfloat16(), scores.bfloat16(), targets, DEFAULTS.float(), SPEC, LossFigures())
    rounded = multibox_loss(
        locations.bfloat16().float(), scores.bfloat16().float(), targets, DEFAULTS.float(), SPEC, LossFigures()
    )
    for a, b in zip(half, rounded, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)


def test_mining_takes_the_worst_and_of_equals_the_first():
    losses = torch.tensor([[1.0, 5, 3, 3, 3, 9], [2, 2, 2, 2, 2, 2]])
    matched = torch.tensor([[0, -1, -1, -1, -1, -2], [-1, -1, -1, -1, -1, -1]])
    assert hard_negatives(losses, matched, 3).tolist() == [
        [False, True, True, True, False, False],
        [True, True, True, False, False, False],
    ]
