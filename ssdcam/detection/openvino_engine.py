"""SSD in OpenVINO: on CPUs several times as fast as torch, and without importing torch once a network is prepared.

A network is prepared once: torch builds it, OpenVINO takes it over, and the result is kept in the cache folder under a
digest of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssdcam.cache import cache_folder
from ssdcam.checkpoints.checkpoint import Checkpoint, spec_to_json
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.notes import note
from ssdcam.ssd import host
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import Selection

if TYPE_CHECKING:
    import openvino
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Floats = NDArray[np.float32]

_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # OpenVINO's names
_FORMAT = 1  # of what is kept; a new one when _convert changes


class OpenVinoEngine:
    """An SSD in OpenVINO; see :class:`ssdcam.detection.engine.Engine`. Safe to use from several threads, in turn.

    One picture is computed by all threads together, for the least latency. Of a batch several pictures are in flight at
    once, each on its share of the threads, for the most pictures a second.

    Args:
        checkpoint: the spec and weights to run.
        device: ``auto`` or ``cpu``.
        precision: ``auto`` is fp32; ``bf16`` and ``fp16`` where the CPU computes in them.
        threads: CPU threads to use; None is all.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: OpenVINO is not installed, or the CPU lacks the precision.
        WrongUsageError: there is no such device or precision.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> None:
        if device not in ("auto", "cpu"):
            raise WrongUsageError(
                f"device {device!r}: the openvino engine runs on the CPU; use --engine torch for others"
            )
        if precision != "auto" and precision not in _TYPES:
            raise WrongUsageError(f"precision {precision!r} is none of auto, {', '.join(_TYPES)}")
        self.precision = "fp32" if precision == "auto" else precision
        self._core = _core()
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.precision.upper() not in able:
            raise UnavailableError(f"precision {precision}: this CPU computes in {', '.join(sorted(able))}; use fp32")
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _TYPES[self.precision]}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._spec = checkpoint.spec
        self._defaults = default_boxes(checkpoint.spec.boxes)
        self._lock = threading.Lock()
        self._model = _prepared(self._core, checkpoint)
        boxes = self._model.outputs[0].partial_shape[1]
        if boxes.is_static and boxes.get_length() != len(self._defaults):
            raise CheckpointError(
                f"the checkpoint is wrong: it lays out {len(self._defaults)} default boxes, "
                f"but its network predicts {boxes.get_length()}"
            )
        self._alone = self._compile("LATENCY").create_infer_request()
        self._several: Any = None

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR."""
        spec, count = self._spec, len(batch)
        locations = np.empty((count, len(self._defaults), 4), np.float32)
        raw_scores = np.empty((count, len(self._defaults), spec.num_columns), np.float32)

        def keep(request: Any, place: int) -> None:
            locations[place] = request.get_output_tensor(0).data[0]
            raw_scores[place] = request.get_output_tensor(1).data[0]

        with self._lock:
            if count == 1:
                self._alone.infer([np.ascontiguousarray(batch)], share_inputs=True)
                keep(self._alone, 0)
            elif count:
                self._infer_several(batch, keep)
        return locations, raw_scores

    def decode(self, locations: Floats, raw_scores: Floats, selection: Selection) -> host.PackedBoxes:
        """Boxes from what :meth:`infer` returned."""
        return host.postprocess(locations, raw_scores, self._defaults, self._spec, selection)

    def _infer_several(self, batch: NDArray[np.uint8], keep: Any) -> None:
        from openvino import AsyncInferQueue

        if self._several is None:  # a second plan for the same weights, made when it is first wanted
            self._several = AsyncInferQueue(self._compile("THROUGHPUT"))
        self._several.set_callback(keep)
        for place in range(len(batch)):
            self._several.start_async([batch[place : place + 1]], place, share_inputs=True)
        self._several.wait_all()

    def _compile(self, hint: str) -> openvino.CompiledModel:
        return self._core.compile_model(self._model, "CPU", {**self._settings, "PERFORMANCE_HINT": hint})


def _core() -> openvino.Core:
    try:
        import openvino
    except ImportError as error:
        raise UnavailableError(
            f"the openvino engine needs OpenVINO: pip install 'ssdcam[openvino]' ({error})"
        ) from error
    return openvino.Core()


def _prepared(core: openvino.Core, checkpoint: Checkpoint) -> openvino.Model:
    """The network with its normalisation, for one picture ``(1, H, W, 3)``, uint8: from the cache, or made now."""
    folder = cache_folder() / "openvino"
    with suppress(OSError):  # a folder that is not ours, or a full disk: it works without
        folder.mkdir(parents=True, exist_ok=True)
        core.set_property("CPU", {"CACHE_DIR": str(folder)})  # what is compiled for this CPU, too
    digest = _digest(checkpoint)
    kept = folder / f"{digest}.xml"
    if kept.is_file():
        with suppress(RuntimeError):  # damaged: made again
            return core.read_model(kept)
    note(f"openvino: preparing this network; it is kept in {folder} and starts faster from then on")
    model = _convert(checkpoint)
    with suppress(OSError, RuntimeError):
        _keep(model, folder, digest)
    return model


def _digest(checkpoint: Checkpoint) -> str:
    """Of all that the prepared network depends on."""
    spec = spec_to_json(checkpoint.spec)
    facts = [_FORMAT, importlib.metadata.version("openvino"), {**spec, "provenance": None}]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted(checkpoint.weights.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _keep(model: openvino.Model, folder: Path, digest: str) -> None:
    """Into the cache, whole: the weights first, as the description is what is looked for."""
    import openvino

    part = folder / f"{digest}.{token_hex(4)}.xml"
    try:
        openvino.save_model(model, part, compress_to_fp16=False)
        part.with_suffix(".bin").replace(folder / f"{digest}.bin")
        part.replace(folder / f"{digest}.xml")
    finally:
        for file in (part, part.with_suffix(".bin")):
            file.unlink(missing_ok=True)


def _convert(checkpoint: Checkpoint) -> openvino.Model:
    import torch

    from ssdcam.detection.torch_engine import Normalise, load_network

    network = torch.nn.Sequential(Normalise(checkpoint.spec.normalisation), load_network(checkpoint)).eval()
    height, width = checkpoint.spec.input_size
    model = from_torch(network, torch.zeros(1, height, width, 3, dtype=torch.uint8))
    model.reshape([1, height, width, 3])
    return model


def from_torch(network: torch.nn.Module, example: torch.Tensor) -> openvino.Model:
    """Trace a network; by OpenVINO's frontend itself, whose usual wrapper reports to its makers."""
    import warnings

    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants, as they should
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(network, example_input=example)  # nothing else holds it while it is read
        return frontend.convert(frontend.load(decoder))
