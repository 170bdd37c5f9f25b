"""Default boxes: where they stand and how large they are (paper, section 2.2).

A layout is plain data, one entry a feature map, so that every SSD ever published can be written down, stored in a
checkpoint and turned into boxes without its network. Boxes are centre-form ``cx, cy, w, h``, relative to the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Clip = Literal["none", "centre", "size", "corners"]
"""What is limited to 0..1: nothing; ``cx, cy, w, h``; only ``w, h``; or the corners of the box."""

Shape = tuple[float, float]
"""Width and height of a default box, relative to the image's."""


# More than any network has by a factor of forty; a layout that claims more is damaged, and would only fill memory.
_MOST_BOXES = 1_000_000


@dataclass(frozen=True)
class FeatureMapBoxes:
    """The default boxes of one feature map.

    Attributes:
        rows, columns: size of the feature map in cells.
        shapes: width and height of each default box of a cell, relative to the image.
        step: distance between neighbouring centres along x and y, relative to the image.
    """

    rows: int
    columns: int
    shapes: tuple[Shape, ...]
    step: tuple[float, float]

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or not self.shapes:
            raise ValueError(f"a {self.rows}x{self.columns} feature map with {len(self.shapes)} shapes has no boxes")
        if not all(0 < side < np.inf for shape in (*self.shapes, self.step) for side in shape):
            raise ValueError("shapes and steps of default boxes must be positive")

    @property
    def num_boxes(self) -> int:
        """Default boxes on this feature map."""
        return self.rows * self.columns * len(self.shapes)


