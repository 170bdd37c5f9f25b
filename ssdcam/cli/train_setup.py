"""From what ``ssdcam train`` is told to what the trainer takes: classes, photos to choose on, a start, settings."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssdcam.cli import console, loading
from ssdcam.cpu import usable_threads
from ssdcam.errors import DatasetError, SsdcamError, WrongUsageError
from ssdcam.files import read_small

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.cli.train_options import TrainOptions
    from ssdcam.datasets import Dataset
    from ssdcam.ssd.spec import ModelSpec
    from ssdcam.training.data import Photo
    from ssdcam.training.settings import Settings

# Learning rates that do where none is given: of a network that has been trained before, and of one that has not.
_LEARNING_RATES = {"adamw": (1e-4, 1e-3), "sgd": (1e-3, 1e-2)}

_USUAL_BATCH = 64
_MANY_WORKERS = 32
_NAMED = 5  # classes, in a line about all of them

_MOST_OF_MEMORY = 0.75  # of all there is; the rest is for photos, weights and other programs


def check_usage(told: TrainOptions) -> None:
    """Refuse what contradicts itself, before anything is read or made.

    Raises:
        WrongUsageError: two options do not go together, or a number is far beyond what the machine has cores for.
    """
    if told.classes is not None and told.labels is not None:
        raise WrongUsageError("--classes and --labels both say what to learn: give one")
    if told.no_augment and told.mosaic:
        raise WrongUsageError("--mosaic is augmentation: it goes not with --no-augment")
    cores = usable_threads()
    most = max(_MANY_WORKERS, 4 * cores)
    if told.workers is not None and told.workers > most:
        raise WrongUsageError(f"--workers {told.workers} are too many for {cores} cores: pass {most} at most")


def labels_to_learn(told: TrainOptions, datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """The classes that were asked for, or all that the data has.

    Raises:
        DatasetError: the data shows no object.
        WrongUsageError: ``--classes`` names none, or one that nothing is said of: it was misspelt; or ``--labels`` has
            one twice, or none that the data has.
    """
    from ssdcam.checkpoints.labels import read_labels
    from ssdcam.datasets import match_labels
    from ssdcam.training.data import join_labels

    there = join_labels(datasets)
    if not there and not told.teacher:
        raise DatasetError("the data shows no object: there is nothing to learn")
    if told.labels is not None:
        listed = read_labels(told.labels)
        if twice := sorted({name for name in listed if listed.count(name) > 1}):
            raise WrongUsageError(f"{told.labels}: names {', '.join(map(repr, twice))} more than once")
        if not told.teacher and set(match_labels(listed, there)) == {None}:
            raise WrongUsageError(f"{told.labels}: the data has none of its classes; it has {', '.join(there)}")
        return listed
    if told.classes is None:
        return there
    names = tuple(dict.fromkeys(loading.class_names(told.classes)))
    nowhere = [name for name, i in zip(names, match_labels(names, there), strict=True) if i is None]
    if nowhere and not told.teacher:
        raise WrongUsageError(f"--classes: the data has no {', '.join(map(repr, nowhere))}; it has {', '.join(there)}")
    return names


def check_batch(batch: int, photos: int) -> None:
    """Few photos fill a step of the usual size several times; one of thousands of copies would fill memory alone.

    Raises:
        WrongUsageError: there are far fewer photos than a step takes.
    """
    if batch > max(photos, _USUAL_BATCH):
        raise WrongUsageError(f"--batch {batch} is too large for {photos} photos: pass {max(photos, 1)} at most")


def check_objects(photos: Sequence[Photo], labels: Sequence[str]) -> None:
    """Refuse to learn from photos without an object.

    Raises:
        DatasetError: not one shows what is to be learnt: annotations are empty, missing or of no use.
    """
    if not any(len(photo.class_ids) for photo in photos):
        names = ", ".join(map(repr, labels[:_NAMED])) + (", ..." if len(labels) > _NAMED else "")
        raise DatasetError(f"the data shows no object of what is to be learnt ({names}): look at its annotations")


def check_memory(spec: ModelSpec, settings: Settings, processes: int) -> None:
    """Refuse what never fits: on a CPU the system would end the process without a word.

    Args:
        spec: the network.
        settings: how it is trained.
        processes: that share a batch; torchrun says how many of them this machine has, else it is all of them.

    Raises:
        WrongUsageError: the machine has not even as much memory, swap included, as the network's layers must keep.
    """
    from ssdcam.detection.torch_engine import find_device
    from ssdcam.memory import memory
    from ssdcam.training.memory import least_memory
    from ssdcam.training.precision import choose_precision

    device, there = find_device(settings.device), memory()
    if there is None or device.type != "cpu":
        return
    total = there.total + there.swap
    reduced = choose_precision(settings.precision, device) != "fp32"
    one = least_memory(spec, settings.freeze) // (2 if reduced else 1)
    here = min(int(os.environ.get("LOCAL_WORLD_SIZE", processes)), processes)
    needed = settings.batch // processes * here * one
    if needed <= _MOST_OF_MEMORY * total:
        return
    fits = int(_MOST_OF_MEMORY * total / one / here) * processes
    advice = f"pass --batch {fits} or less" if fits else "a smaller --input-size takes less"
    text = f"--batch {settings.batch}: takes {needed / 1e9:.0f} GB of memory or more, of {total / 1e9:.0f} GB: {advice}"
    if needed > total:
        raise WrongUsageError(text)
    console.log.warning("%s", text)


def validation(data: Sequence[Path], told: TrainOptions, labels: Sequence[str]) -> list[Dataset]:
    """What to choose the best weights on: parts of the data, or data given apart, that show what is learnt."""
    import numpy as np

    from ssdcam.datasets import check_images, dataset_splits, match_labels, open_dataset

    datasets = []
    for path in told.val or data:
        try:
            whole = path.suffix.lower() == ".json" or not dataset_splits(path)
            if told.val or not whole:  # what is not divided is all trained on
                dataset = check_images(open_dataset(path, None if whole else told.val_split))
                learnt = [i for i in match_labels(labels, dataset.labels) if i is not None]
                if any((np.isin(s.class_ids, learnt) & ~s.difficult).any() for s in dataset.samples):
                    datasets.append(dataset)
                else:
                    console.log.warning("%s: shows nothing of what is learnt: not chosen on", path)
        except DatasetError as error:
            if told.val:
                raise
            console.log.info("%s", error)
    if not datasets:
        console.log.warning(
            "there is no %s part to choose the best weights on: the last count as the best", told.val_split
        )
    console.tell_problems([line for dataset in datasets for line in dataset.problems])
    return datasets


def start(labels: tuple[str, ...], told: TrainOptions, datasets: Sequence[Dataset], data: Sequence[Path]) -> Checkpoint:
    """The network to train, with the weights it starts from."""
    from ssdcam.training.transfer import fresh, transfer

    spec, old = loading.network(
        labels,
        told.model,
        told.arch,
        told.arch_options,
        told.input_size,
        family=told.family,
        offline=told.offline,
    )
    if told.boxes:
        spec = with_boxes(spec, told.boxes)
    function = spec.score_function
    if told.classification:
        function = "softmax" if told.classification == "softmax" else "sigmoid"
    # Nothing reads a background column beside sigmoids, so a network that learns has none.
    spec = replace(spec, score_function=function, background=function == "softmax")
    sets = (f"{path.resolve().name} ({len(s.samples)} photos)" for path, s in zip(data, datasets, strict=True))
    provenance = {"source": "trained by ssdcam train", "data": ", ".join(sets), "command": shlex.join(sys.argv[1:])}
    if old:
        origin = "; ".join(f"{key}: {value}" for key, value in old.spec.provenance.items() if key != "command")
        name = Path(told.model).name if told.model else "the embedded detector"
        provenance["start"] = f"{name} ({origin})"
        if "licence" in old.spec.provenance:
            provenance["licence"] = old.spec.provenance["licence"]
    spec = replace(spec, provenance=provenance)
    return transfer(old, spec, told.seed) if old else fresh(spec, told.seed)


def with_boxes(spec: ModelSpec, path: Path) -> ModelSpec:
    """A spec with the default boxes of a file: a checkpoint's ``boxes`` object, alone or under that key."""
    from ssdcam.checkpoints.checkpoint import spec_from_json, spec_to_json

    try:
        read = json.loads(read_small(path).decode("utf-8-sig"))
        boxes = read.get("boxes", read) if isinstance(read, dict) else read
        changed = spec_from_json(json.dumps({**spec_to_json(spec), "boxes": boxes}))
    except OSError as error:
        raise SsdcamError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WrongUsageError(f"{path}: holds no default boxes: {error}") from error
    if [(m.rows, m.columns) for m in changed.boxes.maps] != [(m.rows, m.columns) for m in spec.boxes.maps]:
        raise WrongUsageError(f"{path}: its boxes are for feature maps of other sizes than the network has")
    return replace(spec, boxes=changed.boxes)


