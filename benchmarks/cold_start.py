"""Measure how long commands take from nothing: a new process for every run.

    python benchmarks/cold_start.py PHOTO [-m MODEL] [--engines torch,openvino] [--rounds 10] [-o FILE.json]

``ssdcam image PHOTO --json`` with each engine, and ``ssdcam --help``, in turn. One run of each goes before and does
not count: engines prepare a network once and keep it, and the files are then in the system's memory.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import median

from common import in_turn, ratio, report, ssdcam

HELP = "--help"


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-m", "--model")
    parser.add_argument("--engines", default="torch,openvino")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    model: list[object] = ["-m", given.model] if given.model else []
    engines = given.engines.split(",")
    jobs = {
        **{e: partial(ssdcam, "image", given.photo, "--json", "-q", "--engine", e, *model) for e in engines},
        HELP: partial(ssdcam, HELP),
    }
    in_turn(jobs, 1)
    seconds = {name: [done.wall_s for done in runs] for name, runs in in_turn(jobs, given.rounds).items()}
    figures = {
        "photo": given.photo.name,
        "model": given.model or "the embedded one",
        "seconds": {name: [round(s, 4) for s in runs] for name, runs in seconds.items()},
        "median_s": {name: round(median(runs), 4) for name, runs in seconds.items()},
        f"ratio_to_{engines[0]}": {name: round(ratio(seconds[name], seconds[engines[0]]), 4) for name in engines},
    }
    report("cold_start", figures, given.output)


if __name__ == "__main__":
    main()
