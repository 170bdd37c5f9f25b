"""torchvision's own Python, for parity tests.

Its wheels hold operators compiled for CUDA builds of torch and refuse to load beside a CPU build. Its Python needs the
names of two operators when it is imported, and only nms to detect with: here they are declared, and nms is stood in
for by the textbook's loop.
"""

import importlib.util
import warnings

import pytest
import torch


def _nms(boxes, scores, iou_threshold):
    waiting = scores.argsort(descending=True, stable=True)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        high = torch.minimum(boxes[best, 2:], boxes[waiting, 2:])
        intersection = (high - low).clamp(min=0).prod(dim=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        # A box without area overlaps nothing: its 0 / 0 is above no threshold.
        waiting = waiting[~(intersection / (areas[best] + areas[waiting] - intersection) > iou_threshold)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


_LIBRARIES = []  # operators live as long as the library that declares them


def torchvision():
    """The package, ready to detect; skips the test where it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    if not _LIBRARIES and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", _nms, "CPU")
        _LIBRARIES.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision as package
        import torchvision.models.detection
    package.extension._has_ops = lambda: True
    return package
