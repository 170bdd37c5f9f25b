"""From raw output to boxes, in torch and in numpy, against one naive oracle written from the paper."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdcam.errors import CheckpointError
from ssdcam.ssd import host, postprocess
from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes, default_boxes
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
    """Without the two finest maps, for the oracle's sake."""
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
    ("score", "figures"),
    [(0.5, NmsFigures(after=512)), (0.01, NmsFigures(0, 400, 1, class_agnostic=True))],
    ids=["as many as may meet", "as many kept as wanted"],
)
def test_limits_met_exactly_are_enough(score, figures, monkeypatch):
    """512 boxes are wanted of 2048 that may meet; one is wanted of four that meet, and three are suppressed."""
    locations, raw_scores, defaults = case(NO_BACKGROUND, seed=16, batch=1)
    defaults[:] = defaults[-1]
    arguments = 0 * locations, raw_scores, defaults, NO_BACKGROUND, Selection(score, figures)
    expected = host.postprocess(*arguments)
    assert len(expected[0])
    monkeypatch.delattr(host, "postprocess")
    for a, b in zip(in_torch(*arguments), expected, strict=True):
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
    locations, raw_scores, defaults = case(SIGMOID, seed=3, batch=6)
    selection = Selection(0.2, NmsFigures())
    whole = run(locations, raw_scores, defaults, SIGMOID, selection)
    for i in range(6):
        alone = run(locations[i : i + 1], raw_scores[i : i + 1], defaults, SIGMOID, selection)
        for together, single in zip(whole[:3], alone[:3], strict=True):
            np.testing.assert_array_equal(together[whole[3] == i], single)


@IMPLEMENTATIONS
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0]], ids=["crowd first", "crowd last"])
def test_a_crowd_beside_an_image_with_little(run, order):
    """Of the crowd only the best are looked at; of the others all, however low their scores."""
    locations, raw_scores, defaults = case(SIGMOID, seed=13)
    raw_scores += np.array([[[3.0]], [[-1.5]], [[-1.5]]], np.float32)
    locations, raw_scores = locations[order], raw_scores[order]
    selection = Selection(0.2, NmsFigures(after=10))
    whole = run(locations, raw_scores, defaults, SIGMOID, selection)
    for i in range(3):
        alone = run(locations[i : i + 1], raw_scores[i : i + 1], defaults, SIGMOID, selection)
        assert len(alone[0])
        for together, single in zip(whole[:3], alone[:3], strict=True):
            np.testing.assert_allclose(together[whole[3] == i], single, atol=1e-6)


@IMPLEMENTATIONS
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID, NO_BACKGROUND], ids=["softmax", "sigmoid", "no background"])
def test_some_classes_are_found_as_among_all(run, spec):
    """Whichever they are: none, one, neighbours, or with gaps."""
    spec = small(small(spec))
    inputs = case(spec, seed=14, batch=2, scale=2.0)
    figures = NmsFigures(after=500)
    boxes, scores, class_ids, images = run(*inputs, spec, Selection(0.3, figures))
    assert set(class_ids.tolist()) == set(range(5))
    for chosen in (chosen for n in range(6) for chosen in itertools.combinations(range(5), n)):
        which = np.isin(class_ids, chosen)
        some = run(*inputs, spec, Selection(0.3, figures, chosen))
        for part, whole in zip(some, (boxes, scores, class_ids, images), strict=True):
            assert part.dtype == whole.dtype
            np.testing.assert_array_equal(part, whole[which])


@IMPLEMENTATIONS
def test_no_images(run):
    locations, raw_scores, defaults = case(SOFTMAX, seed=0, batch=1)
    found = run(locations[:0], raw_scores[:0], defaults, SOFTMAX, Selection(0.1, NmsFigures()))
    assert [part.shape for part in found] == [(0, 4), (0,), (0,), (0,)]


