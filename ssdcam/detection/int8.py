"""Networks in 8-bit integers: NNCF measures on pictures how large their values become, and chooses the ranges by it.

A network is quantised once for a set of pictures and kept in the cache; which set came last is kept beside it, so that
from then on the precision alone is enough. Embedded detectors come with ranges for OpenVINO.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.detection.agreement import Agreement, compare, pictures_to_compare
from ssdcam.detection.no_reports import import_quietly, no_reports
from ssdcam.detection.prepared import Form, Made, Ready, find, prepared
from ssdcam.errors import UnavailableError, WrongUsageError
from ssdcam.files import is_file, write_whole
from ssdcam.notes import note
from ssdcam.ssd import host
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.host import Floats
from ssdcam.ssd.spec import ModelSpec


@dataclass(frozen=True)
class Calibration:
    """Pictures to choose the ranges on.

    Attributes:
        batch: uint8 ``(N, H, W, 3)``, BGR, of the network's input size; N of 100 to 300 is best, and at least 1.
        only_if_needed: whether ranges that are known already come first, and int8 without pictures does not mean these
            from then on; for pictures that are made up.
    """

    batch: NDArray[np.uint8]
    only_if_needed: bool = False


def quantised(
    form: Form[Made, Ready],
    name: str,
    calibration: Calibration | None,
    spec: ModelSpec,
    make: Callable[[], Made],
    to_int8: Callable[[Made, NDArray[np.uint8]], Made],
    outputs: Callable[[Made, NDArray[np.uint8]], Iterator[tuple[Floats, Floats]]],
    embedded: Callable[[], Ready | None] | None = None,
) -> Ready:
    """A network in int8: from the cache, or made now where pictures are given.

    Args:
        form: how the engine keeps networks.
        name: what the network's own digest is, whatever the pictures.
        calibration: the pictures; None takes those of last time.
        spec: what the network is of.
        make: makes the network in float.
        to_int8: makes it one in int8, by pictures ``(N, H, W, 3)``.
        outputs: runs a network on pictures ``(N, H, W, 3)``: the locations and raw scores of each.
        embedded: gives what is taken where there were none last time, if there is such a thing.

    Raises:
        UnavailableError: NNCF is not installed.
        WrongUsageError: no pictures, now or before.
    """
    pointer = last_pictures(form, name)
    if calibration is None or calibration.only_if_needed:
        with suppress(OSError, UnicodeDecodeError):
            found = find(form, f"{name}-{pointer.read_text('ascii').strip()}")
            if found is not None:
                return found
        found = embedded() if embedded else None
        if found is not None:
            if is_file(pointer):
                note(f"{form.engine}: the ranges of your pictures are gone: the detector's own are used")
            return found
    if calibration is None:
        when = "again, as what was kept is gone or damaged" if is_file(pointer) else "the first time"
        raise WrongUsageError(
            f"precision int8: {form.engine} needs pictures {when}; give --calibrate DIR, a folder of some"
            " hundred like those to come"
        )
    batch = np.ascontiguousarray(calibration.batch)
    key = hashlib.sha256(batch.data).hexdigest()[:16]

    def in_integers() -> Made:
        with _quiet_nncf():
            pass  # it is there: that is better known before a network is made
        plain = make()
        made = to_int8(plain, batch)
        if not calibration.only_if_needed:
            seen_by = (_seen(outputs(each, pictures_to_compare(batch)), spec) for each in (plain, made))
            _tell_loss(form.engine, compare(*seen_by))
        return made

    ready = prepared(form, f"{name}-{key}", in_integers, f" in int8, by {len(batch)} pictures")
    if not calibration.only_if_needed:
        with suppress(OSError):  # a cache that cannot be written does no harm
            write_whole(pointer, f"{key}\n".encode())
    return ready


def last_pictures(form: Form[Made, Ready], name: str) -> Path:
    """The file that says which pictures a network's ranges were chosen on last."""
    return form.folder / f"{name}.int8"


def _seen(outputs: Iterator[tuple[Floats, Floats]], spec: ModelSpec) -> Iterator[tuple[Floats, Floats]]:
    defaults = default_boxes(spec.boxes)
    for locations, raw_scores in outputs:
        yield host.decoded(locations, raw_scores, defaults, spec)


