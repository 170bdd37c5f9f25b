"""``ssdcam train`` as users run it, on made pictures in COCO layout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import psutil
import pytest

from ssdcam.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from ssdcam.cli import command_line, console, train_setup
from ssdcam.cli.train import command
from ssdcam.cli.train_options import TrainOptions
from ssdcam.training.log import read_log
from ssdcam.training.run_folder import load_state

from .. import pictures
from ..checkpoints.families.small import save_faces
from ..training.scenes import LABELS, draw, tiny
from ..waiting import GUARD, finish, wait_until
from .running import INSTALLED, one_line, run, start

QUICK = "--epochs 2 --batch 4 --threads 1 --precision fp32 --device cpu --warmup 2 --log-every 1".split()


def write_coco(folder: Path, split: str, count: int, seed: int) -> None:
    dataset = draw(folder / "images" / split, count, seed)
    images = [
        {"id": i, "file_name": f"{split}/{s.path.name}", "width": s.width, "height": s.height}
        for i, s in enumerate(dataset.samples)
    ]
    annotations = [
        {"id": 0, "image_id": i, "category_id": c + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0, "area": 1}
        for i, s in enumerate(dataset.samples)
        for c, (x1, y1, x2, y2) in zip(s.class_ids.tolist(), s.boxes.tolist(), strict=True)
    ]
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    categories = [{"id": i, "name": name} for i, name in enumerate(LABELS, 1)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / f"{split}.json").write_text(text)


def write_empty_voc(folder: Path) -> None:
    """A photo that nothing is said to be on."""
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("x\n")
    (folder / "Annotations/x.xml").write_text("<annotation><filename>x.jpg</filename></annotation>")
    cv2.imwrite(str(folder / "JPEGImages/x.jpg"), pictures.noise(60, 80, 1))


def write_unlabelled_yolo(folder: Path) -> None:
    """Photos with empty annotations, and names of classes."""
    for part in ("images/train", "labels/train"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.txt").write_text("disc\nsquare\n")
    for name in "ab":
        cv2.imwrite(str(folder / f"images/train/{name}.png"), pictures.noise(60, 80, 1))
        (folder / f"labels/train/{name}.txt").touch()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_coco(folder, "train", 10, 0)
    write_coco(folder, "val", 4, 1)
    (folder / "other.txt").write_text("unicorn\n")
    (folder / "twice.txt").write_text("disc\nsquare\ndisc\n")
    write_empty_voc(folder / "empty")
    write_unlabelled_yolo(folder / "yolo")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(tiny(("square", "cat")), path)
    return path


@pytest.mark.slow
def test_train_from_a_checkpoint_and_again(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    done = run("train", data, "-m", model, "-o", out, *QUICK, command=INSTALLED)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "6 steps over 10 photos, best mAP" in done.stdout
    for name in ("best", "last"):
        checkpoint = load_checkpoint(out / f"{name}.safetensors")
        assert checkpoint.spec.labels == LABELS
        assert f"{data.name} (10 photos)" in checkpoint.spec.provenance["data"]
        assert "start.safetensors" in checkpoint.spec.provenance["start"]
        assert checkpoint.spec.provenance["command"].startswith("train ")
    assert [row["map"] for row in read_log(out / "log.csv")].count("") == 6

    refused = run("train", data, "-m", model, "-o", out, *QUICK, command=INSTALLED)
    assert refused.returncode == 2
    assert "--resume" in one_line(refused.stderr)

    other = run("train", data, "-m", model, "-o", out, *QUICK, "--resume", "--lr", "0.5", command=INSTALLED)
    assert other.returncode == 1
    assert "--lr was 0.0001, not 0.5" in one_line(other.stderr)


@pytest.mark.slow
def test_train_from_another_code_bases_checkpoint(data: Path, tmp_path: Path) -> None:
    faces = save_faces(tmp_path / "faces.pth")
    quick = (*QUICK, "--epochs", "1")
    done = run(
        "train", data, "-m", faces, "--family", "ultralight-faces", "-o", tmp_path / "run", *quick, command=INSTALLED
    )
    assert (done.returncode, done.stderr) == (0, "")
    spec = load_checkpoint(tmp_path / "run" / "last.safetensors").spec
    assert (spec.architecture, spec.labels) == ("ultralight-faces", LABELS)
    for arguments, complaint in (
        (("-m", faces, "--family", "mb1-ssd"), "is no checkpoint of qfgaohao/pytorch-ssd mb1-ssd"),
        (("--arch", "ssd300-mobilenet-v1", "--family", "mb1-ssd"), "--family is for a checkpoint"),
        (("--family", "mb1-ssd"), "what voc is, is known"),
    ):
        refused = run("train", data, *arguments, "-o", tmp_path / "other", "--resume", *quick, command=INSTALLED)
        assert refused.returncode in (1, 2)
        assert complaint in one_line(refused.stderr)


@pytest.mark.slow
def test_photos_that_cannot_be_read_are_named_and_cost_the_exit_code(model: Path, tmp_path: Path) -> None:
    write_coco(tmp_path, "train", 8, 0)
    write_coco(tmp_path, "val", 4, 1)
    (tmp_path / "images/train/003.png").write_text("no picture")
    for memory, words in (("1", "left out"), ("0", "another photo stands in for it")):
        done = run(
            "train", tmp_path, "-m", model, "-o", tmp_path / memory, *QUICK, "--memory", memory, command=INSTALLED
        )
        assert one_line(done.stderr).startswith("warning: ")
        assert "003.png" in done.stderr
        assert words in done.stderr
        assert "steps over" in done.stdout
        assert done.returncode == 1


def test_a_validation_set_that_shows_nothing_of_what_is_learnt(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = command.make_context("train", [str(data)]).params
    del given["data"]
    told = TrainOptions(**given)
    assert len(train_setup.validation([data], told, LABELS)) == 1
    assert train_setup.validation([data], told, ("unicorn",)) == []


def test_ctrl_c_saves_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    arguments = ["train", data, "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", "--input-size", 96]
    arguments += [*QUICK, "--epochs", 20, "--eval-every", 20, "--save-every", 1000]
    whole, part = tmp_path / "whole", tmp_path / "part"
    process = start(*arguments, "-o", part, "--resume", command=INSTALLED)  # nothing to resume: it starts
    try:
        wait_until(lambda: (part / "log.csv").exists() and len(read_log(part / "log.csv")) >= 3, process)
        process.send_signal(signal.SIGINT)
        out, err = finish(process)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert one_line(err).startswith("note: stopping after this step, then all is saved; Ctrl-C again ends at once")
    rows = len(read_log(part / "log.csv"))
    assert rows < 60
    uninterrupted = run(*arguments, "-o", whole, command=INSTALLED)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    resumed = run(*arguments, "-o", part, "--resume", command=INSTALLED)
    assert resumed.returncode == 0, resumed.stderr
    one, two = (load_checkpoint(folder / "last.safetensors") for folder in (whole, part))
    for name, array in one.weights.items():
        assert (array == two.weights[name]).all(), name
    columns = ("step", "loss", "lr")
    logs = [[[row[c] for c in columns] for row in read_log(folder / "log.csv")] for folder in (whole, part)]
    assert logs[0] == logs[1]


def test_softmax_scores_from_a_start_without_a_background(data: Path, tmp_path: Path) -> None:
    """As the embedded detector is."""
    out = tmp_path / "run"
    done = run("train", data, "-o", out, *QUICK, "--epochs", 1, "--loss", "softmax", command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    spec = load_checkpoint(out / "best.safetensors").spec
    assert (spec.score_function, spec.background, spec.labels) == ("softmax", True, LABELS)


@pytest.mark.slow
def test_a_folder_in_which_a_run_is_at_work(data: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["train", data, "-m", model, *QUICK, "--epochs", 1000, "-o", tmp_path / "run", "--resume"]
    process = start(*arguments, command=INSTALLED)
    try:
        wait_until(lambda: (tmp_path / "run/log.csv").exists(), process)
        done = run(*arguments, command=INSTALLED)
        assert (done.returncode, done.stdout) == (2, "")
        assert one_line(done.stderr).endswith("run: another run is at work there: choose another folder with -o")
    finally:
        process.kill()
        finish(process)
    stopped = run(*arguments[:-1], command=INSTALLED)
    assert stopped.returncode == 2
    assert "is not empty" in stopped.stderr
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.ssdcam-claimed").touch()  # of a run that was killed before it left anything
    done = run("train", data, "-m", model, *QUICK, "--epochs", 1, "-o", tmp_path / "new", command=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "new/.ssdcam-claimed").exists()


def test_ctrl_c_before_the_first_step_ends_the_run_at_once(data: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from ssdcam.cli.main import main\n"
        "from ssdcam.training import trainer\n"
        "trainer.insert_norms = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "main()"
    )
    arguments = ["train", data, "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", "--input-size", 96]
    ended = run(*arguments, *QUICK, "--batch-norm", "-o", tmp_path / "run", command=[sys.executable, "-c", code])
    told = "note: measuring how large values become, for batch normalisation\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", told)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows knows no such signal")
@pytest.mark.skipif(
    hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="under nohup"
)
def test_a_terminal_that_is_closed_saves_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", data, "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1", "--input-size", 96]
    arguments += [*QUICK, "--eval-every", 1000, "--save-every", 1000, "--workers", 1, "-o", out, "--resume"]
    process = start(*arguments, "--epochs", 1000, command=INSTALLED)
    try:
        wait_until(lambda: (out / "log.csv").exists() and len(read_log(out / "log.csv")) >= 3, process)
        for one in (*psutil.Process(process.pid).children(recursive=True), process):  # all of them hear it
            one.send_signal(signal.SIGHUP)
        said = finish(process)
    finally:
        process.kill()
    assert (process.returncode, *said) == (129, "", "")
    state = load_state(out)
    assert state is not None
    assert state["step"] == len(read_log(out / "log.csv"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nowhere",), "nowhere: no such file or folder"),
        (("{data}", "-m", "missing.safetensors"), "no such checkpoint"),
        (("{data}", "--arch", "yolo"), "architecture 'yolo' is none of"),
        (("{data}", "--arch", "ssd300-mobilenet-v1", "--arch-option", "width"), "--arch-option"),
        (("{data}", "-m", "{model}", "--arch", "ssd300-vgg16"), "give either -m or --arch"),
        (("{data}", "--arch-option", "width=0.5"), "--arch-option is for --arch"),
        (("{data}", "-m", "{model}", "--classes", " ,"), "--classes names no class"),
        (("{data}", "-m", "{model}", "--classes", "disc,sqare"), "the data has no 'sqare'; it has disc, square"),
        (("{data}", "-m", "{model}", "--labels", "{data}/twice.txt"), "twice.txt: names 'disc' more than once"),
        (("{data}", "-m", "{model}", "--labels", "{data}/other.txt"), "the data has none of its classes; it has disc"),
        (("{data}", "-m", "{model}", "--batch", "65536"), "--batch 65536 is too large for 10 photos: pass 10 at most"),
        (("{data}", "-m", "{model}", "--lr", "1000"), "'--lr': '1000' is no number above 0 and below 1,000"),
        (("{data}", "-m", "{model}", "--no-augment", "--mosaic", "0.5"), "--mosaic"),
        (("{data}", "-m", "{model}", "--split", "test"), "no part 'test'"),
        (("{empty}", "-m", "{model}"), "the data shows no object: there is nothing to learn"),
        (("{unlabelled}", "-m", "{model}"), "no object of what is to be learnt ('disc', 'square'): look at its annot"),
        (("{data}", "-m", "{model}", "--precision", "fp16", "--device", "cpu"), "needs a CUDA device"),
    ],
)
def test_complaints(
    arguments: tuple[str, ...],
    complaint: str,
    data: Path,
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process: importing torch eight times would take longer than all the rest."""
    monkeypatch.setattr(console.log, "propagate", True)
    given = [a.format(data=data, model=model, empty=data / "empty", unlabelled=data / "yolo") for a in arguments]
    (tmp_path / "ours").mkdir()
    assert command_line.run(["train", *given, "-o", str(tmp_path / "ours" / "runs" / "first")]) in (1, 2)
    assert complaint in one_line(caplog.text)
    assert not [*(tmp_path / "ours").iterdir()]


@pytest.mark.slow
def test_torchrun(data: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ssdcam"]
    arguments = ["train", str(data), "--arch", "ssd300-mobilenet-v1", "--arch-option", "width=0.1"]
    arguments += ["--input-size", "96", *QUICK, "-o", str(tmp_path / "run")]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=GUARD, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 steps over 10 photos") == 1
    assert load_checkpoint(tmp_path / "run/last.safetensors").spec.labels == LABELS
