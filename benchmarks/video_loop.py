"""Compare ``ssdcam video`` with the loop that everybody writes first, on one video.

    python benchmarks/video_loop.py VIDEO [-m MODEL] [--engine auto] [--rounds 5] [-o FILE.json]

The loop: cv2.VideoCapture, plain torch (fp32, NCHW, eager), cv2.rectangle and cv2.putText, cv2.VideoWriter with mp4v,
one after the other. ``ssdcam video`` writes H.264. Both run in turn, several rounds. The loop's rate is of all frames
from the opening of the video to the closing of the output. The command's is, too: a run over the first frames is taken
from a run over all of them, so that what is left is without the start, which ends when the network has had its first
batch, and with the end.

The floor: decoding, the network and encoding are measured alone (``ssdcam bench``), in turn with the others; the sum of
their CPU times over the cores is the least that a frame can take. ``reached`` is the share of that rate that the
command comes to, and that the same pipeline comes to within ``ssdcam bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from common import in_turn, ratio, report, ssdcam, timed

from ssdcam.benchmarking.eager import EagerEngine
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.detection.detector import choose
from ssdcam.pipeline.run import default_batch

START = 8  # frames, of which every device makes one batch at least


def loop(video: Path, output: Path, model: str | None, max_frames: int | None) -> dict[str, float]:
    """The obvious loop; frames a second."""
    checkpoint = open_checkpoint(model)
    spec = checkpoint.spec
    engine, selection = EagerEngine(checkpoint), choose(spec)
    height, width = spec.input_size
    engine.infer(np.zeros((1, height, width, 3), np.uint8))

    begin = time.perf_counter()
    capture = cv2.VideoCapture(str(video))
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)
    frames = 0
    while frames != max_frames:
        there, frame = capture.read()
        if not there:
            break
        found = engine.decode(*engine.infer(cv2.resize(frame, (width, height))[None]), selection)
        for box, score, class_id in zip(found.boxes, found.scores, found.class_ids, strict=True):
            x1, y1, x2, y2 = (box * (*size, *size)).astype(int).tolist()
            cv2.rectangle(frame, (x1, y1), (x2, y2), (0, 255, 0), 2)
            text = f"{spec.labels[class_id]} {score:.2f}"
            cv2.putText(frame, text, (x1, y1 - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 255, 0), 2)
        writer.write(frame)
        frames += 1
    writer.release()
    return {"frames": frames, "fps": frames / (time.perf_counter() - begin)}


def command(video: Path, folder: Path, how: list[object], max_frames: int | None) -> dict[str, Any]:
    """``ssdcam video``; its ``--stats``, with the rate as the module says."""
    stats = folder / "stats.json"
    every = ["video", video, "-o", folder / "ssdcam.mp4", "--stats", stats, "-y", "-q", *how]
    first = [*every, "--max-frames", START]
    if max_frames:
        every += ["--max-frames", max_frames]
    arguments = json.dumps([list(map(str, first)), list(map(str, every))])
    done = timed([sys.executable, "-c", COMMANDS, arguments])
    of_first, of_every = json.loads(done.out)
    figures: dict[str, Any] = json.loads(stats.read_text("utf-8"))
    if figures["frames"] <= START:
        sys.exit(f"more than {START} frames are needed")
    return {**figures, "fps": (figures["frames"] - START) / (of_every - of_first)}


# Runs the first command to warm up, then it and the second one, and says how many seconds these took.
COMMANDS = """
import json, sys, time
from ssdcam.cli.command_line import run
first, every = json.loads(sys.argv[1])
seconds = []
for arguments in (first, first, every):
    begin = time.perf_counter()
    if code := run(arguments):
        sys.exit(code)
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds[1:]))
"""


def alone(video: Path, model: list[object], used: dict[str, Any]) -> dict[str, Any]:
    """Decoding, network and encoding alone: their CPU time in ms a frame, and the pipeline that they leave possible."""
    seconds = max(used["frames"] / used["fps"], 0.1)
    bench = json.loads(
        ssdcam(
            "bench", video, *model, "--engines", used["engine"], "--precisions", used["precision"],
            "--device", used["device"], "--batch", default_batch(used["device"]), "--rounds", 1,
            "--seconds", f"{seconds:.2f}", "--json", "-q",
        ).out
    )  # fmt: skip
    stages = {name: stage["cpu_ms"] for name, stage in bench["stages"].items()}
    return {"cpu_ms": {**stages, "network": bench["network"][0]["cpu_ms"]}, "pipeline": bench["pipeline"][0]}


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("-m", "--model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--calibrate", metavar="DIR", help="pictures for --precision int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    model: list[object] = ["-m", given.model] if given.model else []
    how = [*model, "--engine", given.engine, "--precision", given.precision]
    how += ["--calibrate", given.calibrate] if given.calibrate else []
    with TemporaryDirectory() as name:
        folder = Path(name)
        used: dict[str, Any] = {}  # what the round's command told, which the parts are then measured with

        def run_command() -> dict[str, Any]:
            used.update(command(given.video, folder, how, given.max_frames))
            return {**used}

        runs = in_turn(
            {
                "loop": lambda: loop(given.video, folder / "loop.mp4", given.model, given.max_frames),
                "ssdcam": run_command,
                "each part alone": lambda: alone(given.video, model, used),
            },
            given.rounds,
        )
    rates = {name: [run["fps"] for run in runs[name]] for name in ("loop", "ssdcam")}
    parts = runs["each part alone"]
    possible = [part["pipeline"]["possible_fps"] for part in parts]
    figures = {
        "video": given.video.name,
        "frames": used["frames"],
        "model": used["model"],
        "ssdcam": {**{key: used[key] for key in ("engine", "precision", "device")}, "fps": _rounded(rates["ssdcam"])},
        "loop": {"fps": _rounded(rates["loop"])},
        "ratio": round(ratio(rates["ssdcam"], rates["loop"]), 3),
        "cpu_ms_alone": {name: round(median(part["cpu_ms"][name] for part in parts), 3) for name in parts[0]["cpu_ms"]},
        "possible_fps": _rounded(possible),
        "reached": {
            "pipeline": round(median(part["pipeline"]["share_of_possible"] for part in parts), 4),
            "command": round(ratio(rates["ssdcam"], possible), 4),
        },
    }
    report("video_loop", figures, given.output)


def _rounded(rates: list[float]) -> list[float]:
    return [round(rate, 2) for rate in rates]


if __name__ == "__main__":
    main()
