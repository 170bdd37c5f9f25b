from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.detection.detector import prepare
from ssdcam.training import augment as module
from ssdcam.training.augment import (
    LEAST_OVERLAPS,
    NOTHING,
    Augmentation,
    Example,
    augment,
    cropped,
    distorted,
    expanded,
    flipped,
    mosaic,
    view,
    window_iou,
)

SIZE = (90, 120)  # height, width
SEEDS = st.integers(0, 2**32 - 1)


def make(rng, count=3, width=64, height=48):
    low = rng.random((count, 2)) * 0.7
    boxes = np.concatenate([low, low + 0.05 + rng.random((count, 2)) * 0.25], axis=1) * ([width, height] * 2)
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return Example(image, boxes.astype(np.float32), np.arange(count), np.zeros(count, np.bool_))


@given(seed=SEEDS, count=st.integers(0, 6))
def test_inputs_are_whole_and_boxes_inside(seed, count):
    rng = np.random.default_rng(seed)
    got = augment(make(rng, count), SIZE, Augmentation(), rng)
    assert got.image.shape == (*SIZE, 3)
    assert got.image.dtype == np.uint8
    assert got.boxes.dtype == np.float32
    assert len(got.boxes) == len(got.class_ids) == len(got.ignored)
    assert (got.boxes[:, :2] >= 0).all()
    assert (got.boxes[:, 2:] <= [SIZE[1], SIZE[0]]).all()
    assert (got.boxes[:, :2] < got.boxes[:, 2:]).all()
    assert count == 0 or len(got.boxes), "an object is always kept"


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_input(seed):
    example = make(np.random.default_rng(0))
    one, two, other = (augment(example, SIZE, Augmentation(), np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.image.shape == other.image.shape


def test_nothing_is_what_the_detector_sees(rng):
    example = make(rng)
    got = augment(example, SIZE, NOTHING, rng)
    np.testing.assert_array_equal(got.image, prepare([example.image], SIZE)[0])
    np.testing.assert_allclose(got.boxes, example.boxes * np.array([120 / 64, 90 / 48] * 2), rtol=1e-6)


@given(seed=SEEDS, count=st.integers(1, 4))
def test_windows_are_in_the_canvas_and_overlap_an_object(seed, count):
    """Each lot alone, in turn: the only other choice is the whole canvas."""
    rng = np.random.default_rng(seed)
    example = make(rng, count)
    canvas = expanded((0, 0, 64, 48), 4, rng) if seed % 2 else (0, 0, 64, 48)
    for least in LEAST_OVERLAPS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "LEAST_OVERLAPS", (least,))
            window = np.array([cropped(canvas, example.boxes, Augmentation(), rng)])
        x1, y1, x2, y2 = window[0]
        assert canvas[0] <= x1 < x2 <= canvas[2]
        assert canvas[1] <= y1 < y2 <= canvas[3]
        if tuple(window[0]) == canvas:
            continue
        assert window_iou(window, example.boxes).max() >= least
        scale = np.array([(x2 - x1) / (canvas[2] - canvas[0]), (y2 - y1) / (canvas[3] - canvas[1])])
        slack = 1.0 / np.array([x2 - x1, y2 - y1])  # windows are whole pixels
        assert 0.5 * (1 - slack.sum()) <= scale[0] / scale[1] <= 2 * (1 + slack.sum() * 2)
        assert np.sqrt(scale.prod()) >= 0.3 * (1 - slack.sum())


def test_all_lots_come(rng):
    """Of photos with one object in the middle, about a seventh stay whole, and windows of every overlap come."""
    boxes = np.array([[16, 12, 48, 36]], np.float32)
    windows = np.array([cropped((0, 0, 64, 48), boxes, Augmentation(), rng) for _ in range(700)])
    whole = (windows == [0, 0, 64, 48]).all(axis=1).mean()
    assert 0.08 < whole < 0.25
    overlaps = window_iou(windows, boxes)[:, 0]
    assert (np.histogram(overlaps, [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])[0][1:5] > 20).all()


@given(seed=SEEDS)
def test_objects_are_kept_by_their_centre(seed):
    rng = np.random.default_rng(seed)
    example = make(rng, 6)
    x1, y1 = rng.integers(-20, 40), rng.integers(-20, 30)
    window = (int(x1), int(y1), int(x1 + rng.integers(8, 60)), int(y1 + rng.integers(8, 60)))
    got = view(example, window, SIZE, NOTHING, rng)
    kept = [
        i for i, (a, b, c, d) in enumerate(example.boxes.tolist())
        if window[0] <= (a + c) / 2 < window[2] and window[1] <= (b + d) / 2 < window[3]
    ]  # fmt: skip
    assert got.class_ids.tolist() == kept
    scale = np.array([SIZE[1] / (window[2] - window[0]), SIZE[0] / (window[3] - window[1])] * 2)
    clipped = example.boxes[kept].clip(np.array(window)[[0, 1, 0, 1]], np.array(window)[[2, 3, 2, 3]])
    np.testing.assert_allclose(got.boxes, (clipped - np.array(window)[[0, 1, 0, 1]]) * scale, atol=1e-3)


def test_objects_and_pixels_stay_together(rng):
    """A white object on black: where the box says, there is white, whatever was done but colours."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, 20:50] = 255
    example = Example(image, np.array([[20, 10, 50, 30]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    how = Augmentation(colour=0, mean=(0, 0, 0))
    for _ in range(200):
        got = augment(example, (300, 300), how, rng)
        x1, y1, x2, y2 = got.boxes[0]
        inside = np.zeros((300, 300), np.bool_)
        inside[int(y1 + 0.5) : int(y2 + 0.5), int(x1 + 0.5) : int(x2 + 0.5)] = True
        white = got.image[..., 0] > 127
        assert (white & inside).sum() / (white | inside).sum() > 0.9


def test_expanding_puts_the_photo_on_a_canvas_of_means(rng):
    sides = []
    for _ in range(300):
        x1, y1, x2, y2 = expanded((0, 0, 64, 48), 4, rng)
        assert x1 <= 0
        assert y1 <= 0
        assert x2 >= 64
        assert y2 >= 48
        sides.append((x2 - x1) / 64)
    assert min(sides) < 1.2
    assert 3.8 < max(sides) <= 4
    got = view(make(rng), (-64, -48, 0, 0), (10, 10), Augmentation(), rng)  # beside the photo
    assert (got.image == [104, 117, 123]).all()
    assert len(got.boxes) == 0


@given(seed=SEEDS)
def test_flipping_twice_is_nothing(seed):
    example = make(np.random.default_rng(seed))
    once = flipped(example)
    np.testing.assert_array_equal(once.image, example.image[:, ::-1])
    np.testing.assert_allclose(
        once.boxes[:, 2] - once.boxes[:, 0], example.boxes[:, 2] - example.boxes[:, 0], atol=1e-4
    )
    twice = flipped(once)
    np.testing.assert_array_equal(twice.image, example.image)
    np.testing.assert_allclose(twice.boxes, example.boxes, atol=1e-4)


def grey(level):
    return np.full((4, 4, 3), level, np.uint8)


def test_brightness_and_contrast_are_of_the_stated_strength(rng):
    bright = replace(NOTHING, colour=1, contrast=(1, 1), saturation=(1, 1), hue=0)
    levels = [int(distorted(grey(100), bright, rng)[0, 0, 0]) for _ in range(400)]
    assert 68 <= min(levels) < 75
    assert 125 < max(levels) <= 132
    contrast = replace(bright, brightness=0, contrast=(0.5, 1.5))
    levels = [int(distorted(grey(100), contrast, rng)[0, 0, 0]) for _ in range(400)]
    assert 50 <= min(levels) < 55
    assert 145 < max(levels) <= 150


def test_hue_goes_round_and_leaves_greys_alone(rng):
    hue = replace(NOTHING, colour=1, brightness=0, contrast=(1, 1), saturation=(1, 1), hue=18)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 255
    turns = []
    for _ in range(200):
        got = distorted(red, hue, rng)
        assert (distorted(grey(90), hue, rng) == 90).all()
        angle = int(cv2.cvtColor(got.astype(np.float32) / 255, cv2.COLOR_BGR2HSV)[0, 0, 0])
        turns.append(angle - 360 if angle > 180 else angle)
    assert -20 <= min(turns) < -14
    assert 14 < max(turns) <= 20


def test_saturation(rng):
    saturation = replace(NOTHING, colour=1, brightness=0, contrast=(1, 1), hue=0)
    image = np.full((4, 4, 3), (100, 150, 200), np.uint8)
    spread = [int(np.ptp(distorted(image, saturation, rng)[0, 0].astype(int))) for _ in range(300)]
    assert 48 <= min(spread) < 56
    assert 144 < max(spread) <= 152


def test_both_orders_of_contrast_come(rng):
    """Contrast before the saturation's limit at 255 and after it: different greens, and both are seen."""
    how = replace(NOTHING, colour=1, brightness=0, contrast=(1.5, 1.5), saturation=(1.5, 1.5), hue=0)
    image = np.full((2, 2, 3), (90, 200, 120), np.uint8)
    assert len({distorted(image, how, rng)[0, 0].tobytes() for _ in range(50)}) == 2


def test_half_of_the_changes_happen(rng):
    how = replace(Augmentation(), contrast=(1, 1), saturation=(1, 1), hue=0, colour=0.5)
    changed = np.mean([(distorted(grey(100), how, rng) != 100).any() for _ in range(600)])
    assert 0.42 < changed < 0.58


def test_mosaic(rng):
    parts = [make(rng, n) for n in (2, 0, 1, 3)]
    got = mosaic(parts, (100, 120), NOTHING, rng)
    assert got.image.shape == (100, 120, 3)
    assert got.class_ids.tolist() == [0, 1, 0, 0, 1, 2]
    assert (got.boxes >= 0).all()
    assert (got.boxes <= [120, 100, 120, 100]).all()
    # Each part's objects lie in its quarter.
    x, y = got.boxes[:2, 2].max(), got.boxes[:2, 3].max()
    assert (got.boxes[3:, 0] >= x - 120 * 0.7).all()
    assert (got.boxes[3:, :2] >= [36, 30]).all()
    assert x <= 84 + 1
    assert y <= 70 + 1
