"""``ssdcam boxes`` as users run it, on made data sets."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from ssdcam.cli import command_line, console
from ssdcam.detection.detector import load
from ssdcam.ssd.default_boxes import VOC300

from ..datasets import made
from ..training.scenes import tiny
from .running import INSTALLED, one_line, run
from .test_train import QUICK, write_coco

TINY = ["--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", "--input-size", "96"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_coco(folder, "train", 10, 0)
    write_coco(folder, "val", 3, 1)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder; runs in this process, because importing torch each time would take longer than all the rest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console.log, "propagate", True)
    return tmp_path


def boxes(*arguments: object) -> int:
    return int(command_line.run(["boxes", *map(str, arguments)]))


@pytest.mark.slow
def test_boxes_that_a_network_learns_with(data: Path, tmp_path: Path) -> None:
    file, plot = tmp_path / "boxes.json", tmp_path / "boxes.png"
    done = run("boxes", data, *TINY, "-o", file, "--plot", plot, command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ssd300-mobilenet-v1's own" in done.stdout
    assert "k-means" in done.stdout
    image = cv2.imread(str(plot))
    assert image is not None
    assert image.std() > 10

    refused = run("boxes", data, *TINY, "-o", file, command=INSTALLED)
    assert refused.returncode == 2
    assert "pass -y to overwrite" in one_line(refused.stderr)

    trained = run("train", data, *TINY, "--boxes", file, *QUICK, "-o", tmp_path / "run", command=INSTALLED)
    assert trained.returncode == 0, trained.stderr
    best = tmp_path / "run/best.safetensors"
    checkpoint = load_checkpoint(best)
    maps = json.loads(file.read_text())["maps"]
    assert [[list(s) for s in m.shapes] for m in checkpoint.spec.boxes.maps] == [m["shapes"] for m in maps]
    assert sum(checkpoint.spec.boxes.boxes_per_cell) != sum(tiny().spec.boxes.boxes_per_cell)
    load(best, score=0.01).detect(np.zeros((50, 60, 3), np.uint8))  # runs

    saved = run("weights", "convert", best, "-o", tmp_path / "again.safetensors", command=INSTALLED)
    assert saved.returncode == 0, saved.stderr
    assert load_checkpoint(tmp_path / "again.safetensors").spec.boxes == checkpoint.spec.boxes


def test_json_of_the_papers(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for seed in (0, 0, 1):
        assert boxes(data, "--json", "--seed", seed) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["photos"] == 10
    own, ours = told[0]["layouts"]
    assert (own["name"], own["default_boxes"]) == ("ssd300-vgg16's own", 8732)
    assert ours["default_boxes"] <= 8732
    assert ours["recall50"] >= own["recall50"]
    assert sum(ours["shares"]) == pytest.approx(1)
    assert [(m["rows"], m["columns"]) for m in told[0]["boxes"]["maps"]] == [
        (m.rows, m.columns) for m in VOC300.layout().maps
    ]


@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_every_layout_has_the_same_shapes(layout: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made.LAYOUTS[layout](here / layout)
    assert boxes(path, "--json", "--clusters", 3) == 0
    told = json.loads(capsys.readouterr().out)
    # (1, 2, 3, 6) and (20, 16, 80, 64) of 80 x 64 pixels, and the mean of (0, 0, 40, 32) and (10, 4, 30, 60).
    shapes = {tuple(shape) for m in told["boxes"]["maps"] for shape in m["shapes"]}
    expected = [(0.025, 0.0625), (0.375, 0.6875), (0.75, 0.75)]
    assert sorted(shapes) == [pytest.approx(shape) for shape in expected]
    assert told["ground_truths"] == 4


def test_several_data_sets_and_a_checkpoint(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tiny(), here / "tiny.safetensors")
    other = made.yolo(here / "yolo")
    assert boxes(data, other, "-m", "tiny.safetensors", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 13
    assert told["layouts"][0]["name"] == "tiny.safetensors's own"
    assert told["layouts"][1]["default_boxes"] <= tiny().spec.boxes.num_boxes


def test_a_checkpoint_goes_on_with_other_boxes(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tiny(), here / "tiny.safetensors")
    assert boxes(data, "-m", "tiny.safetensors", "-o", "boxes.json") == 0
    arguments = ["-m", "tiny.safetensors", "--boxes", "boxes.json", *QUICK, "--epochs", "1", "-o", "run"]
    assert command_line.run(["train", str(data), *arguments]) == 0
    trained = load_checkpoint(here / "run/last.safetensors").spec
    assert trained.boxes.boxes_per_cell != tiny().spec.boxes.boxes_per_cell
    capsys.readouterr()


def test_a_photo_that_is_missing(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (made.voc(here / "voc") / "JPEGImages/a.jpg").unlink()
    assert boxes("voc") == 1  # the rest was done
    assert "a.jpg: no such picture" in one_line(caplog.text)


def one_photo(folder: Path, *rows: str) -> Path:
    made.write(folder / "classes.txt", "thing\n")
    made.photo(folder / "images/a.jpg")
    made.write(folder / "labels/a.txt", "\n".join(rows))
    return folder


@pytest.mark.parametrize("rows", [["0 .5 .5 .4 .3"], ["0 .5 .5 .4 .3"] * 30, ["0 .5 .5 .4 .3", "0 .3 .3 .1 .1"]])
@pytest.mark.filterwarnings("error")
def test_little_data(rows: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = one_photo(here / "few", *rows)
    assert boxes(path, "--plot", "few.png", "-o", "few.json", "--clusters", 2) == 0
    assert cv2.imread("few.png") is not None
    maps = json.loads((here / "few.json").read_text())["maps"]
    assert all(m["shapes"] for m in maps)
    assert f"{len(rows)} ground truths in 1 photos" in capsys.readouterr().out


def test_what_cannot_be_learnt_from_is_said_once(
    here: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = one_photo(here / "bad", "0 .5 .5 nan .3", "0 .5 .5 .4 .3", "0 .5 .5 .001 .3")  # the last: no pixel wide
    assert boxes(path) == 0
    assert "a.txt" in one_line(caplog.text)
    assert "1 ground truths in 1 photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("nowhere",), 1, "nowhere: no such file or folder"),
        (("empty",), 1, "empty: there is no box to learn shapes from"),
        (("{data}", "--split", "test"), 1, "no part 'test'"),
        (("{data}", "--arch", "yolo"), 2, "architecture 'yolo' is none of"),
        (("{data}", "-m", "missing"), 2, "missing: no such checkpoint file"),
        (("{data}", "--input-size", "40"), 2, "cannot take an input of 40x40 pixels"),
        (("{data}", *TINY, "--clusters", "900"), 2, "more than the network's own"),
        (("{data}", "--clusters", "0"), 2, "--clusters"),
        (("{data}", "--plot", "a.jpg"), 2, "must end in .png"),
        (("{data}", "-o", "a.png", "--plot", "a.png"), 2, "cannot be both -o and --plot"),
        (("{data}", "-o", "nowhere/a.json"), 2, "there is no folder nowhere"),
        (("{data}/train.json", "-o", "{data}/train.json", "-y"), 2, "is an input"),
    ],
)
def test_complaints(
    arguments: tuple[str, ...], code: int, complaint: str, data: Path, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one_photo(here / "empty")
    assert boxes(*(a.format(data=data) for a in arguments)) == code
    assert complaint in one_line(caplog.text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "holds no default boxes"),
        ("{{", "holds no default boxes"),
        ("[" * 100_000, "holds no default boxes"),
        ('{"maps": [], "clip": "none"}', "a box layout needs a feature map"),
        (
            '{"maps": [{"rows": 7, "columns": 7, "step": [0.1, 0.1], "shapes": [[0.1, 0.1]]}], "clip": "none"}',
            "feature maps of other sizes",
        ),
    ],
)
def test_files_that_train_refuses(
    text: str, complaint: str, data: Path, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "boxes.json").write_text(text)
    assert command_line.run(["train", str(data), *TINY, "--boxes", "boxes.json", "-o", "run"]) == 2
    assert complaint in one_line(caplog.text)
