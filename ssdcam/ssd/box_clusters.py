"""Default boxes for a data set: k-means over its ground truths' shapes, with IoU for a distance (as in YOLOv2).

Redmon and Farhadi, arXiv 1612.08242, section 2: Euclidean distance would give the large boxes all the clusters. SSD
has several feature maps, so each cluster also needs one to stand on: see :func:`choose_maps`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes, default_boxes
from ssdcam.ssd.host import to_corners

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MATCH = 0.5
"""IoU from which a default box answers for a ground truth (paper, section 2.2)."""

# The mean of a cluster does not minimise the sum of its IoU distances, so the rounds could go in a circle.
_MOST_ROUNDS = 300

_AT_ONCE = 2**22  # numbers in memory at a time


class Overlaps(NamedTuple):
    """How well default boxes cover N ground truths."""

    best: Floats
    """``(N,)``, each ground truth's largest IoU with a default box."""
    maps: Integers
    """``(N,)``, the feature map of that default box; of equal ones, the finest."""

    @property
    def recall(self) -> float:
        """The share of ground truths that some default box overlaps by :data:`MATCH` at least."""
        return float((self.best >= MATCH).mean())


def shape_iou(a: Floats, b: Floats) -> Floats:
    """IoU ``(N, M)`` of boxes with a common centre, from their shapes ``(N, 2)`` and ``(M, 2)``, width and height."""
    intersection = np.minimum(a[:, :1], b[:, 0]) * np.minimum(a[:, 1:], b[:, 1])
    overlaps: Floats = intersection / (a.prod(axis=1)[:, None] + b.prod(axis=1) - intersection)
    return overlaps