def raw_of(spec, scores):
    """Raw scores ``(1, N, C)`` by which the default boxes of those places have those raw scores for label 0, and no
    other has any worth speaking of."""
    raw = np.full((1, spec.boxes.num_boxes, spec.num_columns), -100, np.float32)
    raw[..., 0] = 0 if spec.background else -100
    for place, score in scores.items():
        raw[0, place, int(spec.background)] = score
    return raw


@IMPLEMENTATIONS
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID, NO_BACKGROUND], ids=["softmax", "sigmoid", "no background"])
@pytest.mark.parametrize("place", [0, 1, 700])
def test_a_score_equal_to_the_threshold_stays(run, spec, place):
    """Half: a raw score of 0, which in a softmax is the background's, too."""
    locations = np.zeros((1, spec.boxes.num_boxes, 4), np.float32)
    arguments = locations, raw_of(spec, {place: 0.0}), default_boxes(spec.boxes), spec
    boxes, scores, class_ids, _ = run(*arguments, Selection(0.5, NmsFigures()))
    assert (scores.tolist(), class_ids.tolist()) == ([0.5], [0])
    np.testing.assert_allclose(boxes, host.to_corners(arguments[2][[place]]).clip(0, 1), atol=1e-6)
    assert not len(run(*arguments, Selection(float(np.nextafter(np.float32(0.5), np.float32(1))), NmsFigures()))[0])


@IMPLEMENTATIONS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_thresholds_of_0_and_1(run, spec):
    """All is above 0; float32 has scores of 1."""
    spec = small(spec)
    raw, defaults = raw_of(spec, {3: 50.0, 200: 1.0}), default_boxes(spec.boxes)
    locations = np.zeros((1, len(defaults), 4), np.float32)
    assert run(locations, raw, defaults, spec, Selection(1, NmsFigures()))[1].tolist() == [1]
    everything = run(locations, raw, defaults, spec, Selection(0, NmsFigures(1, len(defaults), 10 * len(defaults))))
    assert len(everything[0]) == len(defaults) * len(LABELS)
    assert everything[1][:2] == pytest.approx([1, 1 / (1 + np.exp(-1))])


