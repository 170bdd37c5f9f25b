"""Other people's networks as functions: a layer's weights are drawn when it is first called, under its own name."""

from itertools import product
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F


class Layers:
    """Draws weights and runs layers with them; ``arrays`` is then a checkpoint of whatever was run."""

    def __init__(self, seed=0, kinds=("weight", "bias"), join="."):
        self.arrays = {}
        self._random = torch.Generator().manual_seed(seed)
        self._kinds = kinds
        self._join = join

    def _draw(self, name, kind, shape, std, mean=0.0):
        key = f"{name}{self._join}{kind}"
        self.arrays[key] = torch.randn(shape, generator=self._random) * std + mean
        return self.arrays[key]

    def conv(self, name, x, outputs, kernel=1, stride=1, padding=0, *, dilation=1, groups=1, bias=True, gain=2.0):
        shape = (outputs, x.shape[1] // groups, kernel, kernel)
        weight = self._draw(name, self._kinds[0], shape, sqrt(gain / (shape[1] * kernel * kernel)))
        offset = self._draw(name, self._kinds[1], (outputs,), 0.1) if bias else None
        return F.conv2d(x, weight, offset, stride, padding, dilation, groups)

    def norm(self, name, x, epsilon=1e-5, scale=1.0):
        n = x.shape[1]
        mean = self._draw(name, "running_mean", (n,), 0.1)
        factor = self._draw(name, "weight", (n,), 0.1 * scale, scale)
        offset = self._draw(name, "bias", (n,), 0.1)
        variance = self._draw(name, "running_var", (n,), 0.1, 1).abs_()
        self.arrays[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return F.batch_norm(x, mean, variance, factor, offset, eps=epsilon)

    def l2_norm(self, name, x, kind="weight"):
        scale = self._draw(name, kind, (x.shape[1],), 1.0, 20.0)
        return x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) * scale.view(1, -1, 1, 1)


def box_major(heads, values):
    """A cell's boxes together, cells row by row, as nearly all lay their predictions out."""
    return torch.cat([y.permute(0, 2, 3, 1).reshape(len(y), -1, values) for y in heads], 1)


def priors(side, maps, steps, sizes, ratios, clamp):
    """Default boxes as a loop over cells, from a table of sizes and steps in pixels."""
    boxes = []
    for cells, step, small, large, map_ratios in zip(maps, steps, sizes, sizes[1:], ratios, strict=False):
        for row, column in product(range(cells), repeat=2):
            centre = [(column + 0.5) * step / side, (row + 0.5) * step / side]
            boxes.append([*centre, small / side, small / side])
            boxes.append([*centre, sqrt(small * large) / side, sqrt(small * large) / side])
            for ratio in map_ratios:
                boxes.append([*centre, small / side * sqrt(ratio), small / side / sqrt(ratio)])
                boxes.append([*centre, small / side / sqrt(ratio), small / side * sqrt(ratio)])
    return np.clip(boxes, 0, 1) if clamp else np.array(boxes)


def _field(number, content):
    """A field of bytes in protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def caffemodel(arrays, old=False):
    """What Caffe writes: a name and layers of a name, a type and blobs; vectors of old files have four sides."""
    blobs = {}
    for key, tensor in arrays.items():
        name, _, kind = key.rpartition(".")
        sides = ([1] * 4 + list(tensor.shape))[-4:] if old else tensor.shape
        shape = (
            b"".join(_varint(n << 3) + _varint(side) for n, side in enumerate(sides, 1))
            if old
            else _field(7, _field(1, b"".join(map(_varint, sides))))
        )
        blobs.setdefault(name, {})[kind] = shape + _field(5, tensor.contiguous().numpy().tobytes())
    layers = [
        _field(
            100, _field(1, name.encode()) + _field(2, b"Convolution") + b"".join(_field(7, b) for b in kinds.values())
        )
        for name, kinds in blobs.items()
    ]
    return _field(1, b"VGG_VOC0712_SSD_300x300_train") + b"".join(layers)
