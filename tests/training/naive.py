"""Matching, mining and loss once more, in numpy, box by box, as the paper tells it."""

from __future__ import annotations

import numpy as np


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def match(boxes, defaults, ignored, threshold=0.5):
    """Index of the ground truth of each default box, -1 background, -2 ignored."""
    matched = [-1] * len(defaults)
    truths = [g for g in range(len(boxes)) if not ignored[g]]
    overlaps = {(g, d): iou(boxes[g], defaults[d]) for g in truths for d in range(len(defaults))}
    for d in range(len(defaults)):
        best = max(truths, key=lambda g: (overlaps[g, d], -g), default=None)
        if best is not None and overlaps[best, d] >= threshold:
            matched[d] = best
    pairs = dict(overlaps)
    while pairs:
        g, d = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        if pairs[g, d] <= 0:
            break
        matched[d] = g
        pairs = {pair: value for pair, value in pairs.items() if pair[0] != g and pair[1] != d}
    for d, default in enumerate(defaults):
        if matched[d] == -1 and any(ignored[g] and covered(boxes[g], default) >= 0.5 for g in range(len(boxes))):
            matched[d] = -2
    return matched


def covered(box, default):
    width = max(min(box[2], default[2]) - max(box[0], default[0]), 0)
    height = max(min(box[3], default[3]) - max(box[1], default[1]), 0)
    return width * height / ((default[2] - default[0]) * (default[3] - default[1]))


def encode(box, default, variances):
    (x1, y1, x2, y2), (cx, cy, w, h) = box, default
    raw = ((x1 + x2) / 2 - cx) / w, ((y1 + y2) / 2 - cy) / h, np.log((x2 - x1) / w), np.log((y2 - y1) / h)
    return np.array(raw) / variances


def smooth_l1(errors):
    return sum(0.5 * e * e if abs(e) < 1 else abs(e) - 0.5 for e in errors)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def classification_losses(scores, matched, class_ids, known, kind, alpha=0.75, gamma=2.0):
    """Each box's loss; scores ``(N, columns)`` with a background column for softmax and none otherwise."""
    losses = []
    for row, truth in zip(scores, matched, strict=True):
        wanted = class_ids[truth] if truth >= 0 else None
        if kind == "softmax":
            columns = [0] + [c + 1 for c in range(len(known)) if known[c]]
            target = 0 if wanted is None else wanted + 1
            losses.append(np.log(sum(np.exp(row[c]) for c in columns)) - row[target])
            continue
        loss = 0.0
        for c in (c for c in range(len(known)) if known[c]):
            p = sigmoid(row[c])
            if c == wanted:
                loss += -np.log(p) * (alpha * (1 - p) ** gamma if kind == "focal" else 1)
            else:
                loss += -np.log(1 - p) * ((1 - alpha) * p**gamma if kind == "focal" else 1)
        losses.append(loss)
    return np.array(losses)


def loss_sums(locations, scores, boxes, class_ids, ignored, known, defaults, variances, kind, ratio=3):
    """Localisation and classification sums of one picture, and its positives."""
    corners = np.concatenate([defaults[:, :2] - defaults[:, 2:] / 2, defaults[:, :2] + defaults[:, 2:] / 2], axis=1)
    matched = match(boxes, corners, ignored)
    positive = [d for d, g in enumerate(matched) if g >= 0]
    location = sum(smooth_l1(locations[d] - encode(boxes[matched[d]], defaults[d], variances)) for d in positive)
    losses = classification_losses(scores, matched, class_ids, known, kind)
    background = [d for d, g in enumerate(matched) if g == -1]
    if kind != "focal":
        background = sorted(background, key=lambda d: -losses[d])[: int(ratio * max(len(positive), 1))]
    return location, losses[positive].sum() + losses[background].sum(), len(positive)
