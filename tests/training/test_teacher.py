"""A real detector as a teacher: what is learnt about classes that the data does not label is what it sees."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdcam.checkpoints.checkpoint import load_checkpoint, spec_to_json
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.cli import command_line, console
from ssdcam.datasets import Dataset, open_dataset
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.ssd.default_boxes import BoxLayout
from ssdcam.training.augment import NOTHING
from ssdcam.training.batches import batches
from ssdcam.training.data import Order
from ssdcam.training.loss import LossFigures
from ssdcam.training.teacher import Teacher
from ssdcam.training.trainer import Trainer
from ssdcam.training.transfer import fresh, retarget

from ..cli.running import one_line
from .scenes import quick, store

# The data labels dogs; the teacher knows them and people, and has never seen the last.
LABELS = ("dog", "person", "unicorn")


@pytest.fixture(scope="module")
def dogs(shared):
    """A few photos of dogs, some with people, of which nothing is said."""
    dataset = open_dataset(shared / "data/voc", "train", labels=LABELS[:1])
    samples = [s for s in dataset.samples if len(s.boxes)][:4]
    return Dataset(LABELS[:1], tuple(samples), ())


def test_what_is_not_labelled_is_learnt_from_the_teacher(dogs, coco_tflite, tmp_path):
    checkpoint = open_checkpoint(coco_tflite)
    spec = replace(retarget(checkpoint.spec, LABELS), background=False)
    photos, settings = store(dogs, LABELS), quick(loss=LossFigures("focal"))
    teacher = Teacher(checkpoint, spec, torch.device("cpu"))
    taught = Trainer(fresh(spec, 1), photos, settings, tmp_path, None, None, teacher)
    alone = Trainer(fresh(spec, 1), photos, settings, tmp_path)
    batch = next(batches(photos, Order(0, 4), spec.input_size, NOTHING, first=0, last=1))

    images = Normalise(spec.normalisation)(batch.pixels)
    with torch.no_grad():
        seen = load_network(checkpoint)(images)[1].sigmoid()
        scores = teacher.scores(images)
    names = list(checkpoint.spec.labels)
    for column, name in enumerate(LABELS[:2]):
        own = seen[..., names.index(name) + checkpoint.spec.background]
        assert own.max() > 0.5
        torch.testing.assert_close(scores[..., column], own)
    assert (scores[..., 2] == -1).all()

    # Focal loss with a soft target, of people alone: dogs are labelled, and of unicorns nobody says anything.
    logits = taught.network(images)[1][..., 1].detach().double().numpy()
    p, t = 1 / (1 + np.exp(-logits)), scores[..., 1].double().numpy()
    figures = settings.loss
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    weight = (figures.focal_alpha * t + (1 - figures.focal_alpha) * (1 - t)) * np.abs(t - p) ** figures.focal_gamma
    more = taught.losses(taught.network, batch).classification - alone.losses(alone.network, batch).classification
    np.testing.assert_allclose(more.detach().numpy(), (entropy * weight).sum(axis=1), rtol=1e-3)


@pytest.fixture(scope="module")
def data(dogs, tmp_path_factory):
    """The photos as a data set in YOLO's layout."""
    folder = tmp_path_factory.mktemp("dogs")
    (folder / "classes.txt").write_text("dog\n")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for sample in dogs.samples:
        (folder / "images" / sample.path.name).symlink_to(sample.path)
        corners = sample.boxes / np.array([sample.width, sample.height] * 2)
        rows = [[0, *(c[:2] + c[2:]) / 2, *(c[2:] - c[:2])] for c in corners]
        (folder / f"labels/{sample.path.stem}.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    return folder


def train(data, model, folder, *more):
    arguments = ["train", data, "-m", model, "--teacher", model, "--classes", "dog,person", "--epochs", 1, "--batch", 2]
    arguments += ["--device", "cpu", "--precision", "fp32", "-o", folder, "-q", *more]
    return command_line.run([str(a) for a in arguments])


def test_a_run_with_a_teacher(data, coco_tflite, tmp_path, capsys):
    assert train(data, coco_tflite, tmp_path / "run") == 0
    assert "2 steps over 4 photos" in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / "run/best.safetensors")
    assert checkpoint.spec.labels == ("dog", "person")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_computes_in_the_run_s_precision(precision, data, coco_tflite, tmp_path, monkeypatch):
    scores, computed = Teacher.scores, set()

    def watched(self, images):
        computed.add(self._network(images)[1].dtype)
        return scores(self, images)

    monkeypatch.setattr(Teacher, "scores", watched)
    assert train(data, coco_tflite, tmp_path / "run", "--precision", precision) == 0
    assert computed == {{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]}


def test_a_student_with_softmax_scores_is_refused(data, coco_tflite, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(console.log, "propagate", True)
    assert train(data, coco_tflite, tmp_path / "run", "--loss", "softmax") == 2
    assert "pass --loss focal or sigmoid" in one_line(caplog.text)


def test_a_teacher_of_other_pictures_or_boxes_is_refused(data, coco_tflite, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(console.log, "propagate", True)
    assert train(data, coco_tflite, tmp_path / "large", "--input-size", 320) == 2
    assert "a teacher must take the same input" in one_line(caplog.text)
    caplog.clear()
    spec = open_checkpoint(coco_tflite).spec
    fewer = tuple(replace(m, shapes=m.shapes[:1]) for m in spec.boxes.maps)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(spec_to_json(replace(spec, boxes=BoxLayout(fewer)))))
    assert train(data, coco_tflite, tmp_path / "other", "--boxes", boxes) == 2
    assert "a teacher must have the same default boxes" in one_line(caplog.text)
