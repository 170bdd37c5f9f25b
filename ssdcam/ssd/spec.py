"""What a checkpoint has to say for its weights to be used: everything but the weights, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ssdcam.ssd.default_boxes import BoxLayout

NO_LIMIT = 100_000
"""Stands for no limit in NMS figures: more than any network has boxes."""

_MOST_PIXELS = 4096  # a side of a network's input
_MOST_SCORES = 2**28  # of one picture; what claims more is damaged, and would only fill memory

ColourOrder = Literal["rgb", "bgr"]
ScoreFunction = Literal["softmax", "sigmoid"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """From 8-bit pixels to what the network was trained on: ``(pixel - mean) / std``.

    Attributes:
        colour: order of the channels that the network, ``mean`` and ``std`` speak of.
        mean, std: on the scale 0 to 255.
    """

    colour: ColourOrder
    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        if self.colour not in get_args(ColourOrder):
            raise ValueError(f"colour order {self.colour!r} is none of {', '.join(get_args(ColourOrder))}")
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} or std {self.std} cannot normalise")


IMAGENET = Normalisation("rgb", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@dataclass(frozen=True)
class BoxCoding:
    """How locations and boxes are told apart (paper, equation 2).

    Attributes:
        variances: factors of ``dx, dy, dw, dh``.
        max_log_size: limit of ``dw`` and ``dh`` after the factor, so that no exponential overflows; torchvision has
            ``log(1000 / 16)``, the others none.
    """

    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    max_log_size: float = inf

    def __post_init__(self) -> None:
        if not all(0 < v < inf for v in self.variances):
            raise ValueError(f"variances {self.variances} must be positive")


@dataclass(frozen=True)
class NmsFigures:
    """Non-maximum suppression (paper, section 2.2: 0.45 and the top 200 an image).

    Attributes:
        iou: of two overlapping boxes of a class, the lower score goes when their IoU is above this.
        before: boxes that enter it, a class and image (an image, if class-agnostic).
        after: boxes that are kept, an image.
        class_agnostic: let boxes of different classes suppress each other.
    """

    iou: float = 0.45
    before: int = 400
    after: int = 200
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1:
            raise ValueError(f"an NMS IoU of {self.iou} is not in 0..1")
        if self.before < 1 or self.after < 1:
            raise ValueError(f"NMS must take and keep at least one box, not {self.before} and {self.after}")


@dataclass(frozen=True)
class ModelSpec:
    """A network and all that is needed to run it.

    Attributes:
        architecture: a name from ``ssdcam.ssd.architectures``.
        options: what the architecture leaves open, such as MobileNet's ``width``.
        labels: names of the classes, background not among them.
        input_size: height and width of the network's input in pixels.
        normalisation: from pixels to input.
        boxes: the default boxes.
        coding: the box coder's figures.
        score_function: from the network's raw scores to 0..1.
        background: whether column 0 of the scores is the background.
        nms: figures for NMS, unless the user says otherwise.
        provenance: where the weights come from, in words; keys such as ``source``, ``licence``, ``note``.
    """

    architecture: str
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    normalisation: Normalisation
    boxes: BoxLayout
    coding: BoxCoding = BoxCoding()
    score_function: ScoreFunction = "softmax"
    background: bool = True
    nms: NmsFigures = NmsFigures()
    options: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("a model needs labels")
        if self.score_function not in get_args(ScoreFunction):
            raise ValueError(f"score function {self.score_function!r} is none of {', '.join(get_args(ScoreFunction))}")
        if self.score_function == "softmax" and not self.background:
            raise ValueError("softmax scores need a background column")
        if min(self.input_size) < 1 or max(self.input_size) > _MOST_PIXELS:
            raise ValueError(f"input size {self.input_size} is not between 1 and {_MOST_PIXELS}")
        if self.boxes.num_boxes * self.num_columns > _MOST_SCORES:
            raise ValueError(f"{self.boxes.num_boxes} default boxes of {len(self.labels)} classes are too many")

    @property
    def num_columns(self) -> int:
        """Columns of the network's scores: the labels, and the background if it has one."""
        return len(self.labels) + self.background


@dataclass(frozen=True)
class Selection:
    """What decoding keeps: the user's choice where there is one, else the checkpoint's.

    Attributes:
        score: boxes below this score are dropped.
        nms: the figures to use.
        classes: class ids to look for; None is all.
    """

    score: float
    nms: NmsFigures
    classes: tuple[int, ...] | None = None

    def columns(self, spec: ModelSpec) -> NDArray[np.int64]:
        """Columns of the scores to look at, in rising order of class id."""
        ids = range(len(spec.labels)) if self.classes is None else sorted(set(self.classes))
        return np.asarray(ids, np.int64) + spec.background
