"""Measure the share that decoding and NMS take of SSD300-VGG16's time: 8732 boxes, 21 classes, batches of 32.

    python benchmarks/nms.py [--engines all] [--device auto] [--batch 32] [--scores 0.5,0.01] [--rounds 3]
                             [-o FILE.json]

The scores are made up as a trained detector's are: a picture has some objects, about 25 pairs of box and class from .5
on and 1,800 from .01 on. .5 is what people look at, .01 what evaluations take. On CPU, and on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import report, ssdcam

KEYS = ("engine", "precision", "device", "batch", "per_second", "postprocess_ms", "postprocess_share")


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="all")
    parser.add_argument("--precisions", default="all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--scores", default="0.5,0.01")
    parser.add_argument("--arch", default="ssd300-vgg16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    how = ["--arch", given.arch, "--engines", given.engines, "--precisions", given.precisions, "--device", given.device]
    how += ["--batch", given.batch, "--rounds", given.rounds, "--seconds", given.seconds]
    rows, unavailable = [], []
    for score in given.scores.split(","):
        bench = json.loads(ssdcam("bench", *how, "--score", score, "--no-pipeline", "--json", "-q").out)
        rows += [{"score": float(score), **{key: row[key] for key in KEYS}} for row in bench["network"]]
        unavailable = bench["unavailable"]
    report("nms", {"network": bench["settings"]["network"], "rows": rows, "unavailable": unavailable}, given.output)


if __name__ == "__main__":
    main()
