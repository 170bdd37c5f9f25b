"""SSD in OpenVINO: on CPUs several times as fast as torch, and without importing torch once a network is prepared.

A network is prepared once: torch builds it, OpenVINO takes it over, and the result is kept; see ``prepared``.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import io
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.resolve import embedded_folder
from ssdcam.cpu import computes_int8
from ssdcam.detection.checksums import check_marked, mark, read_checked, write_checked
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.int8 import Calibration, quantise, quantise_by, quantised
from ssdcam.detection.int8_backbone import Int8Backbone, Weights, load_source, suits
from ssdcam.detection.large_convolutions import takes_fewer_products
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.openvino_conversion import convert, from_torch
from ssdcam.detection.prepared import Form, check_boxes, digest, prepared, tell_not_kept, tell_preparing
from ssdcam.errors import UnavailableError, WrongUsageError
from ssdcam.notes import note
from ssdcam.ssd import host
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import ModelSpec, Selection

if TYPE_CHECKING:
    import openvino

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Floats = NDArray[np.float32]

_ENGINE = "openvino"
_TYPES: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # OpenVINO's names
_FORMAT = 5  # of what is kept; a new one when openvino_conversion, pixel_network or quantise changes
_BACKBONE = ".backbone"  # what else is kept of a network whose first convolutions are computed apart
_WITH_BACKBONE = (_BACKBONE, ".bin", ".xml")
_OWN_BACKBONE = "backbone1"  # of such networks; another number when int8_backbone or quantise_backbone changes
_FEWER_PRODUCTS = "winograd1"  # of such networks; another number when winograd, fusing or large_convolutions changes

_one_at_a_time = threading.Lock()  # `cache` may call a function twice when two threads ask at once
_forked = threading.Event()  # in a process that was forked from one that has used OpenVINO
_every_plan: WeakSet[_Plan] = WeakSet()


@dataclass(frozen=True)
class _Network:
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


@dataclass(frozen=True, eq=False)
class _Plan:
    """A network compiled for one way of use.

    Attributes:
        compiled: what OpenVINO made of it.
        memory: what that was read from, if it was kept, and may lean on.
        idle: requests that wait for their next picture.
    """

    compiled: openvino.CompiledModel
    memory: NDArray[np.uint8] | None
    idle: list[openvino.InferRequest] = field(default_factory=list)

    def request(self) -> openvino.InferRequest:
        """One that waits, or a new one: it holds little, as what is computed on the way belongs to the plan."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.compiled.create_infer_request()


class _Running:
    """A batch that is computed; called, it waits for the outputs. It holds the memory that OpenVINO works in."""

    def __init__(self, plan: _Plan, batch: NDArray[np.uint8], locations: Floats, raw_scores: Floats) -> None:
        self.requests: list[openvino.InferRequest] = []
        self.before: list[Future[None]] = []  # what is to be done until all requests are started
        self._plan = plan
        self._batch = batch
        self._outputs = locations, raw_scores

    def __call__(self) -> tuple[Floats, Floats]:
        self._wait()
        return self._outputs

    def __del__(self) -> None:
        self._wait()  # when nobody asked: the memory goes now

    def _wait(self) -> None:
        if _forked.is_set():  # the threads that it waits for are the parent's
            _keep_for_good(self.requests)
            return
        while self.before:
            self.before[-1].result()
            self.before.pop()
        while self.requests:
            self.requests[-1].wait()
            self._plan.idle.append(self.requests.pop())


