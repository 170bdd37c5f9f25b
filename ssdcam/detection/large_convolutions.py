"""Where convolutions take fewer products than they have, by ``winograd``; what of it is known without torch."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from ssdcam.cpu import cpu_features
from ssdcam.ssd.spec import ModelSpec

# Those with 3x3 convolutions of so many channels on large maps.
_ARCHITECTURES = frozenset({"ssd300-vgg16", "ssd512-vgg16", "ssd300-resnet50"})

# Channels in times channels out. Below, transforms take as long as the products that they save.
_LARGE_WEIGHT = 256 * 256


def is_large(weight: Sequence[int]) -> bool:
    """Whether a shape is that of a 3x3 convolution's weight that is large enough."""
    return tuple(weight[2:]) == (3, 3) and weight[0] * weight[1] >= _LARGE_WEIGHT


def worthwhile(precision: str) -> bool:
    """Whether fewer products are faster in a precision on this CPU.

    On Arm, OpenVINO's own library takes fewer. AMX, which is recognised on Linux only, multiplies in bf16 sooner than a
    CPU transforms, and fp16 does not hold what becomes of large activations.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return precision == "fp32" or (precision == "bf16" and "amx_bf16" not in cpu_features())


def takes_fewer_products(spec: ModelSpec, precision: str) -> bool:
    """Whether a network has convolutions for which that is worth it."""
    return spec.architecture in _ARCHITECTURES and worthwhile(precision)
