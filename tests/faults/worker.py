"""Reads damaged files in a process of its own, so that a crash is seen, and says before each what it is about to read.

Lines in: ``READER ORIGINAL SEED`` as JSON lists. Lines out: ``["begin", case]`` and ``["end", outcome, damage, peak in
bytes]``. By hand, a case can be repeated with ``python -m tests.faults.worker READER ORIGINAL SEED [KEEP_AS]``.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults.mutate import damaged
from tests.faults.readers import copy, outcome
from tests.waiting import GUARD

# What is allocated beyond this, in bytes, is refused by the system, so that no case brings the machine down.
MOST_ADDRESSES = 12 * 2**30


def damage(original: Path, seed: str, place: Path) -> tuple[Path, str]:
    """A damaged copy; of a folder, one file in it is damaged that the seed chooses. No seed, no damage."""
    path = copy(original, place)
    if not seed:
        return path, "as it is"
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    chosen = random.Random(f"file {seed}").choice(files)
    siblings = sorted(p for p in original.parent.iterdir() if p.is_file()) or files
    donor = random.Random(f"donor {seed}").choice(siblings)
    with donor.open("rb") as file:
        donors = [file.read(1 << 16), bytes(range(256)) * 16]
    names, data = damaged(chosen.read_bytes(), seed, [d for d in donors if d])
    chosen.write_bytes(data)
    return path, names if chosen == path else f"{names} in {chosen.relative_to(path)}"


def one(reader: str, original: Path, seed: str) -> tuple[str, str, int]:
    """Outcome, damage and peak of memory of a case."""
    folder = Path(tempfile.mkdtemp())
    try:
        path, names = damage(original, seed, folder / original.name)
        _forget_peak()
        try:
            said = outcome(reader, path)
        except Exception:
            said = f"WRONG {traceback.format_exc()}"
        return said, names, _peak()
    finally:
        shutil.rmtree(folder)


def _forget_peak() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most memory in bytes since it was last forgotten."""
    if sys.platform != "linux":
        return 0
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _say(*words: object) -> None:
    os.write(_OUT, (json.dumps(words) + "\n").encode())


def main(arguments: Sequence[str]) -> None:
    import ssdcam.media  # sets OpenCV's limits before OpenCV is loaded  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    if arguments:
        reader, original, seed, *keep = arguments
        if keep:
            damage(Path(original), seed, Path(keep[0]))
        print(*one(reader, Path(original), seed), sep="\n")
        return
    for line in sys.stdin:
        case = json.loads(line)
        _say("begin", case)
        faulthandler.dump_traceback_later(GUARD, exit=True)
        said = one(case[0], Path(case[1]), case[2])
        faulthandler.cancel_dump_traceback_later()
        _say("end", *said)


if __name__ == "__main__":
    _OUT = os.dup(1)
    if len(sys.argv) == 1:  # libraries say things of their own
        os.dup2(2, 1)
    main(sys.argv[1:])
