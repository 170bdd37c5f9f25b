"""Checkpoints of other code bases: a module a family, each mostly data, and the list of them."""

from __future__ import annotations

from pathlib import Path

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.families import (
    amdegroot,
    caffe,
    chainercv,
    lufficc,
    mmdetection,
    nvidia,
    qfgaohao,
    torchvision,
    ultralight,
)
from ssdcam.checkpoints.families.family import BoxSizes, Family, Weights, convert, log
from ssdcam.checkpoints.prototxt import Description
from ssdcam.errors import CheckpointError, WrongUsageError

# Of families with the same keys, the one that stands first is taken where nothing else tells.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        torchvision.SSD300,
        torchvision.SSDLITE320,
        amdegroot.RGB,
        amdegroot.BGR,
        lufficc.FAMILY,
        qfgaohao.VGG,
        qfgaohao.MOBILENET_V1,
        qfgaohao.MOBILENET_V2_LITE,
        qfgaohao.SQUEEZENET_LITE,
        ultralight.FAMILY,
        nvidia.FAMILY,
        mmdetection.FAMILY,
        chainercv.FAMILY,
        caffe.FAMILY,
    )
}


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        WrongUsageError: there is none; the message names those there are.
    """
    if name not in FAMILIES:
        raise WrongUsageError(f"--family {name} is none of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def convert_arrays(
    arrays: Weights,
    path: Path,
    family: str | None = None,
    boxes: BoxSizes | None = None,
    description: Description | None = None,
) -> Checkpoint:
    """A checkpoint from another code base's arrays.

    Args:
        arrays: by their names in the file.
        path: the file, for messages and for what its name tells.
        family: whose it is; told by the keys, then by the file's name, if not given.
        boxes: which set of default boxes, where the family has two that the keys cannot tell apart.
        description: what a ``.prototxt`` says of Caffe's.

    Raises:
        CheckpointError: the arrays are no family's, or not those of the one that was named or described.
        WrongUsageError: there is no such family, or nothing for ``boxes`` to choose.
    """
    chosen = find_family(family) if family else _recognised(arrays, path)
    if description is None or chosen is not caffe.FAMILY:
        return convert(chosen, arrays, path, boxes)
    checkpoint = convert(caffe.described(description), arrays, path, boxes)
    if description.columns not in (None, checkpoint.spec.num_columns):
        raise CheckpointError(
            f"{description.path}: is for {description.columns} classes with background, "
            f"but {path.name} has {checkpoint.spec.num_columns}"
        )
    return checkpoint


def _recognised(arrays: Weights, path: Path) -> Family:
    candidates = [family for family in FAMILIES.values() if arrays.keys() >= set(family.signature)]
    if not candidates:
        raise CheckpointError(f"{path}: its weights are those of no SSD that ssdcam knows: {', '.join(FAMILIES)}")
    for family in candidates:
        if path.name in family.known_files:
            return family
    if candidates[0].assumption:
        log.warning("%s: %s", path, candidates[0].assumption)
    return candidates[0]
