"""File names and labels that try to break out of a line, a folder or a terminal, or that are merely odd."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.records import read_records

from ..cli.commands import Terminal
from ..datasets import made
from ..media.sources.videos import make_video
from ..pictures import photo
from .conftest import Count
from .running import check, files_below, run_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse most of these names")

NAMES = (
    "a b", " lead", "trail ", "a\nb", "a\r\nb", "a\tb", "\x1b[2J", "\x1b]0;t\x07", "\x9b31m", "\x7f", "\x08\x08",
    "[bold]x[bold]",
    "[]", "[red", "\\", "a\\b", "..", "...", "-rf", "--json", "a%s%n", "{0}{x}", "$(id)", ";id", "`id`", "'", '"',
    "&&", "|",
    "a*b", "a?b", "[ab]", "**", "~", "#", "file:x", "voc:x", "a:b", "con", "nul", "<a>&amp;", "]]>", "=1+1", ",",
    "\u202egpj",
    "\u2028", "\ufeff", "\u0301e", "é", "e\u0301", "猫", "😀", "\udcff\udcfe", "a\udc80b", "n" * 251,
    "é" * 125, "猫" * 80,
)  # fmt: skip

LABELS = (
    ("a\nb", "\x1b[31m", "[bold]x"), ("..", "../../x", "/etc/passwd"), ("\udcff", "\ud800", "\x9b2J"), ("", " ", "\t"),
    ("猫" * 100, "n" * 5000, "é" * 100), ("<a>&", "]]>", "\0"), ('"', ",", "=1+1"), ("$x", "\\frac{", "$$"), ("\u2028",
    "\x85", "\ufeff"),
    ("con", "a:b", "*?"), ("same", "same", "same"),
)  # fmt: skip

FORMATS = ("r.jsonl", "r.csv", "r.json", "voc:r", "yolo:r")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs take place: some folders down, so that what climbs out of it is seen."""
    place = tmp_path / "a/b/here"
    (place / "in").mkdir(parents=True)
    monkeypatch.chdir(place)
    return place


def stays_inside(folder: Path, before: set[Path]) -> set[Path]:
    """What a run made, which must lie in the folders that it was given."""
    root = folder.parents[2]
    made_files = {path.relative_to(folder.relative_to(root)) for path in files_below(root) - before}
    assert {path.parts[0] for path in made_files} <= {"out", "crops", "r", *FORMATS[:3]}, made_files
    assert not any(".." in path.parts for path in made_files)
    return made_files


def run_on(words: list[str], folder: Path, target: str) -> set[Path]:
    before = files_below(folder.parents[2])
    said = run_here([*words, "-o", "out/", "--crops", "crops", "--records", target, "--json"])
    check(words, said)
    assert said.code == 0, said.err
    return stays_inside(folder, before)


def check_records(target: str, source: str) -> None:
    records = list(read_records(target))
    assert {record.source for record in records} == {source}
    assert any(len(record.detections) for record in records)


@pytest.mark.parametrize(("name", "target"), list(zip(NAMES, cycle(FORMATS))), ids=ascii)
def test_a_picture(name: str, target: str, folder: Path, tiny_model: Path, count: Count) -> None:
    source = f"in/{name}.jpg"
    photo(folder / "p.jpg").rename(folder / source)
    found = run_on(["image", source, "-m", str(tiny_model)], folder, target)
    assert Path("out") / f"{name}.jpg" in found
    assert any(path.parts[0] == "crops" for path in found)
    check_records(target, source)
    count("hostile file names", 1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("film") / "v.mp4", range(3))


@pytest.mark.parametrize(("name", "target"), list(zip(NAMES, cycle(FORMATS[::-1])))[::2], ids=ascii)
def test_a_video(name: str, target: str, folder: Path, film: Path, tiny_model: Path, count: Count) -> None:
    source = f"in/{name}.mp4"
    (folder / source).write_bytes(film.read_bytes())
    found = run_on(["video", source, "-m", str(tiny_model)], folder, target)
    assert Path("out") / f"{name}.mp4" in found
    check_records(target, source)
    count("hostile file names", 1)