@dataclass(frozen=True)
class BoxLayout:
    """All default boxes of a network, finest feature map first."""

    maps: tuple[FeatureMapBoxes, ...]
    clip: Clip = "none"

    def __post_init__(self) -> None:
        if self.clip not in get_args(Clip):
            raise ValueError(f"clip {self.clip!r} is none of {', '.join(get_args(Clip))}")
        if not self.maps:
            raise ValueError("a box layout needs a feature map")
        if self.num_boxes > _MOST_BOXES:
            raise ValueError(f"{self.num_boxes} default boxes are more than any network has")

    @property
    def num_boxes(self) -> int:
        """Default boxes on all feature maps together."""
        return sum(m.num_boxes for m in self.maps)

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes in a cell of each feature map."""
        return tuple(len(m.shapes) for m in self.maps)


def default_boxes(layout: BoxLayout) -> NDArray[np.float32]:
    """Write a layout out.

    Returns:
        float32 ``(N, 4)``, ``cx, cy, w, h`` relative to the image: feature map by feature map, cells row by row,
        shapes in their order within a cell, the centre of cell i at ``(i + 0.5) * step``.
    """
    boxes = np.concatenate([_map_boxes(m) for m in layout.maps])
    # Nothing is below 0 but low corners.
    if layout.clip == "centre":
        boxes = np.minimum(boxes, 1)
    elif layout.clip == "size":
        boxes[:, 2:] = np.minimum(boxes[:, 2:], 1)
    elif layout.clip == "corners":
        low = (boxes[:, :2] - boxes[:, 2:] / 2).clip(0, 1)
        high = np.minimum(boxes[:, :2] + boxes[:, 2:] / 2, 1)
        boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
    return boxes.astype(np.float32)


def _map_boxes(m: FeatureMapBoxes) -> NDArray[np.float64]:
    boxes = np.empty((m.rows, m.columns, len(m.shapes), 4))
    boxes[..., 0] = ((np.arange(m.columns) + 0.5) * m.step[0])[None, :, None]
    boxes[..., 1] = ((np.arange(m.rows) + 0.5) * m.step[1])[:, None, None]
    boxes[..., 2:] = np.asarray(m.shapes)
    return boxes.reshape(-1, 4)


def paper_scales(num_maps: int, smallest: float = 0.2, largest: float = 0.9) -> tuple[float, ...]:
    """Equation 4: ``s_k = s_min + (s_max - s_min) (k - 1) / (m - 1)``.

    Returns:
        ``num_maps + 1`` scales: the rule is read on for one more k, because the last map's extra square box,
        ``sqrt(s_k s_(k+1))``, needs it.
    """
    if num_maps < 2:
        raise ValueError("the paper's rule spreads scales over two feature maps or more")
    return tuple(smallest + (largest - smallest) * k / (num_maps - 1) for k in range(num_maps + 1))


def paper_shapes(size: Shape, next_size: Shape, ratios: Sequence[float]) -> tuple[Shape, ...]:
    """Default boxes of a cell (section 2.2): the square, the square of size ``sqrt(s_k s_(k+1))``, then wide and tall.

    Args:
        size: this map's scale along x and y; two equal numbers unless the scale was given in pixels of an image
            that is not square.
        next_size: the next map's scale along x and y.
        ratios: aspect ratios above 1; each gives ``w = s sqrt(a), h = s / sqrt(a)`` and its transpose.
    """
    (w, h), (next_w, next_h) = size, next_size
    squares = [(w, h), (sqrt(w * next_w), sqrt(h * next_h))]
    return (*squares, *(s for a in ratios for s in ((w * sqrt(a), h / sqrt(a)), (w / sqrt(a), h * sqrt(a)))))


def layout_from_scales(
    map_sizes: Sequence[tuple[int, int]],
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    *,
    clip: Clip = "none",
) -> BoxLayout:
    """Default boxes from scales relative to the image, centres spread evenly over each map (the paper's rule).

    Args:
        map_sizes: rows and columns of each feature map, finest first.
        scales: one a map and one more.
        ratios: for each map, its aspect ratios above 1.
        clip: what is limited to 0..1.
    """
    if len(scales) != len(map_sizes) + 1:
        raise ValueError(f"{len(map_sizes)} feature maps need {len(map_sizes) + 1} scales, not {len(scales)}")
    return BoxLayout(
        tuple(
            FeatureMapBoxes(rows, columns, paper_shapes((s, s), (n, n), map_ratios), (1 / columns, 1 / rows))
            for (rows, columns), (s, n), map_ratios in zip(map_sizes, pairwise(scales), ratios, strict=True)
        ),
        clip,
    )


def layout_from_sizes(
    input_size: tuple[int, int],
    map_sizes: Sequence[tuple[int, int]],
    steps: Sequence[float],
    sizes: Sequence[float],
    ratios: Sequence[Sequence[float]],
    *,
    clip: Clip = "none",
) -> BoxLayout:
    """Default boxes from sizes and steps in pixels of the network's input, as Caffe's PriorBox layers have them.

    Args:
        input_size: height and width of the network's input in pixels.
        map_sizes: rows and columns of each feature map, finest first.
        steps: for each map, the distance between centres in pixels.
        sizes: ``min_size`` of each map in pixels, then the last map's ``max_size``; each map's ``max_size`` is the
            next one's ``min_size``.
        ratios: for each map, its aspect ratios above 1.
        clip: what is limited to 0..1.
    """
    if len(sizes) != len(map_sizes) + 1:
        raise ValueError(f"{len(map_sizes)} feature maps need {len(map_sizes) + 1} sizes, not {len(sizes)}")
    height, width = input_size
    relative = [(size / width, size / height) for size in sizes]
    return BoxLayout(
        tuple(
            FeatureMapBoxes(rows, columns, paper_shapes(s, n, map_ratios), (step / width, step / height))
            for (rows, columns), step, (s, n), map_ratios in zip(
                map_sizes, steps, pairwise(relative), ratios, strict=True
            )
        ),
        clip,
    )


def layout_tensorflow(
    map_sizes: Sequence[tuple[int, int]], *, smallest: float = 0.2, largest: float = 0.95, clip: Clip = "none"
) -> BoxLayout:
    """Default boxes of TensorFlow's ``ssd_anchor_generator``: ratios 1, 2, 1/2, 3, 1/3, then the extra square.

    The first map is reduced to three boxes: a square of scale 0.1, and the ratios 2 and 1/2.

    Args:
        map_sizes: rows and columns of each feature map, finest first.
        smallest: scale of the first map.
        largest: scale of the last map.
        clip: what is limited to 0..1.
    """
    scales = [*paper_scales(len(map_sizes), smallest, largest)[:-1], 1.0]
    maps = []
    for k, ((rows, columns), (s, n)) in enumerate(zip(map_sizes, pairwise(scales), strict=True)):
        square, extra, *others = paper_shapes((s, s), (n, n), (2, 3))
        shapes = ((0.1, 0.1), *others[:2]) if k == 0 else (square, *others, extra)
        maps.append(FeatureMapBoxes(rows, columns, shapes, (1 / columns, 1 / rows)))
    return BoxLayout(tuple(maps), clip)


def layout_ssdlite(map_sizes: Sequence[tuple[int, int]]) -> BoxLayout:
    """Default boxes of torchvision's SSDLite: the paper's rule from 0.2 to 0.95, ratios 2 and 3 on every map."""
    scales = (*paper_scales(len(map_sizes), 0.2, 0.95)[:-1], 1.0)
    return layout_from_scales(map_sizes, scales, [(2, 3)] * len(map_sizes), clip="size")


@dataclass(frozen=True)
class PaperTable:
    """Default boxes of the models released with the paper, in pixels of their square input (Caffe's prior boxes)."""

    side: int
    map_sides: tuple[int, ...]
    steps: tuple[float, ...]
    sizes: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]

    def layout(self, clip: Clip = "none") -> BoxLayout:
        """The released layout."""
        maps = [(side, side) for side in self.map_sides]
        return layout_from_sizes((self.side, self.side), maps, self.steps, self.sizes, self.ratios, clip=clip)

    def stretched(self, map_sizes: Sequence[tuple[int, int]], clip: Clip = "none") -> BoxLayout:
        """The same boxes relative to an input of another size or shape, with these feature maps."""
        return layout_from_scales(map_sizes, [size / self.side for size in self.sizes], self.ratios, clip=clip)


_MAPS_300, _STEPS_300 = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
_MAPS_512, _STEPS_512 = (64, 32, 16, 8, 4, 2, 1), (8, 16, 32, 64, 128, 256, 512)
_RATIOS_300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
_RATIOS_512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))