@pytest.mark.parametrize("score", [1e-6, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_few_scores_below_the_threshold_are_computed(score):
    """The limit of raw scores lies just below the threshold's logit."""
    logit = -np.log(1 / score - 1)
    assert logit - 0.02 < host._least_logit(score) < logit - 0.001


@IMPLEMENTATIONS
def test_a_softmax_does_not_change_when_all_raw_scores_rise(run):
    """By another number at each default box, as large as the exponential cannot take."""
    spec = small(SOFTMAX)
    locations, raw_scores, defaults = case(spec, seed=15, batch=2, scale=2.0)
    raw_scores = (raw_scores * 64).round() / 64  # exact in float32 with the numbers below, too
    rise = np.random.default_rng(15).integers(-500, 500, (*raw_scores.shape[:2], 1)).astype(np.float32)
    selection = Selection(0.2, NmsFigures())
    expected = run(locations, raw_scores, defaults, spec, selection)
    assert len(expected[0]) > 20
    for a, b in zip(run(locations, raw_scores + rise, defaults, spec, selection), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@IMPLEMENTATIONS
def test_an_iou_equal_to_the_threshold_does_not_suppress(run):
    """Half a box and the whole box have an IoU of exactly a half."""
    shapes = ((0.5, 0.5), (0.5, 0.25))
    spec = replace(NO_BACKGROUND, labels=("thing",), boxes=BoxLayout((FeatureMapBoxes(1, 1, shapes, (1, 1)),)))
    locations, raw = np.zeros((1, 2, 4), np.float32), np.array([[[1.0], [0.0]]], np.float32)
    for iou, expected in ((0.5, 2), (0.499, 1)):
        found = run(locations, raw, default_boxes(spec.boxes), spec, Selection(0.3, NmsFigures(iou)))
        assert len(found[0]) == expected


@IMPLEMENTATIONS
@pytest.mark.parametrize("after", [1, 2, 7])
@pytest.mark.parametrize("agnostic", [False, True], ids=["by class", "agnostic"])
def test_a_crowd_of_equal_scores(run, after, agnostic):
    """Hundreds of just the threshold; the first default boxes are kept, for none overlaps another by more than 1."""
    spec = small(small(NO_BACKGROUND))
    locations, raw_scores, defaults = case(spec, seed=0, batch=2)
    raw_scores[:] = 0.0
    selection = Selection(0.5, NmsFigures(1.0, 5000, after, class_agnostic=agnostic))
    boxes, _, class_ids, images = run(0 * locations, raw_scores, defaults, spec, selection)
    places, classes = np.arange(after), np.zeros(after)
    if agnostic:
        places, classes = np.divmod(places, len(LABELS))
    assert images.tolist() == [0] * after + [1] * after
    assert class_ids.tolist() == [*classes, *classes]
    np.testing.assert_allclose(boxes[:after], host.to_corners(defaults[places]).clip(0, 1), atol=1e-6)


@IMPLEMENTATIONS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_wild_numbers_do_no_harm(run, spec):
    """An untrained or badly trained network may say anything finite."""
    locations, raw_scores, defaults = case(spec, seed=4, batch=1)
    boxes, scores, _, _ = run(locations * 1e4, raw_scores * 1e4, defaults, spec, Selection(0.5, NmsFigures()))
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()


@IMPLEMENTATIONS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("output", ["locations", "scores"])
def test_output_that_is_no_number_is_no_empty_picture(run, spec, wrong, output):
    """As of a damaged checkpoint, or of one that overflows half precision."""
    locations, raw_scores, defaults = case(spec, seed=4, batch=2)
    best = raw_scores[1].max(axis=1).argmax()
    raw_scores[1, best, 0 if spec.background else slice(None)] = -50 if spec.background else 50
    (locations if output == "locations" else raw_scores)[1, best, 1] = wrong
    with np.errstate(all="raise"), pytest.raises(CheckpointError, match="infinite or no number"):
        run(locations, raw_scores, defaults, spec, Selection(0.5, NmsFigures()))


@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_the_callers_floating_point_settings_do_not_matter(spec):
    """Who asks numpy to raise must not be told of numbers that are too large or small on purpose."""
    locations, raw_scores, defaults = case(spec, seed=4, batch=1)
    with np.errstate(over="raise", under="raise"):
        boxes, *_ = host.postprocess(locations * 1e3, raw_scores * 1e3, defaults, spec, Selection(0.01, NmsFigures()))
    assert len(boxes)


@IMPLEMENTATIONS
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_half_precision_in_single_precision_out(run, spec):
    """Scores are computed in single precision, too."""
    locations, raw_scores, defaults = case(spec, seed=6, batch=1)
    halves = locations.astype(np.float16), raw_scores.astype(np.float16)
    boxes, scores, *_ = run(*halves, defaults, spec, Selection(0.2, NmsFigures()))
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert (scores != scores.astype(np.float16)).any()


@IMPLEMENTATIONS
@pytest.mark.filterwarnings("error")
def test_finite_numbers_whose_sum_is_not_are_numbers(run):
    locations, raw_scores, defaults = case(SOFTMAX, seed=6, batch=1)
    boxes, *_ = run(locations, 0 * raw_scores + 3e38, defaults, SOFTMAX, Selection(0.5, NmsFigures()))
    assert len(boxes) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu():
    inputs = case(SOFTMAX, seed=7)
    selection = Selection(0.2, NmsFigures())
    on_cuda = postprocess.postprocess(*(torch.from_numpy(part).cuda() for part in inputs), SOFTMAX, selection)
    for a, b in zip(on_cuda, in_torch(*inputs, SOFTMAX, selection), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
