"""A process that holds one engine and measures it when told to: a JSON object a line in, one a line out.

Every combination has a process of its own: start-up and memory are then its own, too, the threads of one engine never
get in the way of another's, and an engine that crashes takes nothing with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssdcam.errors import SsdcamError
from ssdcam.memory import ran_out

Answer = dict[str, Any]


def main() -> None:
    """Answer requests until there are no more. The first one says what to start."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed
    ask: Mapping[str, Callable[..., Answer]] = {"engine": start_engine, "media": start_media}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = ask[request.pop("do")](**request)
        except SsdcamError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the next request may fare better
            short = "too little memory: a smaller --batch or --input-size takes less"
            answer = {"error": short if ran_out(error) else f"{type(error).__name__}: {error}"}
        if "asks" in answer:
            ask = answer.pop("asks")
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def start_engine(
    checkpoint: str, engine: str, precision: str, device: str, threads: int | None, width: int, height: int
) -> Answer:
    """Start an engine and detect once; ``import_s``, ``prepare_s`` and ``detect_s``, and what came of it."""
    begin = time.perf_counter()
    import cv2
    import numpy as np

    from ssdcam.benchmarking.combinations import Combination
    from ssdcam.benchmarking.combinations import start_engine as start
    from ssdcam.checkpoints.checkpoint import load_checkpoint
    from ssdcam.cpu import threads_of_a_share
    from ssdcam.detection.detector import Detector, choose

    threads = threads or threads_of_a_share()
    if threads is not None:
        cv2.setNumThreads(threads)
    imported = time.perf_counter()
    loaded = load_checkpoint(Path(checkpoint))
    running = start(Combination(engine, precision, device), loaded, threads)
    detector = Detector(running, loaded.spec, choose(loaded.spec))
    prepared = time.perf_counter()
    detector.detect(np.full((height, width, 3), 127, np.uint8))
    return {
        "import_s": imported - begin,
        "prepare_s": prepared - imported,
        "detect_s": time.perf_counter() - prepared,
        "device": running.device,
        "precision": running.precision,
        "asks": _engine_asks(detector, width, height),
    }


def _engine_asks(detector: Any, width: int, height: int) -> Mapping[str, Callable[..., Answer]]:
    from ssdcam.benchmarking import measure
    from ssdcam.benchmarking.synthetic import scenes

    images = list(scenes(4, width, height))

    def network(batch: int, seconds: float, warmup: int) -> Answer:
        times = measure.time_network(detector, batch, seconds, warmup)
        device_memory = measure.device_memory_mb(detector.engine.device)
        return {**times, "peak_memory_mb": measure.peak_memory_mb(), "device_memory_mb": device_memory}

    def decoding(batch: int, score: float, seconds: float) -> Answer:
        return measure.time_decoding(detector, batch, score, seconds)

    def detection(seconds: float) -> Answer:
        return measure.time_detection(detector, images, seconds)

    def pipeline(video: str, output: str, frames: int, batch: int, score: float) -> Answer:
        return measure.run_pipeline(detector.with_score(score), Path(video), Path(output), frames, batch)

    return {"network": network, "decoding": decoding, "detection": detection, "pipeline": pipeline}


def start_media() -> Answer:
    """Start nothing: decoding and encoding need no engine."""
    from ssdcam.benchmarking import measure

    def decode(video: str, frames: int) -> Answer:
        return measure.time_video_decoding(Path(video), frames)

    def encode(video: str, output: str, frames: int) -> Answer:
        return measure.time_video_encoding(Path(video), Path(output), frames)

    return {"asks": {"decode": decode, "encode": encode}}


if __name__ == "__main__":
    main()