VOC300 = PaperTable(300, _MAPS_300, _STEPS_300, (30, 60, 111, 162, 213, 264, 315), _RATIOS_300)
COCO300 = PaperTable(300, _MAPS_300, _STEPS_300, (21, 45, 99, 153, 207, 261, 315), _RATIOS_300)
VOC512 = PaperTable(512, _MAPS_512, _STEPS_512, (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6), _RATIOS_512)
COCO512 = PaperTable(
    512, _MAPS_512, _STEPS_512, (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72), _RATIOS_512
)

# mmdetection rounds SSD512's sizes down to whole pixels.
MMDETECTION512 = PaperTable(512, _MAPS_512, _STEPS_512, (20, 51, 133, 215, 296, 378, 460, 542), _RATIOS_512)

# qfgaohao/pytorch-ssd's on MobileNets and on SqueezeNet, whose first map is smaller.
MOBILENET300 = PaperTable(
    300, (19, 10, 5, 3, 2, 1), (16, 32, 64, 100, 150, 300), (60, 105, 150, 195, 240, 285, 330), ((2, 3),) * 6
)
SQUEEZENET300 = replace(MOBILENET300, map_sides=(17, 10, 5, 3, 2, 1))

_FACES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))


def layout_faces(input_size: tuple[int, int], map_sizes: Sequence[tuple[int, int]]) -> BoxLayout:
    """Default boxes of Linzaer's face detector: squares of fixed sides in pixels of the network's input.

    Args:
        input_size: height and width of the network's input in pixels.
        map_sizes: rows and columns of its four feature maps, finest first.
    """
    height, width = input_size
    return BoxLayout(
        tuple(
            FeatureMapBoxes(rows, columns, tuple((s / width, s / height) for s in sides), (1 / columns, 1 / rows))
            for (rows, columns), sides in zip(map_sizes, _FACES, strict=True)
        ),
        "centre",
    )
