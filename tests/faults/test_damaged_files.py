"""Damaged files of every kind through their readers: what is read makes sense, what is not is told in a line.

A case is a reader, a whole file and a seed. One that fails is printed with the command that repeats it; see
docs/RELIABILITY.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import Ended, cases_for, run_cases
from .conftest import Count

# What is damaged, how it is read, and how many seeds each file gets in every run; a slow run takes as many times more.
KINDS = {
    "pictures": (("image", "image_head"), 24),
    "videos": (("video", "video_from_the_middle", "labelled_video"), 12),
    "checkpoints": (("checkpoint",), 40),
    "datasets": (("dataset",), 30),
    "records": (("records",), 60),
}
MORE = 25


def survey(ended: list[Ended]) -> None:
    """The damage is neither so slight that everything is read, nor so great that nothing is."""
    read = sum(one.outcome == "read" for one in ended) / len(ended)
    assert 0.02 < read < 0.98, read


@pytest.mark.parametrize("kind", KINDS)
def test_small_files_made_here(kind: str, request: pytest.FixtureRequest, count: Count) -> None:
    readers, seeds = KINDS[kind]
    ended = run_cases(cases_for(readers, request.getfixturevalue(kind), range(seeds)))
    count(f"damaged {kind}", len(ended))
    survey(ended)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_seeds(kind: str, request: pytest.FixtureRequest, count: Count) -> None:
    readers, seeds = KINDS[kind]
    ended = run_cases(cases_for(readers, request.getfixturevalue(kind), range(seeds, MORE * seeds)))
    count(f"damaged {kind}", len(ended))


REAL = {
    "photo": ("weights/coco_ssd_mobilenet_v1/cats_and_dogs.jpg", ("image",), 20),
    "mp4": ("videos/corrupted.mp4", ("video",), 12),
    "h265": ("videos/h265-small.mp4", ("video",), 12),
    "turned mov": ("videos/rotated-90.mov", ("video", "video_from_the_middle"), 12),
    "two streams": ("videos/nasa-two-streams-audio.mp4", ("video_from_the_middle",), 4),
    "tflite": ("weights/coco_ssd_mobilenet_v1/detect.tflite", ("checkpoint",), 20),
    "state dict": ("weights/face_ultralight/version-slim-320.pth", ("checkpoint",), 12),
}


def real(what: str, shared: Path, seeds: range) -> list[Ended]:
    name, readers, _ = REAL[what]
    if what == "tflite":
        pytest.importorskip("tflite", reason="reading TensorFlow Lite files needs the tflite package")
    return run_cases(cases_for(readers, [shared / name], seeds))


@pytest.mark.parametrize("what", REAL)
def test_real_files(what: str, shared: Path, count: Count) -> None:
    count("damaged real media and weights", len(real(what, shared, range(REAL[what][2]))))


@pytest.mark.slow
@pytest.mark.parametrize("what", REAL)
def test_real_files_with_many_more_seeds(what: str, shared: Path, count: Count) -> None:
    seeds = REAL[what][2]
    count("damaged real media and weights", len(real(what, shared, range(seeds, MORE * seeds))))
