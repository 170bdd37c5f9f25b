"""Compare what a 4K frame costs beyond its decoding with what a 1080p frame costs.

    python benchmarks/large_frames.py [-m MODEL] [--engine auto] [--frames 60] [--rounds 5] [-o FILE.json]

Two H.264 videos of the same synthetic scene are made. Three loops over each run in turn, one frame after the other:
decoding (FFmpeg alone), detection (decoding and what ``ssdcam video --json`` does with a frame), and drawing (besides,
a copy of it that is drawn on: what a labelled video costs before it is encoded).
``beyond_decoding`` compares the second less the first, ``with_drawing`` the third less the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from common import in_turn, ratio, report

from ssdcam.benchmarking.synthetic import write_scene
from ssdcam.detection.detector import Detector, load
from ssdcam.media.av import av
from ssdcam.media.drawing import draw_detections
from ssdcam.media.sources import FileSource

SIZES = {"1080p": (1920, 1080), "4K": (3840, 2160)}


def decode(video: Path) -> int:
    """Decode only; how many frames."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def detect(detector: Detector, video: Path, *, drawing: bool) -> int:
    """Decode and detect, one after the other; how many frames."""
    count = 0
    batch = np.empty((1, *detector.spec.input_size, 3), np.uint8)
    with FileSource(video) as source:
        while (frame := source.read()) is not None:
            frame.resize_into(batch[0])
            (found,) = detector.decode(detector.infer(batch), [frame.size])
            if drawing:
                draw_detections(frame.to_draw_on().surface, found)
            count += 1
    return count


def a_frame(loop: Callable[[], int]) -> float:
    """Milliseconds a frame."""
    begin = time.perf_counter()
    count = loop()
    return (time.perf_counter() - begin) * 1e3 / count


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    detector = load(given.model, engine=given.engine, precision=given.precision)
    with TemporaryDirectory() as folder:
        jobs = {}
        for size, (width, height) in SIZES.items():
            video = Path(folder) / f"{size}.mp4"
            write_scene(video, width, height, seconds=given.frames / 30)
            jobs[f"{size} decoding"] = partial(a_frame, partial(decode, video))
            jobs[f"{size} detection"] = partial(a_frame, partial(detect, detector, video, drawing=False))
            jobs[f"{size} drawing"] = partial(a_frame, partial(detect, detector, video, drawing=True))
        in_turn(jobs, 1)
        times = in_turn(jobs, given.rounds)

    def beyond(size: str, what: str) -> list[float]:
        return [a - b for a, b in zip(times[f"{size} {what}"], times[f"{size} decoding"], strict=True)]

    figures = {
        "model": given.model or "the embedded one",
        "engine": detector.engine.name,
        "precision": detector.engine.precision,
        "device": detector.engine.device,
        "ms_a_frame": {name: round(median(runs), 3) for name, runs in times.items()},
        "ratio_4k_to_1080p": {
            name: round(ratio(beyond("4K", what), beyond("1080p", what)), 3)
            for name, what in (("beyond_decoding", "detection"), ("with_drawing", "drawing"))
        },
    }
    report("large_frames", figures, given.output)


if __name__ == "__main__":
    main()
