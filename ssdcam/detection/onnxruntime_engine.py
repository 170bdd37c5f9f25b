"""SSD in ONNX Runtime: CPU, and CUDA or TensorRT where its package has them; no torch once a network is prepared.

A network is prepared once: torch exports it to ONNX, and the result is kept; see ``prepared``.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssdcam.cache import cache_folder
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.checksums import read_checked, write_checked
from ssdcam.detection.devices import cuda_may_be_there, device_kind, device_number
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.int8 import Calibration, quantise, quantised
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.prepared import Form, Ready, check_boxes, digest, prepared
from ssdcam.errors import UnavailableError
from ssdcam.ssd import host
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    import onnxruntime

Precision = Literal["auto", "fp32", "fp16", "int8"]
Floats = NDArray[np.float32]
Provider = tuple[str, dict[str, Any]]

_ENGINE = "onnxruntime"
_FORMAT = 3  # of what is kept; a new one when to_onnx or quantise changes
_SUFFIXES = (".onnx",)
_SILENT = 4  # of its own log, as what goes wrong is raised, too
_AUTO = {"cpu": "fp32", "cuda": "fp16"}


class OnnxRuntimeEngine:
    """An SSD in ONNX Runtime; see :class:`ssdcam.detection.engine.Engine`. Safe to use from several threads.

    Args:
        checkpoint: the spec and weights to run.
        device: ``auto`` (CUDA where package and machine have it, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``. On
            CUDA, TensorRT runs the network where it is installed.
        precision: ``auto`` is fp16 on CUDA, else fp32; ``fp16`` on CUDA, ``int8`` on CPUs.
        threads: CPU threads to use; None is all.
        calibration: pictures to choose int8's ranges on; None takes those of last time.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: ONNX Runtime, or what prepares networks for it, is not installed, or it lacks the device.
        WrongUsageError: there is no such device or precision, or int8 has no pictures yet.
    """

    name = _ENGINE

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        known = ENGINES[_ENGINE]
        known.check(device, precision)
        runtime = _onnxruntime()
        available = runtime.get_available_providers()
        if device == "auto":
            there = precision != "int8" and "CUDAExecutionProvider" in available and cuda_may_be_there()
            device = "cuda" if there else "cpu"
            known.check(device, precision)
        kind = device_kind(device)
        self.device = f"cuda:{device_number(device)}" if kind == "cuda" else "cpu"
        self.precision = _AUTO[kind] if precision == "auto" else precision
        options = runtime.SessionOptions()
        options.log_severity_level = _SILENT
        if threads is not None:
            options.intra_op_num_threads = threads
        if kind == "cuda":
            runtime.preload_dlls()  # CUDA's libraries out of their own packages
        wanted = providers(self.device, available, str(cache_folder() / _ENGINE))

        def session(model: bytes) -> onnxruntime.InferenceSession:
            return runtime.InferenceSession(model, options, providers=wanted)

        self._spec = checkpoint.spec
        self._defaults = default_boxes(checkpoint.spec.boxes)
        self._session = _prepared(checkpoint, self.precision, calibration, session)
        if kind == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise UnavailableError(
                f"device {device}: ONNX Runtime cannot use it; check nvidia-smi, and that CUDA and cuDNN are installed"
            )
        check_boxes(len(self._defaults), self._session.get_outputs()[0].shape[1])

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Locations and raw scores of a batch ``(B, H, W, 3)``, BGR."""
        if len(batch) == 0:
            boxes = len(self._defaults)
            return np.empty((0, boxes, 4), np.float32), np.empty((0, boxes, self._spec.num_columns), np.float32)
        locations, raw_scores = self._session.run(None, {"images": batch})
        return locations, raw_scores

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Floats, Floats]]:
        """See :meth:`ssdcam.detection.engine.Engine.submit`; ONNX Runtime is waited for at once."""
        outputs = self.infer(batch)
        return lambda: outputs

    def decode(self, locations: Floats, raw_scores: Floats, selection: Selection) -> host.PackedBoxes:
        """Boxes from what :meth:`infer` returned."""
        return host.postprocess(locations, raw_scores, self._defaults, self._spec, selection)


def _onnxruntime() -> Any:
    try:
        runtime = import_quietly("onnxruntime")
    except ImportError as error:
        raise UnavailableError(
            f"the onnxruntime engine needs ONNX Runtime: pip install 'ssdcam[onnxruntime]' ({error})"
        ) from error
    runtime.disable_telemetry_events()  # of what Windows collects
    return runtime


