"""SSD in OpenVINO: on CPUs several times as fast as torch, and without importing torch once a network is prepared.

A network is prepared once: torch builds it, OpenVINO takes it over, and the result is kept; see ``prepared``.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.cpu import computes_int8
from ssdcam.detection.checksums import read_checked, write_checked
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.int8 import Calibration
from ssdcam.detection.int8_backbone import Int8Backbone
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.openvino_core import check_not_forked, is_forked, keep_for_good, keep_in_children, openvino_core
from ssdcam.detection.openvino_networks import (
    ENGINE,
    TYPES,
    Network,
    Precision,
    compiled_file,
    embedded_int8,
    form,
    network_for,
    network_name,
)
from ssdcam.detection.prepared import check_boxes, tell_not_kept, tell_preparing
from ssdcam.errors import UnavailableError, first_line
from ssdcam.notes import note
from ssdcam.ssd import host
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.host import Floats
from ssdcam.ssd.spec import Selection

if TYPE_CHECKING:
    import openvino


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
        if is_forked():  # the threads that it waits for are the parent's
            keep_for_good(self.requests)
            return
        while self.before:
            self.before[-1].exception()  # waits; it stays here if that is interrupted
            self.before.pop().result()
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

    name = ENGINE
    device = "cpu"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        ENGINES[ENGINE].check(device, precision)
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
            there = ", ".join(name for name in (*TYPES, "int8") if name.upper() in able)
            raise UnavailableError(f"precision {precision}: this CPU computes in {there}; use fp32")
        self._start(precision, network_for(checkpoint, name, precision, calibration))

    def _start(self, precision: Precision, network: Network) -> None:
        check_boxes(len(self._defaults), network.model.outputs[0].shape[1])
        self.precision, self._network = precision, network
        self._backbone = Int8Backbone(network.backbone, self._threads) if network.backbone else None
        self._settings: dict[str, Any] = {}
        if (hint := TYPES.get(precision)) is not None:
            self._settings["INFERENCE_PRECISION_HINT"] = hint
        if self._threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = self._threads
        self._plan("LATENCY")  # an engine that starts is one that runs

    def _start_embedded(self, name: str) -> bool:
        """Start with the network in int8 that the detector comes with; False where it has none, or it does not run."""
        try:
            network = embedded_int8(name)
            if network is None:
                return False
            self._start("int8", network)
        except Exception as error:  # the next precision may work, as another engine would be tried
            note(f"{ENGINE}: {first_line(error)}; {self._preferred()} runs instead")
            return False
        return True

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR."""
        return self.submit(batch)()

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Floats, Floats]]:
        """See :meth:`ssdcam.detection.engine.Engine.submit`; OpenVINO keeps a queue of its own."""
        check_not_forked()
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
                running.before.append(self._backbone.start(batch[place], maps, request.start_async, alone=alone))
            running.requests.append(request)
        return running

    def _plan(self, hint: str) -> _Plan:
        """One plan for single pictures, another for the same weights for batches; each made when it is first wanted."""
        with self._lock:
            if hint not in self._plans:
                settings = {**self._settings, "PERFORMANCE_HINT": hint}
                self._plans[hint] = plan = self._compiled(settings)
                keep_in_children(plan)
            return self._plans[hint]

    def _compiled(self, settings: Mapping[str, Any]) -> _Plan:
        """The network compiled for this CPU: from beside it, or made now and kept there, one file for all ways of use.

        OpenVINO would do so itself (``CACHE_DIR``), but it writes such files in place: a process that has one in its
        memory crashes when another writes it.
        """
        path = self._network.path and compiled_file(self._network.path, self.precision)
        with suppress(Exception):  # not there, damaged, or of another CPU
            memory = self._network.compiled
            if memory is None and path:
                memory = read_checked(path)
            if memory is not None:
                return _Plan(self._core.import_model(self._tensor(memory, shared_memory=True), "CPU", settings), memory)
        if self._network.embedded and not self._plans:  # of others that was told
            tell_preparing(form(self.precision))
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
                tell_not_kept(form(self.precision), error)
        return _Plan(compiled, None)

    def decode(self, locations: Floats, raw_scores: Floats, selection: Selection) -> host.PackedBoxes:
        """Boxes from what :meth:`infer` returned."""
        return host.postprocess(locations, raw_scores, self._defaults, self._spec, selection)

    def _preferred(self) -> Precision:
        preferred = self._core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        return next((name for name, theirs in TYPES.items() if theirs == preferred), "fp32")
