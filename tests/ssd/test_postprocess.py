"""From raw output to boxes, in torch and in numpy, against one naive oracle written from the paper."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdcam.ssd import host, postprocess
from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import NmsFigures, Selection

from .test_box_coder import naive_iou

LABELS = [f"label {i}" for i in range(5)]
SOFTMAX = new_spec("ssd300-vgg16", LABELS)
SIGMOID = new_spec("ssd300-mobilenet-v1", LABELS)
NO_BACKGROUND = replace(SIGMOID, background=False)


def in_torch(locations, raw_scores, defaults, spec, selection):
    tensors = (torch.from_numpy(part) for part in (locations, raw_scores, defaults))
    return postprocess.postprocess(*tensors, spec, selection)


IMPLEMENTATIONS = pytest.mark.parametrize("run", [in_torch, host.postprocess], ids=["torch", "numpy"])


def oracle(locations, raw_scores, defaults, spec, selection):
    """A list an image of (box, score, class id), one box at a time, in double precision."""
    results = []
    for located, raw in zip(locations.astype(float), raw_scores.astype(float), strict=True):
        if spec.score_function == "softmax":
            scores = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        else:
            scores = 1 / (1 + np.exp(-raw))
        scores = scores[:, int(spec.background) :]
        chosen = range(len(spec.labels)) if selection.classes is None else selection.classes
        candidates = {}
        for c in sorted(chosen):
            group = 0 if selection.nms.class_agnostic else c
            for n in np.flatnonzero(scores[:, c] >= selection.score):
                candidates.setdefault(group, []).append((scores[n, c], n, c))
        kept = []
        for group in candidates.values():
            kept_here = []
            for score, n, c in sorted(group, key=lambda t: -t[0])[: selection.nms.before]:
                cx, cy, w, h = defaults[n].astype(float)
                dx, dy, dw, dh = located[n] * np.array(spec.coding.variances)
                cx, cy, w, h = cx + dx * w, cy + dy * h, w * np.exp(dw), h * np.exp(dh)
                box = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1)
                if all(naive_iou(box, other) <= selection.nms.iou for other, _, _ in kept_here):
                    kept_here.append((box, score, c))
            kept += kept_here
        results.append(sorted(kept, key=lambda t: -t[1])[: selection.nms.after])
    return results


def case(spec, seed, batch=3, scale=1.0):
    random = np.random.default_rng(seed)
    n = spec.boxes.num_boxes
    locations = random.normal(0, 1, (batch, n, 4)).astype(np.float32)
    raw_scores = random.normal(-3, scale, (batch, n, spec.num_columns)).astype(np.float32)
    return locations, raw_scores, default_boxes(spec.boxes)


def small(spec):
    """The last four maps only, for the oracle's sake."""
    return replace(spec, boxes=replace(spec.boxes, maps=spec.boxes.maps[2:]))


