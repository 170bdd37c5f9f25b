"""Made pictures of coloured shapes, their data sets, and small networks to train on them."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ssdcam.datasets.dataset import Dataset, Sample
from ssdcam.ssd.architectures import new_spec
from ssdcam.training.augment import NOTHING
from ssdcam.training.data import PhotoStore, join
from ssdcam.training.settings import Settings
from ssdcam.training.transfer import fresh

LABELS = ("disc", "square")
COLOURS = ((40, 40, 230), (230, 120, 20))


def draw(folder, count, seed=0, size=(160, 120)):
    """A data set of pictures with one or two shapes each, and one picture without any."""
    rng = np.random.default_rng(seed)
    width, height = size
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        image = np.full((height, width, 3), rng.integers(90, 160, 3), np.uint8)
        boxes, class_ids = [], []
        for column in range(0 if number == count - 1 else int(rng.integers(1, 3))):
            side = int(rng.integers(36, 64))
            x = column * width // 2 + int(rng.integers(0, width // 2 - side))
            y = int(rng.integers(0, height - side))
            kind = int(rng.integers(2))
            if kind == 0:
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, COLOURS[0], -1)
            else:
                cv2.rectangle(image, (x, y), (x + side, y + side), COLOURS[1], -1)
            boxes.append((x, y, x + side, y + side))
            class_ids.append(kind)
        path = folder / f"{number:03d}.png"
        cv2.imwrite(str(path), image)
        samples.append(
            Sample(
                path=path, width=width, height=height,
                boxes=np.array(boxes, np.float32).reshape(-1, 4), class_ids=np.array(class_ids, np.int64),
                difficult=np.zeros(len(boxes), np.bool_), id=path.stem,
            )
        )  # fmt: skip
    return Dataset(LABELS, tuple(samples), ())


def store(dataset, labels=None, budget=10**9):
    return PhotoStore(join([dataset], labels or dataset.labels), budget)


def tiny(labels=LABELS, seed=0, width=0.1, size=(96, 96)):
    """An untrained MobileNet of a tenth of the width and a small input: milliseconds a step."""
    return fresh(new_spec("ssd300-mobilenet-v1", labels, input_size=size, options={"width": width}), seed)


def quick(**changes):
    """Settings for runs of seconds."""
    defaults = {
        "epochs": 2, "batch": 4, "lr": 1e-3, "optimizer": "adamw", "warmup": 2, "precision": "fp32", "device": "cpu",
        "workers": 0, "augmentation": NOTHING, "log_steps": 1,
    }  # fmt: skip
    return Settings(**{**defaults, **changes})


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