class OpenVinoEngine:
    """An SSD in OpenVINO; see :class:`ssdcam.detection.engine.Engine`. Safe to use from several threads at once.

    One picture is computed by all threads together, for the least latency. Of a batch several pictures are in flight at
    once, each on its share of the threads, for the most pictures a second.

    Args:
        checkpoint: the spec and weights to run.
        device: ``auto`` or ``cpu``.
        precision: ``auto`` is int8 for an embedded detector where the CPU has instructions for it, with the ranges that
            it comes with; else what OpenVINO takes for the fastest that keeps accuracy on this CPU: bf16, fp16 or fp32.
            ``bf16`` and ``fp16`` where the CPU computes in them; ``int8``.
        threads: CPU threads to use; None is all.
        calibration: pictures to choose int8's ranges on; None takes those of last time, or what is embedded.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: OpenVINO is not installed, the CPU lacks the precision, NNCF is wanted and not installed, or
            this process was forked from one that has used OpenVINO.
        WrongUsageError: there is no such device or precision, or int8 has no pictures yet.
    """

    name = _ENGINE
    device = "cpu"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        ENGINES[_ENGINE].check(device, precision)
        self._core = openvino_core()
        self._tensor = import_quietly("openvino").Tensor
        self._spec = checkpoint.spec
        self._defaults = default_boxes(checkpoint.spec.boxes)
        self._threads = threads
        self._lock = threading.Lock()
        self._plans: dict[str, _Plan] = {}
        name = network_name(checkpoint)
        if precision == "auto":
            if computes_int8() and self._start_embedded(name):
                return
            precision = self._preferred()
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision.upper() not in able:
            there = ", ".join(name for name in (*_TYPES, "int8") if name.upper() in able)
            raise UnavailableError(f"precision {precision}: this CPU computes in {there}; use fp32")
        self._start(precision, _prepared(checkpoint, name, precision, calibration))

    def _start(self, precision: Precision, network: _Network) -> None:
        check_boxes(len(self._defaults), network.model.outputs[0].shape[1])
        self.precision, self._network = precision, network
        self._backbone = Int8Backbone(network.backbone, self._threads) if network.backbone else None
        self._settings: dict[str, Any] = {}
        if (hint := _hint(precision)) is not None:
            self._settings["INFERENCE_PRECISION_HINT"] = hint
        if self._threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = self._threads
        self._plan("LATENCY")  # an engine that starts is one that runs

    def _start_embedded(self, name: str) -> bool:
        """Start with the network in int8 that the detector comes with; False where it has none, or it does not run."""
        try:
            network = _embedded_int8(name)
            if network is None:
                return False
            self._start("int8", network)
        except Exception as error:  # the next precision may work, as another engine would be tried
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            note(f"{_ENGINE}: {reason}; {self._preferred()} runs instead")
            return False
        return True

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR."""
        return self.submit(batch)()

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Floats, Floats]]:
        """See :meth:`ssdcam.detection.engine.Engine.submit`; OpenVINO keeps a queue of its own."""
        _check_not_forked()
        batch = np.ascontiguousarray(batch)
        locations = np.empty((len(batch), len(self._defaults), 4), np.float32)
        raw_scores = np.empty((len(batch), len(self._defaults), self._spec.num_columns), np.float32)
        plan = self._plan("LATENCY" if len(batch) == 1 else "THROUGHPUT")
        running = _Running(plan, batch, locations, raw_scores)
        for place in range(len(batch)):
            request = plan.request()
            one = slice(place, place + 1)
            # It reads and writes our memory: nothing is copied on the way.
            for output, array in enumerate((locations[one], raw_scores[one])):
                request.set_output_tensor(output, self._tensor(array, shared_memory=True))
            if self._backbone is None:
                request.set_input_tensor(self._tensor(batch[one], shared_memory=True))
                request.start_async()
            else:
                maps = [tensor.data[0] for tensor in request.input_tensors]
                alone = len(batch) == 1
                running.before += self._backbone.start(batch[place], maps, request.start_async, alone=alone)
            running.requests.append(request)
        return running

    def _plan(self, hint: str) -> _Plan:
        """One plan for single pictures, another for the same weights for batches; each made when it is first wanted."""
        with self._lock:
            if hint not in self._plans:
                settings = {**self._settings, "PERFORMANCE_HINT": hint}
                self._plans[hint] = plan = self._compiled(settings)
                _every_plan.add(plan)
            return self._plans[hint]

    def _compiled(self, settings: Mapping[str, Any]) -> _Plan:
        """The network compiled for this CPU: from beside it, or made now and kept there, one file for all ways of use.

        OpenVINO would do so itself (``CACHE_DIR``), but it writes such files in place: a process that has one in its
        memory crashes when another writes it.
        """
        path = self._network.path and _compiled_file(self._network.path, self.precision)
        with suppress(Exception):  # not there, damaged, or of another CPU
            memory = self._network.compiled
            if memory is None and path:
                memory = read_checked(path)
            if memory is not None:
                return _Plan(self._core.import_model(self._tensor(memory, shared_memory=True), "CPU", settings), memory)
        if self._network.embedded and not self._plans:  # of others that was told
            tell_preparing(_form(self.precision))
        try:
            compiled = self._core.compile_model(self._network.model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UnavailableError(
                f"precision {self.precision}: OpenVINO cannot compile this network for this CPU ({reason[0]})"
            ) from error
        if path:
            try:
                kept = io.BytesIO()
                compiled.export_model(kept)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_checked(path, kept.getbuffer())
            except (OSError, RuntimeError) as error:  # a folder that is not ours, or a full disk: it works without
                tell_not_kept(_form(self.precision), error)
        return _Plan(compiled, None)

    def decode(self, locations: Floats, raw_scores: Floats, selection: Selection) -> host.PackedBoxes:
        """Boxes from what :meth:`infer` returned."""
        return host.postprocess(locations, raw_scores, self._defaults, self._spec, selection)

    def _preferred(self) -> Precision:
        preferred = self._core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        return next((name for name, theirs in _TYPES.items() if theirs == preferred), "fp32")


def openvino_core() -> openvino.Core:
    """OpenVINO's root, one for this process, which is never given back.

    Its CPU plugin gives the thread that loads it another stack for signal handlers, and takes it away again when it is
    dropped. Of two that are not dropped in reverse order, the thread is left with a stack that is gone, and the next
    signal, such as Ctrl-C, is a crash.

    Raises:
        UnavailableError: OpenVINO is not installed, or this process was forked from one that has used it.
    """
    _check_not_forked()
    try:
        vendor = import_quietly("openvino")
    except ImportError as error:
        raise UnavailableError(
            f"the openvino engine needs OpenVINO: pip install 'ssdcam[openvino]' ({error})"
        ) from error
    with _one_at_a_time:
        return _only_core(vendor)


@cache
def _only_core(vendor: Any) -> openvino.Core:
    made = vendor.Core()
    made.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, before anybody else's is loaded
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    return made


def _after_fork() -> None:
    """In a child OpenVINO's things are neither used nor dropped: both would wait for threads that the parent has."""
    _forked.set()
    _keep_for_good(_only_core)
    for plan in _every_plan:
        _keep_for_good(plan)