def settings(spec: ModelSpec, told: TrainOptions, device: str) -> Settings:
    """How to train a network, on the device that is this process' own."""
    from ssdcam.training.augment import NOTHING, Augmentation
    from ssdcam.training.loss import LossFigures
    from ssdcam.training.settings import Settings

    mean = spec.normalisation.mean[::-1] if spec.normalisation.colour == "rgb" else spec.normalisation.mean
    trained, untrained = _LEARNING_RATES[told.optimizer]
    from_scratch = told.arch is not None and told.model is None
    return Settings(
        epochs=told.epochs,
        batch=told.batch,
        seed=told.seed,
        optimizer=told.optimizer,
        lr=told.lr or (untrained if from_scratch else trained),
        weight_decay=told.weight_decay,
        bias_lr=told.bias_lr,
        schedule=told.schedule,
        warmup=told.warmup,
        clip=told.clip,
        ema=told.ema,
        keep_start=told.keep_start,
        freeze=told.freeze,
        batch_norm=told.batch_norm,
        precision=told.precision,
        balance=told.balance,
        loss=LossFigures(told.classification or ("softmax" if spec.score_function == "softmax" else "focal")),
        augmentation=NOTHING if told.no_augment else Augmentation(mosaic=told.mosaic, mean=mean),
        device=device,
        workers=told.workers,
        save_seconds=told.save_every,
        log_steps=told.log_every,
        evaluate_epochs=told.eval_every,
        half=not told.fp32_weights,
    )
