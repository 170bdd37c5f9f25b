"""Measuring one thing, in the process that does it; every function gives JSON's own types."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.benchmarking.synthetic import detector_like
from ssdcam.detection.detector import Detector
from ssdcam.detections import Detections, Image
from ssdcam.errors import SsdcamError

if TYPE_CHECKING:
    from ssdcam.media.sources import FileSource
    from ssdcam.media.surface import Surface
    from ssdcam.media.video_writer import VideoWriter

_LEAST_CALLS = 2  # of a round, however slow
_COMMON_RATE = Fraction(25)  # of a video that states none
_MEMORY = 400 * 2**20  # bytes of decoded frames to hold for the encoder


@dataclass
class _Spent:
    """Seconds from the beginning to the end of a ``with`` block; ``cpu_s`` is of all this process' threads."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def _spending() -> Iterator[_Spent]:
    spent = _Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.wall_s, spent.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def time_network(detector: Detector, batch: int, seconds: float, warmup: int = 1) -> dict[str, Any]:
    """Time the network alone, from a prepared batch on the host to raw output, wherever the engine has that.

    Args:
        detector: holds the engine.
        batch: pictures a call.
        seconds: how long to go on; two calls at least.
        warmup: calls before.

    Returns:
        ``latencies_s`` of the calls, each waited for; ``pictures``, ``wall_s`` and ``cpu_s`` of calls back to back.
    """
    height, width = detector.spec.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    wait = _waiter(detector.engine.device)

    def call() -> None:
        detector.infer(pixels)
        wait()

    for _ in range(warmup):
        call()
    with _spending() as spent:
        latencies = _repeat(call, seconds)
    if detector.engine.device != "cpu":  # a device works while the next call is made, so waiting for each costs rate
        with _spending() as spent:
            for _ in latencies:
                detector.infer(pixels)
            wait()
    pictures = batch * len(latencies)
    return {"latencies_s": latencies, "pictures": pictures, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def time_decoding(detector: Detector, batch: int, score: float, seconds: float) -> dict[str, Any]:
    """Time decoding and NMS of what a trained detector might say of a batch; ``latencies_s``, each of a batch."""
    engine, spec = detector.engine, detector.spec
    height, width = spec.input_size
    real = engine.infer(np.zeros((batch, height, width, 3), np.uint8))
    locations, raw_scores = (_like(own, made) for own, made in zip(real, detector_like(spec, batch), strict=True))
    selection = detector.with_score(score).selection

    def call() -> None:
        engine.decode(locations, raw_scores, selection)

    call()
    return {"latencies_s": _repeat(call, seconds)}


def time_detection(detector: Detector, images: Sequence[Image], seconds: float) -> dict[str, Any]:
    """Time the whole way from pictures in memory to detections, one picture at a time; ``latencies_s``."""
    places = iter(range(2**62))
    detector.detect(images[0])
    return {"latencies_s": _repeat(lambda: detector.detect(images[next(places) % len(images)]), seconds)}


def run_pipeline(detector: Detector, video: Path, output: Path, frames: int, batch: int) -> dict[str, Any]:
    """Run what ``ssdcam video`` runs: decode, detect, draw, encode to H.264, in its threads.

    Returns:
        ``stats`` as ``--stats`` writes them, their wall time and rate to the end of the finished file; ``cpu_s``.

    Raises:
        SsdcamError: the video cannot be read, or the output not written.
    """
    from ssdcam.media.drawing import draw_detections, draw_panel
    from ssdcam.media.sources import FileSource
    from ssdcam.pipeline.run import Pipeline
    from ssdcam.pipeline.sinks import VideoSink
    from ssdcam.pipeline.timing import Timing

    def draw(surface: Surface, detections: Detections, timing: Timing) -> None:
        draw_panel(surface, [f"{timing.live_fps:.1f} fps  {timing.live_latency_ms:.0f} ms"])
        draw_detections(surface, detections)

    with _spending() as spent, FileSource(video, max_frames=frames) as source:
        timing = Timing()
        with _writer(output, source) as writer:
            pipeline = Pipeline(source, detector, [VideoSink(writer)], draw, timing=timing, stop=Event(), batch=batch)
            try:
                pipeline.start()
                pipeline.join()
            finally:
                pipeline.stop()
            if pipeline.failure:
                raise pipeline.failure
    stats = timing.stats().to_json()
    stats["wall_s"], stats["fps"] = round(spent.wall_s, 3), round(timing.frames / spent.wall_s, 2)
    return {"stats": stats, "cpu_s": spent.cpu_s}


def time_video_decoding(video: Path, frames: int) -> dict[str, Any]:
    """Decode a video and do nothing with its pictures; ``frames``, ``wall_s``, ``cpu_s``.

    As in the pipeline they stay in luma and chroma if they can.

    Raises:
        SourceError: it cannot be read.
    """
    from ssdcam.media.sources import FileSource

    count = 0
    with _spending() as spent, FileSource(video, max_frames=frames) as source:
        while source.read() is not None:
            count += 1
    return {"frames": count, "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def time_video_encoding(video: Path, output: Path, frames: int) -> dict[str, Any]:
    """Encode a video's pictures as ``ssdcam video`` does, from memory; ``frames``, ``wall_s``, ``cpu_s``.

    As in the pipeline they are in luma and chroma if they can be.

    Raises:
        SsdcamError: the video cannot be read, or the output not written.
    """
    from ssdcam.media.sources import FileSource

    with FileSource(video, max_frames=frames) as source:
        held = min(frames, max(_MEMORY // (source.width * source.height * 3), 2))
        pictures = [frame.to_draw_on() for _ in range(held) if (frame := source.read()) is not None]
        with _spending() as spent, _writer(output, source) as writer:
            for frame in pictures:
                writer.write(frame.picture, frame.pts - pictures[0].pts)
    return {"frames": len(pictures), "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


def _writer(output: Path, source: FileSource) -> VideoWriter:
    from ssdcam.media.video_writer import VideoWriter

    return VideoWriter(
        output, width=source.width, height=source.height, rate=source.rate or _COMMON_RATE, colours=source.colours
    )


def peak_memory_mb() -> float | None:
    """The most memory that this process has held so far, in MiB; None where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    with suppress(ImportError):  # Linux counts what the parent had in it, too; macOS does not
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    return None


def device_memory_mb(device: str) -> float | None:
    """The most memory that torch has taken on a CUDA device so far, in MiB; None elsewhere."""
    if not device.startswith("cuda"):
        return None
    import torch

    return round(torch.cuda.max_memory_reserved(device) / 2**20, 1)


def _repeat(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, called until that time is over."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_CALLS or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def _waiter(device: str) -> Callable[[], None]:
    """What waits until a device has done all that it was given."""
    if device.startswith("cuda"):
        import torch

        return lambda: torch.cuda.synchronize(device)
    if device == "mps":
        import torch

        return torch.mps.synchronize
    return lambda: None


def _like(own: Any, made: NDArray[np.float32]) -> Any:
    """Numbers as the engine has its own: on its device, in its type."""
    if own.shape != made.shape:
        raise SsdcamError(f"the engine gives {tuple(own.shape)} where {made.shape} was expected")
    if isinstance(own, np.ndarray):
        return made.astype(own.dtype)
    import torch

    return torch.from_numpy(made).to(own.device, own.dtype)