def _tell_loss(engine: str, found: Agreement) -> None:
    """Say that int8 sees other things, if so."""
    if not found.enough:
        note(
            f"{engine}: in int8 the boxes of this network overlap those in fp32 by {found.overlap:.2f} and its scores"
            f" differ by {found.apart:.2f}: expect other objects; calibrate on more pictures, or use another precision"
        )


def quantise(
    model: Any, batch: NDArray[np.uint8], to_input: Callable[[NDArray[np.uint8]], NDArray[Any]] | None = None
) -> Any:
    """A network with 8-bit weights and activations, ranges chosen on pictures; takes minutes for a large one.

    Args:
        model: an ``openvino.Model`` or an ``onnx.ModelProto`` for pictures ``(1, H, W, 3)``, uint8, BGR.
        batch: pictures ``(N, H, W, 3)``, N at least 1.
        to_input: what a model of another input takes for a picture ``(1, H, W, 3)``.

    Returns:
        A network of the same kind. Inputs and outputs are as they were.

    Raises:
        UnavailableError: NNCF is not installed.
    """
    is_onnx = hasattr(model, "graph")
    name = model.graph.input[0].name if is_onnx else model.inputs[0].any_name

    def given(place: int) -> dict[str, NDArray[Any]]:
        picture = batch[place : place + 1]
        return {name: to_input(picture) if to_input else picture}

    made = quantise_by(model, len(batch), given)
    if not is_onnx:
        darkest, lightest = (np.full_like(batch[:1], value) for value in (0, 255))
        _hold_all_pixels(made, *(to_input(each) if to_input else each for each in (darkest, lightest)))
    return made


def quantise_by(model: Any, count: int, given: Callable[[int], dict[str, NDArray[Any]]]) -> Any:
    """A network of any inputs with 8-bit weights and activations.

    Args:
        model: as of :func:`quantise`.
        count: how many examples there are, at least 1.
        given: the inputs of each of them, by their names.

    Raises:
        UnavailableError: NNCF is not installed.
    """
    with _quiet_nncf() as nncf:
        return nncf.quantize(
            model,
            nncf.Dataset(range(count), given),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=count,
            fast_bias_correction=True,
            # Weights take 7 of the 8 bits, depthwise ones aside: on CPUs without VNNI, sums of two products do not fit
            # into 16 otherwise, and what is exported may come to run on such a one.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def _hold_all_pixels(model: Any, darkest: NDArray[Any], lightest: NDArray[Any]) -> None:
    """Let the range of an OpenVINO network's input be all that a picture can hold.

    NNCF's is the mean of the extremes of its pictures: of those that have black and white in them, both are clipped.
    Where the normalisation is the same for all colours, each level is a pixel's then; zero, with which convolutions
    pad, may lie between two.
    """
    if (quantisation := _input_quantisation(model)) is None:
        return
    openvino = import_quietly("openvino")
    before = openvino.Model([quantisation.input_value(0)], model.get_parameters()).clone()
    extremes = []
    for picture in (darkest, lightest):
        found = openvino.Tensor(np.float32, [])
        before.evaluate([found], [openvino.Tensor(picture)])
        extremes.append(found.data)
    for place, value in enumerate((np.min(extremes), np.max(extremes)) * 2, 1):
        shape = quantisation.input_value(place).get_shape()
        constant = openvino.op.Constant(np.full(shape, value, np.float32))
        quantisation.input(place).replace_source_output(constant.output(0))


def _input_quantisation(model: Any) -> Any:
    """Where a network's input is quantised; None if the way there branches."""
    (node,) = model.get_parameters()
    while node.get_type_name() != "FakeQuantize":
        behind = node.output(0).get_target_inputs()
        if len(behind) != 1 or node.get_type_name() == "Convolution":
            return None
        node = behind.pop().get_node()
    return node


@contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """NNCF, which neither reports its use to its makers nor talks on stdout, and leaves logging as it was."""
    logger_class = logging.getLoggerClass()
    with no_reports(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            nncf = import_quietly("nncf")
        except ImportError as error:
            raise UnavailableError(f"precision int8 is made with NNCF: pip install 'ssdcam[int8]' ({error})") from error
        finally:
            logging.setLoggerClass(logger_class)
        nncf.set_log_level(logging.ERROR)
        yield nncf