def providers(device: str, available: list[str], cache: str) -> list[Provider]:
    """What is to run a network on a device, the best first, each with its settings.

    Args:
        device: ``cpu`` or ``cuda:N``.
        available: what ONNX Runtime says it was built with.
        cache: the folder for what TensorRT compiles.

    Raises:
        UnavailableError: this ONNX Runtime has no CUDA.
    """
    chosen: list[Provider] = [("CPUExecutionProvider", {})]
    if device == "cpu":
        return chosen
    if "CUDAExecutionProvider" not in available:
        raise UnavailableError(
            f"device {device}: this ONNX Runtime was installed without CUDA; pip install onnxruntime-gpu in its place"
        )
    number = device_number(device)
    chosen.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
    if "TensorrtExecutionProvider" in available and find_spec("tensorrt") is not None:
        settings = {
            "device_id": number,
            "trt_fp16_enable": True,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": cache,
        }
        chosen.insert(0, ("TensorrtExecutionProvider", settings))
    return chosen


def _prepared(
    checkpoint: Checkpoint, precision: str, calibration: Calibration | None, session: Callable[[Any], Ready]
) -> Ready:
    """The network with its normalisation, for pictures ``(B, H, W, 3)``, uint8: from the cache, or made now."""
    half = precision == "fp16"
    name = digest(checkpoint, _FORMAT, importlib.metadata.version("onnxruntime"), half)

    def run(kept: onnx.ModelProto | Path) -> Ready:
        return session(read_checked(kept).tobytes() if isinstance(kept, Path) else kept.SerializeToString())

    def read(kept: onnx.ModelProto | Path) -> onnx.ModelProto:
        import onnx

        return onnx.load_model_from_string(read_checked(kept).tobytes()) if isinstance(kept, Path) else kept

    def in_float() -> onnx.ModelProto:
        return prepared(Form(_ENGINE, _SUFFIXES, _write, read), name, lambda: to_onnx(checkpoint))

    def outputs(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> Iterator[tuple[Floats, Floats]]:
        runs: Any = run(model)
        for place in range(len(pictures)):
            locations, raw_scores = runs.run(None, {"images": pictures[place : place + 1]})
            yield locations[0], raw_scores[0]

    form = Form(_ENGINE, _SUFFIXES, _write, run)
    if precision != "int8":
        return prepared(form, name, lambda: to_onnx(checkpoint, half=half))
    # For any version of ONNX Runtime: an update is no reason to ask for pictures again.
    name = digest(checkpoint, _FORMAT)
    return quantised(form, name, calibration, checkpoint.spec, make=in_float, to_int8=quantise, outputs=outputs)


def _write(model: onnx.ModelProto, path: Path) -> None:
    write_checked(path, memoryview(model.SerializeToString()))


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep to itself what PyTorch's exporter says of its own insides, and of packages that it would register with."""
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.setLevel(level)


def to_onnx(checkpoint: Checkpoint, *, half: bool = False) -> onnx.ModelProto:
    """A checkpoint's network in ONNX: ``images (batch, H, W, 3)``, uint8, BGR, to ``locations`` and ``raw_scores``.

    Args:
        checkpoint: what to export.
        half: compute in fp16; outputs are float32 nevertheless.

    Raises:
        CheckpointError: the weights do not fit the architecture.
        UnavailableError: the exporter's packages are not installed.
    """
    import torch

    from ssdcam.detection.torch_engine import Normalise, load_network

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normalise = Normalise(checkpoint.spec.normalisation)
            self.network = load_network(checkpoint).to(torch.float16 if half else torch.float32)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pixels = self.normalise(images)
            locations, raw_scores = self.network(pixels.half() if half else pixels)
            return locations.float(), raw_scores.float()

    height, width = checkpoint.spec.input_size
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)  # a batch of 1 would become a constant
    with quiet_exporter(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                Whole().eval(),
                (images,),
                input_names=["images"],
                output_names=["locations", "raw_scores"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise UnavailableError(
                f"networks are exported to ONNX by onnxscript: pip install 'ssdcam[onnxruntime]' ({error})"
            ) from error
    assert program is not None  # as it is written to no file
    return program.model_proto