@IMPLEMENTATIONS
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID, NO_BACKGROUND], ids=["softmax", "sigmoid", "no background"])
@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.3, NmsFigures(0.45, 400, 200)),
        Selection(0.1, NmsFigures(0.45, 7, 200)),  # few enter
        Selection(0.1, NmsFigures(0.2, 400, 5)),  # few leave
        Selection(0.1, NmsFigures(0.45, 400, 200, class_agnostic=True)),
        Selection(0.1, NmsFigures(0.45, 400, 200), classes=(3, 1)),
        Selection(0.999, NmsFigures()),  # nothing is left
    ],
    ids=["plain", "before", "after", "agnostic", "classes", "nothing"],
)
def test_against_the_oracle(run, spec, selection):
    spec = small(spec)
    inputs = case(spec, seed=5, scale=2.0)
    boxes, scores, class_ids, images = run(*inputs, spec, selection)
    expected = oracle(*inputs, spec, selection)
    assert images.tolist() == [i for i, found in enumerate(expected) for _ in found]
    flat = [item for found in expected for item in found]
    assert class_ids.tolist() == [c for _, _, c in flat]
    np.testing.assert_allclose(scores, [s for _, s, _ in flat], rtol=1e-4)
    np.testing.assert_allclose(boxes, np.array([b for b, _, _ in flat]).reshape(-1, 4), atol=1e-5)
    assert len(flat) > 5 or selection.score == 0.999


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_torch_and_numpy_agree_on_whole_networks(spec):
    inputs = case(spec, seed=1, batch=2)
    selection = Selection(0.2, NmsFigures())
    ours, theirs = in_torch(*inputs, spec, selection), host.postprocess(*inputs, spec, selection)
    assert len(ours[0]) > 50
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("score", [0.01, 0.5, 0.9999])
@pytest.mark.parametrize("agnostic", [False, True], ids=["by class", "agnostic"])
def test_the_device_needs_no_help(spec, score, agnostic, monkeypatch):
    """With a usual network the limits suffice, and nothing is computed on the host."""
    inputs = case(spec, seed=8, batch=2)
    selection = Selection(score, NmsFigures(class_agnostic=agnostic))
    expected = host.postprocess(*inputs, spec, selection)
    monkeypatch.delattr(host, "postprocess")
    for a, b in zip(in_torch(*inputs, spec, selection), expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("limit", "value", "figures"),
    [
        ("ROUNDS", 1, NmsFigures(0.05, 400, 200)),
        ("CROWD", 1, NmsFigures(0.05, 400, 60)),
        ("MOST", 100, NmsFigures(0.45, 400, 200)),
    ],
)
def test_what_the_limits_do_not_suffice_for(limit, value, figures, monkeypatch):
    """It is told, and the twin does it; every image of the batch is right."""
    inputs = case(SOFTMAX, seed=9, batch=2)
    selection = Selection(0.2, figures)
    expected = host.postprocess(*inputs, SOFTMAX, selection)
    asked = []
    whole = host.postprocess
    monkeypatch.setattr(host, "postprocess", lambda *arguments: asked.append(1) or whole(*arguments))
    monkeypatch.setattr(postprocess, limit, value)
    for a, b in zip(in_torch(*inputs, SOFTMAX, selection), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert asked


@pytest.mark.parametrize("after", [1, 3, 40])
def test_more_candidates_than_are_looked_at_first(after):
    """Thousands of overlapping boxes of one class: the numpy twin widens its search until enough are found."""
    spec = replace(NO_BACKGROUND, labels=("thing",))
    random = np.random.default_rng(10)
    n = spec.boxes.num_boxes
    defaults = np.tile(np.array([[0.5, 0.5, 0.4, 0.4]], np.float32), (n, 1))
    locations = np.zeros((1, n, 4), np.float32)
    locations[0, ::50, 0] = np.linspace(-10, 10, len(locations[0, ::50]))  # a few lie elsewhere
    raw_scores = np.sort(random.normal(3, 1, (1, n, 1)).astype(np.float32), axis=1)[:, ::-1].copy()
    selection = Selection(0.01, NmsFigures(0.45, n, after))
    found = [run(locations, raw_scores, defaults, spec, selection) for run in (in_torch, host.postprocess)]
    expected = oracle(locations, raw_scores, defaults, spec, selection)[0]
    for boxes, scores, *_ in found:
        assert len(boxes) == len(expected)
        np.testing.assert_allclose(scores, [s for _, s, _ in expected], rtol=1e-4)
        np.testing.assert_allclose(boxes, [b for b, _, _ in expected], atol=1e-5)


@IMPLEMENTATIONS
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("agnostic", [False, True], ids=["by class", "agnostic"])
def test_equal_scores_rank_by_class_and_default_box(run, spec, agnostic):
    """Raw scores of three values only, as int8 networks come near to."""
    locations, raw_scores, defaults = case(spec, seed=11, batch=2)
    raw_scores = np.where(raw_scores > -1.5, 2.0, np.where(raw_scores > -2, 1.0, -9.0)).astype(np.float32)
    raw_scores[..., 0] = -9
    selection = Selection(0.05, NmsFigures(0.45, 400, 200, class_agnostic=agnostic))
    boxes, scores, class_ids, images = run(locations, raw_scores, defaults, spec, selection)
    assert len(np.unique(scores.round(4))) < len(scores) / 3
    for image in range(2):
        of_image = images == image
        order = np.lexsort((class_ids[of_image], -scores[of_image])) if not agnostic else np.arange(of_image.sum())
        assert order.tolist() == list(range(of_image.sum()))
    for a, b in zip(
        (boxes, scores, class_ids, images), in_torch(locations, raw_scores, defaults, spec, selection), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


@IMPLEMENTATIONS
def test_order_and_range(run):
    boxes, scores, _, images = run(*case(SOFTMAX, seed=2), SOFTMAX, Selection(0.05, NmsFigures()))
    assert boxes.dtype == np.float32
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (np.diff(images) >= 0).all()
    assert (np.diff(scores)[np.diff(images) == 0] <= 0).all()


@IMPLEMENTATIONS
def test_the_batch_changes_nothing(run):
    locations, raw_scores, defaults = case(SIGMOID, seed=3, batch=4)
    selection = Selection(0.2, NmsFigures())
    whole = run(locations, raw_scores, defaults, SIGMOID, selection)
    for i in range(4):
        alone = run(locations[i : i + 1], raw_scores[i : i + 1], defaults, SIGMOID, selection)
        for together, single in zip(whole[:3], alone[:3], strict=True):
            np.testing.assert_array_equal(together[whole[3] == i], single)


@IMPLEMENTATIONS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_wild_numbers_do_no_harm(run, spec):
    """An untrained or badly trained network may say anything finite."""
    locations, raw_scores, defaults = case(spec, seed=4, batch=1)
    boxes, scores, _, _ = run(locations * 1e4, raw_scores * 1e4, defaults, spec, Selection(0.5, NmsFigures()))
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_the_callers_floating_point_settings_do_not_matter(spec):
    """Who asks numpy to raise must not be told of numbers that are too large or small on purpose."""
    locations, raw_scores, defaults = case(spec, seed=4, batch=1)
    with np.errstate(over="raise", under="raise"):
        boxes, *_ = host.postprocess(locations * 1e3, raw_scores * 1e3, defaults, spec, Selection(0.01, NmsFigures()))
    assert len(boxes)


@IMPLEMENTATIONS
def test_half_precision_in_single_precision_out(run):
    locations, raw_scores, defaults = case(SIGMOID, seed=6, batch=1)
    selection = Selection(0.2, NmsFigures())
    boxes, scores, *_ = run(locations.astype(np.float16), raw_scores.astype(np.float16), defaults, SIGMOID, selection)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu():
    inputs = case(SOFTMAX, seed=7)
    selection = Selection(0.2, NmsFigures())
    on_cuda = postprocess.postprocess(*(torch.from_numpy(part).cuda() for part in inputs), SOFTMAX, selection)
    for a, b in zip(on_cuda, in_torch(*inputs, SOFTMAX, selection), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