def first_centres(shapes: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Where k-means begins: shapes far from each other (k-means++, Arthur and Vassilvitskii, 2007).

    Args:
        shapes: ``(N, 2)``, width and height, positive; one at least.
        count: how many to choose.
        rng: what chance comes from.

    Returns:
        ``(count, 2)``, or fewer if there are fewer shapes that differ.
    """
    centres = shapes[rng.integers(len(shapes), size=1)]
    distances = np.ones(len(shapes))
    while len(centres) < count:
        distances = np.minimum(distances, 1 - shape_iou(shapes, centres[-1:])[:, 0])
        if distances.sum() <= 0:
            break
        centres = np.vstack([centres, shapes[rng.choice(len(shapes), p=distances / distances.sum())]])
    return centres


def cluster(shapes: Floats, count: int, seed: int = 0) -> Floats:
    """k-means with distance ``1 - IoU``: the mean shape of each cluster.

    Args:
        shapes: ``(N, 2)``, width and height, positive; one at least.
        count: how many clusters.
        seed: what chance comes from.

    Returns:
        ``(count, 2)``, by rising area, of equal areas the narrowest first; fewer if there are fewer distinct shapes, or
        if a cluster ends up empty.
    """
    centres = np.unique(shapes, axis=0)
    if len(centres) > count:
        centres = _settle(shapes, first_centres(shapes, count, np.random.default_rng(seed)))
    return centres[np.lexsort((centres[:, 0], centres.prod(axis=1)))]


def _settle(shapes: Floats, centres: Floats) -> Floats:
    """Lloyd's rounds: each shape to its nearest centre, each centre to the mean of its shapes."""
    nearest = _nearest(shapes, centres)
    for _ in range(_MOST_ROUNDS):
        members = np.bincount(nearest, minlength=len(centres))
        sums = [np.bincount(nearest, weights=shapes[:, side], minlength=len(centres)) for side in (0, 1)]
        # An empty cluster stays where it was: shapes may come to it again.
        centres = np.where(members[:, None] > 0, np.stack(sums, axis=1) / np.maximum(members, 1)[:, None], centres)
        before, nearest = nearest, _nearest(shapes, centres)
        if np.array_equal(nearest, before):
            break
    return centres[np.unique(nearest)]


def _nearest(shapes: Floats, centres: Floats) -> Integers:
    block = max(1, _AT_ONCE // len(centres))
    parts = (shapes[i : i + block] for i in range(0, len(shapes), block))
    return np.concatenate([shape_iou(part, centres).argmax(axis=1) for part in parts])


def sure_overlap(shapes: Floats, m: FeatureMapBoxes) -> Floats:
    """The IoU that a default box of a ground truth's own shape is sure to have with it, wherever in the picture it is.

    The default box at the nearest cell's centre is off by half a step along each axis at worst; by less where the
    ground truth is so large that it cannot leave the middle of the picture.

    Args:
        shapes: ``(N, 2)``, width and height relative to the picture.
        m: the feature map; its shapes do not matter.

    Returns:
        ``(N,)``, 0 to 1; default boxes are taken as not clipped.
    """
    counts = (m.columns, m.rows)
    off = [_farthest(shapes[:, axis], counts[axis], m.step[axis]) for axis in (0, 1)]
    common: Floats = (1 - np.stack(off, axis=1) / shapes).clip(min=0).prod(axis=1)
    return common / (2 - common)


def _farthest(sides: Floats, count: int, step: float) -> Floats:
    """How far from the nearest cell's centre the middle of a box inside the picture can be, along one axis."""
    low = np.minimum(sides / 2, 0.5)
    ends = np.stack([low, 1 - low])
    centres = (np.arange(count) + 0.5) * step
    between = centres[1:] - step / 2
    at_ends: Floats = np.abs(ends[..., None] - centres).min(axis=2).max(axis=0)
    passes = ((between >= ends[0][:, None]) & (between <= ends[1][:, None])).any(axis=1)
    return np.where(passes, np.maximum(at_ends, step / 2), at_ends)


def choose_maps(shapes: Floats, layout: BoxLayout) -> Integers:
    """The feature map that each shape stands on: the coarsest whose cells are fine enough.

    Fine enough means that a ground truth of that shape is matched (:data:`MATCH`) wherever it is: finer cells would
    cost boxes for what is found already, coarser ones would miss it between their centres. The largest field of view
    that does goes with it. What no map is fine enough for stands on the finest.

    Args:
        shapes: ``(N, 2)``, width and height relative to the picture.
        layout: the feature maps, finest first; their shapes do not matter.

    Returns:
        ``(N,)``, places among the maps.
    """
    enough = np.stack([sure_overlap(shapes, m) >= MATCH for m in layout.maps], axis=1)
    coarsest = enough.shape[1] - 1 - enough[:, ::-1].argmax(axis=1)
    return np.where(enough.any(axis=1), coarsest, 0)


def cluster_layout(shapes: Floats, own: BoxLayout, clusters: int | None = None, seed: int = 0) -> BoxLayout:
    """Default boxes of the shapes that a data set has.

    A feature map without a cluster gets the one that is nearest to being a match for sure there and no more: a network
    has predictors on every map.

    Args:
        shapes: ``(N, 2)``, the ground truths' widths and heights relative to the picture; one at least.
        own: a network's own default boxes. The feature maps, their steps and the clipping are taken over, and their
            number is the limit.
        clusters: how many shapes to look for. None is as many as make no more default boxes than ``own`` (looked for
            by halving), and no more than ``own`` has shapes.
        seed: what chance comes from.

    Raises:
        ValueError: ``clusters`` would make more default boxes than ``own`` has.
    """
    if clusters is not None:
        layout = _stand(cluster(shapes, clusters, seed), own)
        if layout.num_boxes > own.num_boxes:
            raise ValueError(
                f"{clusters} clusters make {layout.num_boxes:,} default boxes, more than the network's own "
                f"{own.num_boxes:,}"
            )
        return layout
    fits, fails = 1, sum(own.boxes_per_cell) + 1
    found = _stand(cluster(shapes, 1, seed), own)
    while fails - fits > 1:
        count = (fits + fails) // 2
        layout = _stand(cluster(shapes, count, seed), own)
        if layout.num_boxes <= own.num_boxes:
            fits, found = count, layout
        else:
            fails = count
    return found


def _stand(centres: Floats, own: BoxLayout) -> BoxLayout:
    """A layout of clusters, each on its feature map."""
    chosen = choose_maps(centres, own)
    maps = []
    for number, m in enumerate(own.maps):
        here = centres[chosen == number]
        if len(here) == 0:
            here = centres[[np.abs(sure_overlap(centres, m) - MATCH).argmin()]]
        maps.append(FeatureMapBoxes(m.rows, m.columns, tuple((w, h) for w, h in here.tolist()), m.step))
    return BoxLayout(tuple(maps), own.clip)


def best_overlaps(truths: Floats, layout: BoxLayout) -> Overlaps:
    """How well default boxes, each at its place, cover ground truths: what matching has to choose from.

    Args:
        truths: ``(N, 4)``, ``x1, y1, x2, y2`` relative to the picture, of positive size.
        layout: the default boxes.
    """
    boxes = np.asarray(to_corners(default_boxes(layout).astype(np.float64)), np.float64)
    ends = np.cumsum([m.num_boxes for m in layout.maps])
    best = np.empty((len(layout.maps), len(truths)))
    for number, (m, end) in enumerate(zip(layout.maps, ends.tolist(), strict=True)):
        grid = boxes[end - m.num_boxes : end].reshape(m.rows, m.columns, len(m.shapes), 4)
        one_place = layout.clip == "none"
        block = max(1, _AT_ONCE // (len(m.shapes) if one_place else m.num_boxes))
        for i in range(0, len(truths), block):
            best[number, i : i + block] = _best_on_map(truths[i : i + block], grid, m, one_place)
    return Overlaps(best.max(axis=0), best.argmax(axis=0))


def _best_on_map(truths: Floats, grid: Floats, m: FeatureMapBoxes, one_place: bool) -> Floats:
    """Each ground truth's largest IoU with the default boxes ``(rows, columns, shapes, 4)`` of a map.

    Of boxes that are all alike, the one with the nearest centre overlaps most, and only its cell is looked at
    (``one_place``); clipping makes those at the picture's edges smaller, and then every cell is.
    """
    places = []
    for axis, count in ((0, m.columns), (1, m.rows)):
        middle = truths[:, axis::2].mean(axis=1)
        nearest = np.rint(middle / m.step[axis] - 0.5).clip(0, count - 1).astype(np.int64)
        places.append(nearest[:, None] if one_place else np.arange(count)[None])
    # Where a box begins and ends along x depends on its column and shape alone, along y on its row and shape.
    across, wide = _common(grid[0, :, :, 0::2][places[0]], truths[:, 0::2])
    down, tall = _common(grid[:, 0, :, 1::2][places[1]], truths[:, 1::2])
    intersection = down[:, :, None] * across[:, None]
    areas = (truths[:, 2:] - truths[:, :2]).prod(axis=1)[:, None, None, None]
    overlaps = intersection / (areas + tall[:, :, None] * wide[:, None] - intersection)
    return np.asarray(overlaps.reshape(len(truths), -1).max(axis=1))


def _common(spans: Floats, truths: Floats) -> tuple[Floats, Floats]:
    """What spans ``(N or 1, places, shapes, 2)`` share with those of the truths ``(N, 2)``, and their lengths."""
    low, high = truths[:, 0, None, None], truths[:, 1, None, None]
    common = np.minimum(spans[..., 1], high) - np.maximum(spans[..., 0], low)
    return common.clip(min=0), spans[..., 1] - spans[..., 0]
