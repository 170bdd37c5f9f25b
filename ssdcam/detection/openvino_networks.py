"""SSDs as OpenVINO reads them: from the cache, made now, or as they come with a detector."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.resolve import embedded_folder
from ssdcam.detection.checksums import check_marked, mark, read_checked
from ssdcam.detection.int8 import Calibration, last_pictures, quantise, quantise_by, quantised
from ssdcam.detection.int8_backbone import Int8Backbone, Weights, load_source, suits
from ssdcam.detection.large_convolutions import takes_fewer_products
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.openvino_conversion import convert, from_torch
from ssdcam.detection.openvino_core import openvino_core
from ssdcam.detection.prepared import Form, digest, prepared
from ssdcam.errors import UnavailableError, WrongUsageError
from ssdcam.files import is_file
from ssdcam.notes import note
from ssdcam.ssd.host import Floats
from ssdcam.ssd.spec import ModelSpec

if TYPE_CHECKING:
    import openvino

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

ENGINE = "openvino"
"""The engine's name."""

TYPES: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""OpenVINO's names of what floats are computed in; beside int8, what integers do not suit is in what it prefers."""

_FORMAT = 5  # of what is kept; a new one when openvino_conversion, pixel_network or quantise changes
_BACKBONE = ".backbone"  # what else is kept of a network whose first convolutions are computed apart
_WITH_BACKBONE = (_BACKBONE, ".bin", ".xml")
_OWN_BACKBONE = "backbone1"  # of such networks; another number when int8_backbone or quantise_backbone changes
_FEWER_PRODUCTS = "winograd1"  # of such networks; another number when winograd, fusing or large_convolutions changes


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        model: it, as it was read.
        path: the file in the cache that it is in, or would be, beside which what is compiled of it is kept; None where
            nothing can be.
        embedded: whether it came with a detector, so that there is no such file.
        backbone: of its first convolutions, which are computed apart, where it is only what is behind them.
        compiled: what is kept compiled of it; of a file in the cache it is there, or the file is known to be whole.
    """

    model: openvino.Model
    path: Path | None = None
    embedded: bool = False
    backbone: Weights | None = None
    compiled: NDArray[np.uint8] | None = None


def network_name(checkpoint: Checkpoint) -> str:
    """What a network is kept under; with more to it for each version of OpenVINO, and for each choice of ranges."""
    return digest(checkpoint, _FORMAT)


def network_for(checkpoint: Checkpoint, name: str, precision: Precision, calibration: Calibration | None) -> Network:
    """The network with its normalisation, for one picture ``(1, H, W, 3)``, uint8: from the cache, or made now.

    In int8, ranges are for any version of OpenVINO: an update is no reason to ask for pictures again.
    """
    if precision != "int8":
        by_winograd = takes_fewer_products(checkpoint.spec, precision)
        return _in_floats(checkpoint, name, precision, by_winograd=by_winograd)
    ranges = last_pictures(form("int8"), f"{name}-{_OWN_BACKBONE}")
    if _has_own_backbone(checkpoint.spec, wanted=calibration is not None or is_file(ranges)):
        try:
            return _with_own_backbone(checkpoint, name, calibration)
        except WrongUsageError:
            with suppress(WrongUsageError):
                return _in_integers(checkpoint, name, None)  # by ranges that were chosen without a compiler
            raise
    network = _in_integers(checkpoint, name, calibration)
    if calibration is not None and not calibration.only_if_needed:
        with suppress(OSError):
            ranges.unlink(missing_ok=True)  # those of these pictures are the last
    return network


def _in_floats(checkpoint: Checkpoint, name: str, run_in: Precision = "auto", *, by_winograd: bool = False) -> Network:
    version = importlib.metadata.version("openvino").replace(".", "_")
    kept_as = f"{name}-{version}-{_FEWER_PRODUCTS}" if by_winograd else f"{name}-{version}"
    return prepared(form(run_in), kept_as, lambda: Network(convert(checkpoint, by_winograd=by_winograd)))


def _in_integers(checkpoint: Checkpoint, name: str, calibration: Calibration | None) -> Network:
    return quantised(
        form("int8"),
        name,
        calibration,
        checkpoint.spec,
        make=lambda: _in_floats(checkpoint, name),
        to_int8=lambda plain, pictures: Network(quantise(plain.model, pictures)),
        outputs=_outputs,
        embedded=lambda: embedded_int8(name),
    )


def _with_own_backbone(checkpoint: Checkpoint, name: str, calibration: Calibration | None) -> Network:
    return quantised(
        form("int8", _WITH_BACKBONE),
        f"{name}-{_OWN_BACKBONE}",
        calibration,
        checkpoint.spec,
        make=lambda: _in_floats(checkpoint, name),
        to_int8=lambda _, pictures: _behind_own_backbone(checkpoint, pictures),
        outputs=_outputs,
    )


def _has_own_backbone(spec: ModelSpec, *, wanted: bool) -> bool:
    """Whether it can be run here; it is told where it is ``wanted`` and there is no compiler."""
    if not suits(spec):
        return False
    try:
        load_source()
    except UnavailableError as error:
        if wanted:
            note(f"{ENGINE}: {error}: in int8, this network takes half as long again as it would")
        return False
    return True


def _behind_own_backbone(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> Network:
    """A network in int8, of which OpenVINO computes what is behind the backbone."""
    import torch

    from ssdcam.detection.pixel_network import PixelNetwork
    from ssdcam.detection.quantise_backbone import NetworkBehind, quantised_backbone

    network = PixelNetwork(checkpoint)
    weights = quantised_backbone(network, pictures)
    examples = [torch.zeros(1, *shape, dtype=torch.uint8) for shape in weights.kept_shapes]
    model = from_torch(NetworkBehind(network, weights), *examples)
    backbone = Int8Backbone(weights)
    names = [each.any_name for each in model.inputs]

    def given(place: int) -> dict[str, NDArray[np.uint8]]:
        return {name: levels[None] for name, levels in zip(names, backbone.infer(pictures[place]), strict=True)}

    return Network(quantise_by(model, len(pictures), given), backbone=weights)


def _outputs(network: Network, pictures: NDArray[np.uint8]) -> Iterator[tuple[Floats, Floats]]:
    compiled = openvino_core().compile_model(network.model, "CPU", {"INFERENCE_PRECISION_HINT": TYPES["fp32"]})
    backbone = Int8Backbone(network.backbone) if network.backbone else None
    for picture in pictures:
        given = backbone.infer(picture) if backbone else [picture]
        found = compiled([each[None] for each in given])
        yield found[0][0], found[1][0]


def embedded_int8(name: str) -> Network | None:
    """The network in int8 that an embedded detector comes with; None for any other.

    Neither torch nor NNCF has a part in it.

    Raises:
        UnavailableError: it cannot be read.
    """
    description, weights = (embedded_folder() / "int8" / f"{name}{suffix}" for suffix in (".xml", ".bin"))
    if not description.is_file():
        return None
    try:
        data = description.read_bytes(), weights.read_bytes()
        model = openvino_core().read_model(*data)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"{description}: is damaged; install ssdcam again") from error
    which = zlib.crc32(data[1], zlib.crc32(data[0]))
    return Network(model, form("int8").folder / f"{name}-{which:08x}.xml", embedded=True)


def compiled_file(path: Path, precision: Precision) -> Path:
    """Where what is compiled of a network for this CPU lies, beside it."""
    facts = [importlib.metadata.version("openvino"), TYPES.get(precision)]
    facts += [openvino_core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return path.with_suffix(f".{key}.blob")


def form(precision: Precision, suffixes: tuple[str, ...] = (".bin", ".xml")) -> Form[Network, Network]:
    """Networks to be run in a precision; ``auto`` is to be taken further."""

    def read(kept: Network | Path) -> Network:
        if not isinstance(kept, Path):
            return kept
        compiled = None
        if precision != "auto":
            with suppress(OSError, ValueError):  # not there, or damaged
                compiled = read_checked(compiled_file(kept, precision))
        if compiled is None:
            check_marked(kept, kept.with_suffix(".bin"))
        backbone = Weights.read(kept.with_suffix(_BACKBONE)) if _BACKBONE in suffixes else None
        return Network(openvino_core().read_model(kept), kept, backbone=backbone, compiled=compiled)

    return Form(ENGINE, suffixes, _write, read)


def _write(network: Network, path: Path) -> None:
    if network.backbone:
        network.backbone.write(path.with_suffix(_BACKBONE))
    import_quietly("openvino").save_model(network.model, path, compress_to_fp16=False)
    mark(path, path.with_suffix(".bin"))
