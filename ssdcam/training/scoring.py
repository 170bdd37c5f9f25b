"""How good the network is so far, by which the best weights are chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isnan

import numpy as np

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.datasets.dataset import Dataset, Sample
from ssdcam.datasets.pictures import read_picture
from ssdcam.detection.detector import Detector, choose
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.detections import Detections, Image
from ssdcam.errors import ImageError
from ssdcam.evaluation import Metric, evaluate, pair
from ssdcam.training.hooks import Evaluate

_LEAST_SCORE = 0.01  # VOC's and COCO's own figures take every detection that could count
_BATCH = 16


def digest_of(datasets: Sequence[Dataset]) -> str:
    """Tells what is to be found from other photos, objects or classes, wherever they lie."""
    digest = hashlib.sha256()
    for dataset in datasets:
        digest.update(repr(dataset.labels).encode("utf-8", "surrogateescape"))
        for sample in dataset.samples:
            digest.update(sample.id.encode("utf-8", "surrogateescape"))
            for part in (sample.boxes, sample.class_ids, sample.difficult):
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def scorer(
    datasets: Sequence[Dataset],
    device: str,
    metric: Metric,
    *,
    stop: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda problem: None,
) -> Evaluate:
    """What gives a checkpoint's mAP, the mean over data sets; None if it was told to stop before the end.

    Args:
        datasets: what is to be found.
        device: where to run.
        metric: of the average precision.
        stop: asked on the way whether to give up.
        warn: told once of each photo that cannot be read any more: it is left out, and a long run goes on.
    """
    told: set[str] = set()

    def read(sample: Sample) -> Image | None:
        try:
            return read_picture(sample)
        except ImageError as error:
            if str(error) not in told:
                told.add(str(error))
                warn(str(error))
            return None

    def score(checkpoint: Checkpoint) -> float | None:
        selection = choose(checkpoint.spec, score=_LEAST_SCORE)
        detector = Detector(TorchEngine(checkpoint, device), checkpoint.spec, selection)
        values = []
        for dataset in datasets:
            samples: list[Sample] = []
            found: list[Detections] = []
            for first in range(0, len(dataset.samples), _BATCH):
                if stop():
                    return None
                batch = dataset.samples[first : first + _BATCH]
                images = {sample: image for sample in batch if (image := read(sample)) is not None}
                samples += images
                found += detector.detect(list(images.values()))
            there = replace(dataset, samples=tuple(samples))
            values.append(evaluate(pair(there, found, checkpoint.spec.labels), metric).figures["map"])
        known = [value for value in values if not isnan(value)]
        return sum(known) / len(known) if known else 0.0

    return score
