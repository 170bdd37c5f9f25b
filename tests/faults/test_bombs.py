"""Files that claim more than memory holds are refused in a line, and nothing makes the process exceed its bound.

The bounds are stated in docs/RELIABILITY.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detections import Detections
from ssdcam.media.drawing import draw_detections
from ssdcam.media.surface import BgrSurface

from . import bombs
from .cases import Case, run_cases
from .conftest import Count

# Bytes that a bomb may make the reading process take beside torch itself.
BOUND = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bombs")


def test_every_bomb_is_refused_in_bounded_memory(folder: Path, count: Count) -> None:
    cases = []
    for name, (reader, make) in bombs.BOMBS.items():
        make(folder / name)
        cases.append(Case(reader, folder / name, ""))
    for name, make in {"voc": bombs.deep_xml}.items():
        (folder / "more").mkdir()
        make(folder / "more" / name)
        cases.append(Case("records", folder / "more" / name, ""))
    ended = run_cases(cases)
    count("bombs", len(ended))
    survivors = {one.case.original.name: one.outcome for one in ended if one.outcome == "read"}
    assert not survivors
    heavy = {one.case.original.name: one.peak >> 20 for one in ended if one.peak > BOUND}
    assert not heavy


@pytest.mark.parametrize(
    ("side", "bits", "kind"), [(16384, 8, 2), (16384, 16, 6)], ids=["8 bits", "16 bits, with alpha"]
)
@pytest.mark.slow
def test_the_largest_picture_that_is_read(side: int, bits: int, kind: int, folder: Path, count: Count) -> None:
    bombs.png(folder / "largest.png", side, side, bits, kind)
    (ended,) = run_cases([Case("image", folder / "largest.png", "")])
    count("bombs", 1)
    assert ended.outcome == "read"


def test_sound_with_a_hole_of_days_is_not_filled_with_silence(folder: Path, count: Count) -> None:
    bombs.sound_with_a_hole(folder / "hole.mkv")
    (ended,) = run_cases([Case("labelled_video", folder / "hole.mkv", "")])
    count("bombs", 1)
    assert ended.outcome == "read"
    assert ended.peak < BOUND


def test_a_label_as_long_as_a_book_is_drawn_in_no_time_and_memory() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    found = Detections(np.array([[5, 20, 70, 50]], "f"), np.array([0.5], "f"), np.array([0]), ("n" * 10**6,))
    draw_detections(BgrSurface(image), found)
    assert image.any()


def test_a_network_that_would_give_more_scores_than_memory_holds(tiny_checkpoint: Checkpoint) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="too many"):
        replace(tiny_checkpoint.spec, labels=("x",) * 200_000)