def _keep_for_good(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _check_not_forked() -> None:
    """Refuse where OpenVINO would wait for ever: its threads are the parent's."""
    if _forked.is_set():
        raise UnavailableError(
            "the openvino engine does not run in a process that was forked from one that has used it: "
            "start the process by spawn (multiprocessing.set_start_method), or use the torch engine"
        )


def network_name(checkpoint: Checkpoint) -> str:
    """What a network is kept under; with more to it for each version of OpenVINO, and for each choice of ranges."""
    return digest(checkpoint, _FORMAT)


def _prepared(checkpoint: Checkpoint, name: str, precision: Precision, calibration: Calibration | None) -> _Network:
    """The network with its normalisation, for one picture ``(1, H, W, 3)``, uint8: from the cache, or made now."""

    def in_float(run_in: Precision = "auto", *, by_winograd: bool = False) -> _Network:
        version = importlib.metadata.version("openvino").replace(".", "_")
        kept_as = f"{name}-{version}-{_FEWER_PRODUCTS}" if by_winograd else f"{name}-{version}"
        return prepared(_form(run_in), kept_as, lambda: _Network(convert(checkpoint, by_winograd=by_winograd)))

    def in_integers(calibration: Calibration | None) -> _Network:
        def to_int8(plain: _Network, pictures: NDArray[np.uint8]) -> _Network:
            return _Network(quantise(plain.model, pictures))

        return quantised(
            _form("int8"),
            name,
            calibration,
            checkpoint.spec,
            make=in_float,
            to_int8=to_int8,
            outputs=_outputs,
            embedded=lambda: _embedded_int8(name),
        )

    def with_own_backbone() -> _Network:
        def kept_without() -> _Network | None:
            with suppress(WrongUsageError):  # there are no ranges
                return in_integers(None) if calibration is None else None
            return None

        return quantised(
            _form("int8", _WITH_BACKBONE),
            f"{name}-{_OWN_BACKBONE}",
            calibration,
            checkpoint.spec,
            make=in_float,
            to_int8=lambda _, pictures: _behind_own_backbone(checkpoint, pictures),
            outputs=_outputs,
            embedded=kept_without,
        )

    # Ranges are for any version of OpenVINO: an update is no reason to ask for pictures again.
    if precision == "int8":
        return with_own_backbone() if _has_own_backbone(checkpoint.spec, calibration) else in_integers(calibration)
    return in_float(precision, by_winograd=takes_fewer_products(checkpoint.spec, precision))


def _has_own_backbone(spec: ModelSpec, calibration: Calibration | None) -> bool:
    if not suits(spec):
        return False
    try:
        load_source()
    except UnavailableError as error:
        if calibration is not None:
            note(f"{_ENGINE}: {error}: in int8, this network takes half as long again as it would")
        return False
    return True


def _behind_own_backbone(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> _Network:
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

    return _Network(quantise_by(model, len(pictures), given), backbone=weights)


def _outputs(network: _Network, pictures: NDArray[np.uint8]) -> Iterator[tuple[Floats, Floats]]:
    compiled = openvino_core().compile_model(network.model, "CPU", {"INFERENCE_PRECISION_HINT": _TYPES["fp32"]})
    backbone = Int8Backbone(network.backbone) if network.backbone else None
    for picture in pictures:
        given = backbone.infer(picture) if backbone else [picture]
        found = compiled([each[None] for each in given])
        yield found[0][0], found[1][0]


def _embedded_int8(name: str) -> _Network | None:
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
    return _Network(model, _form("int8").folder / f"{name}-{which:08x}.xml", embedded=True)


def _hint(precision: Precision) -> str | None:
    """What floats are computed in; beside int8, what integers do not suit is in what OpenVINO prefers."""
    return _TYPES.get(precision)


def _compiled_file(path: Path, precision: Precision) -> Path:
    """Where what is compiled of a network for this CPU lies, beside it."""
    facts = [importlib.metadata.version("openvino"), _hint(precision)]
    facts += [openvino_core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return path.with_suffix(f".{key}.blob")


def _form(precision: Precision, suffixes: tuple[str, ...] = (".bin", ".xml")) -> Form[_Network, _Network]:
    """Networks to be run in a precision; ``auto`` is to be taken further."""

    def read(kept: _Network | Path) -> _Network:
        if not isinstance(kept, Path):
            return kept
        compiled = None
        if precision != "auto":
            with suppress(OSError, ValueError):  # not there, or damaged
                compiled = read_checked(_compiled_file(kept, precision))
        if compiled is None:
            check_marked(kept, kept.with_suffix(".bin"))
        backbone = Weights.read(kept.with_suffix(_BACKBONE)) if _BACKBONE in suffixes else None
        return _Network(openvino_core().read_model(kept), kept, backbone=backbone, compiled=compiled)

    return Form(_ENGINE, suffixes, _write, read)


def _write(network: _Network, path: Path) -> None:
    if network.backbone:
        network.backbone.write(path.with_suffix(_BACKBONE))
    import_quietly("openvino").save_model(network.model, path, compress_to_fp16=False)
    mark(path, path.with_suffix(".bin"))