@pytest.mark.parametrize("labels", LABELS, ids=range(len(LABELS)))
@pytest.mark.parametrize("target", FORMATS)
def test_labels(labels: tuple[str, ...], target: str, folder: Path, tiny_checkpoint: Checkpoint, count: Count) -> None:
    model = folder / "in/hostile.safetensors"
    save_checkpoint(replace(tiny_checkpoint, spec=replace(tiny_checkpoint.spec, labels=labels)), model)
    photo(folder / "in/p.jpg")
    run_on(["image", "in/p.jpg", "-m", str(model)], folder, target)
    found = [label for record in read_records(target) for label in record.detections.labels]
    assert found
    # XML gives \r and \n back as they are; every other character, too.
    assert set(found) <= set(labels)
    count("hostile labels", 1)


@pytest.mark.parametrize("labels", LABELS, ids=range(len(LABELS)))
@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["table", "json"])
def test_labels_in_weights_info(
    labels: tuple[str, ...], extra: list[str], folder: Path, tiny_checkpoint: Checkpoint, count: Count
) -> None:
    model = folder / "in/hostile.safetensors"
    save_checkpoint(replace(tiny_checkpoint, spec=replace(tiny_checkpoint.spec, labels=labels)), model)
    said = run_here(["weights", "info", str(model), *extra])
    check(["weights", "info"], said)
    assert said.code == 0
    count("hostile labels", 1)


@pytest.mark.parametrize("labels", LABELS[:-1], ids=range(len(LABELS) - 1))
def test_labels_of_a_data_set(labels: tuple[str, ...], folder: Path, tiny_model: Path, count: Count) -> None:
    """A data set's own words for things, scored, with its plots."""
    document = made.coco_json(made.VAL)
    for category, label in zip(document["categories"], labels, strict=True):
        category["name"] = label
    import json

    made.coco(folder / "in")
    (folder / "in/val.json").write_text(json.dumps(document))
    results = [
        {"image_id": 11, "category_id": c["id"], "bbox": [8, 8, 9, 9], "score": 0.5} for c in document["categories"]
    ]
    (folder / "found.json").write_text(json.dumps(results))
    for extra in (["--plots", "out"], ["--json"]):
        words = ["eval", "--ground-truth", "in/val.json", "--detections", "found.json", *extra]
        said = run_here(words)
        check(words, said)
        assert said.code == 0, said.err
    count("hostile labels", 2)


@pytest.mark.parametrize(
    "argument", ["*/../*.jpg", "*/../../*.jpg", "in/../in/*.jpg", "../here/in/p.jpg", "*/../../../../**/*.jpg"]
)
def test_no_argument_leads_results_out_of_their_folder(
    argument: str, folder: Path, tiny_model: Path, count: Count
) -> None:
    for place in (folder / "in", folder, folder.parent):
        photo(place / "p.jpg")
    before = files_below(folder.parents[2])
    said = run_here(["image", argument, "-m", str(tiny_model), "-o", "out", "-y"])
    check([argument], said)
    stays_inside(folder, before)
    count("hostile file names", 1)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudoterminal")
def test_a_terminal_with_a_progress_bar(folder: Path, film: Path, tiny_model: Path, count: Count) -> None:
    """Where rich draws the name beside its bar."""
    name = "[red]\x1b]0;t\x07[nosuch] \\.mp4"
    (folder / "in" / name).write_bytes(film.read_bytes())
    terminal = Terminal("video", f"in/{name}", "-m", tiny_model, "-o", "out/", cwd=folder)
    assert terminal.end() == 0, terminal.seen
    assert b"\x1b]0;" not in terminal.seen
    assert b"\x07" not in terminal.seen
    count("hostile file names", 1)
