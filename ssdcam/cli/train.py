"""``ssdcam train``: an SSD for one's own classes."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import completing, console, options
from ssdcam.errors import DatasetError, SsdcamError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.datasets import Dataset
    from ssdcam.detections import Detections
    from ssdcam.ssd.spec import ModelSpec
    from ssdcam.training.loss import Classification
    from ssdcam.training.settings import Settings
    from ssdcam.training.trainer import Evaluate, Progress

# Learning rates that do where none is given: of a network that has been trained before, and of one that has not.
_LEARNING_RATES = {"adamw": (1e-4, 1e-3), "sgd": (1e-3, 1e-2)}


@click.command("train")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA...")
@click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    shell_complete=completing.models,
    help="Checkpoint to start from; the embedded one if not given.",
)
@options.family
@click.option(
    "--arch",
    metavar="NAME",
    shell_complete=completing.architectures,
    help="Start from random weights: ssd300-mobilenet-v1, ssd300-vgg16, ...",
)
@options.arch_size
@click.option(
    "--boxes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Default boxes: what `ssdcam boxes -o` writes, or what `ssdcam weights info --json` prints.",
)
@click.option("--classes", metavar="NAME,...", help="Learn these classes only; default: all that the data has.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Learn these classes, one a line, also those that only a --teacher or the start knows.",
)
@click.option("--split", default="train", show_default=True, help="Part of the data to train on.")
@click.option("--val-split", default="val", show_default=True, help="Part of the data to choose the best weights on.")
@click.option(
    "--val",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="Choose on the val part of this data instead, or on all of it if it is not divided.",
)
@click.option(
    "--metric",
    type=click.Choice(["voc07", "voc", "coco"]),
    default="voc07",
    show_default=True,
    help="Average precision to choose by.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="run",
    show_default=True,
    metavar="RUN_DIR",
    help="Where checkpoints, log and state go.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in RUN_DIR, if there is one.")
@click.option("--epochs", type=options.whole(1), default=24, show_default=True, help="How often all photos are seen.")
@click.option(
    "--batch",
    type=options.whole(1, 65536),
    default=16,
    show_default=True,
    help="Photos a step, of all processes together.",
)
@click.option(
    "--lr",
    type=options.Number(0, min_open=True),
    help="Learning rate; default: 1e-4 with adamw, 1e-3 with sgd; from random weights ten times that.",
)
@click.option("--seed", type=options.whole(0), default=0, show_default=True, help="Where all chance comes from.")
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True,
              help="sgd has momentum .9.")  # fmt: skip
@click.option(
    "--schedule", type=click.Choice(["cosine", "step", "constant"]), default="cosine", show_default=True,
    help="How the learning rate falls: along half a cosine to 0; to a tenth at 2/3 and again at 5/6; not at all.",
)  # fmt: skip
@click.option(
    "--warmup", type=options.whole(0), default=100, show_default=True, help="Steps that the learning rate rises for."
)
@click.option(
    "--weight-decay",
    type=options.Number(0),
    default=5e-4,
    show_default=True,
    help="Of kernels; biases and norms have none.",
)
@click.option(
    "--bias-lr",
    type=options.Number(0),
    default=1.0,
    show_default=True,
    help="Factor of the biases' learning rate; the paper's release has 2.",
)
@click.option(
    "--clip",
    type=options.Number(0),
    default=10.0,
    show_default=True,
    help="Largest norm of all gradients together; 0: no limit.",
)
@click.option(
    "--freeze",
    type=options.whole(0),
    default=0,
    show_default=True,
    help="So many convolutions, from the picture on, stay as they are.",
)
@click.option("--batch-norm", is_flag=True,
              help="Train with batch normalisation, folded into the convolutions of what is saved.")  # fmt: skip
@click.option("--ema", type=options.Number(0, 1, max_open=True), default=0.999, show_default=True,
              help="Decay of the weights' moving average; 0: none.")  # fmt: skip
@click.option("--keep-start", type=options.Number(0, 1, max_open=True), default=0.0, show_default=True,
              help="Share of the start's weights in what is saved, so that less of them is forgotten.")  # fmt: skip
@click.option("--loss", "classification", type=click.Choice(["softmax", "sigmoid", "focal"]),
              help="Of the scores: softmax and sigmoid with hard negatives, or focal; default: softmax, or focal "
              "where the start's scores are sigmoids.")  # fmt: skip
@click.option("--balance", type=options.Number(0, 1), default=0.0, show_default=True,
              help="Classes in a smaller share of the photos than this are shown more often.")  # fmt: skip
@click.option("--mosaic", type=options.Number(0, 1), default=0.0, show_default=True,
              help="Share of inputs that are put together from four photos.")  # fmt: skip
@click.option("--no-augment", is_flag=True, help="Show photos as they are.")
@click.option(
    "--teacher",
    metavar="NAME|PATH",
    shell_complete=completing.models,
    help="A detector to learn from about classes that a photo's data set does not name.",
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
              help="Of the arithmetic; auto is bf16 where the device is fast at it.")  # fmt: skip
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|mps",
    shell_complete=completing.devices,
    help="Where to run.",
)
@click.option(
    "--workers",
    type=options.whole(0, 1024),
    help="Processes that prepare photos; default: none on a CPU, up to 8 a GPU.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads to use; default: all cores.")
@click.option("--memory", type=options.Number(0), default=4.0, show_default=True, metavar="GB",
              help="To hold photos in, of each process; what does not fit is read each time.")  # fmt: skip
@click.option("--save-every", type=options.Number(0), default=300.0, show_default=True, metavar="SECONDS",
              help="Save the state to resume from this often, and after every epoch.")  # fmt: skip
@click.option("--eval-every", type=options.whole(1), default=1, show_default=True, metavar="EPOCHS",
              help="Evaluate this often, and at the end.")  # fmt: skip
@click.option("--log-every", type=options.whole(1), default=50, show_default=True, metavar="STEPS",
              help="Write a line of log.csv this often, and after every epoch.")  # fmt: skip
@options.offline
@click.option("--fp32-weights", is_flag=True, help="Save checkpoints in float32, at twice the size.")
@options.verbosity
def command(data: tuple[Path, ...], output: Path, resume: bool, threads: int | None, **given: Any) -> None:
    """Train an SSD on data sets in VOC, COCO or YOLO layout; labels of several meet by name.

    RUN_DIR gets best.safetensors and last.safetensors, log.csv, curves.png, and the state that --resume goes on from.
    Ctrl-C saves and stops. Photos that cannot be read are reported and left out; the exit code is then 1.
    For several devices: torchrun --nproc-per-node N -m ssdcam train ...
    """
    from ssdcam.training.distributed import find_share, local_device

    share = find_share()
    if share.rank == 0:
        _check_folder(output, resume)
    else:
        console.set_verbosity(-1)

    import cv2
    import torch

    from ssdcam.detection.torch_engine import find_device
    from ssdcam.training.data import PhotoStore, join, join_labels
    from ssdcam.training.memory import keep_memory
    from ssdcam.training.teacher import Teacher
    from ssdcam.training.trainer import Hooks, Trainer

    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    keep_memory()
    given["device"] = local_device(given["device"])
    device = find_device(given["device"])
    datasets = [options.open_part(path, given["split"]) for path in data]
    labels = _labels(given["classes"], given["labels"]) or join_labels(datasets)
    _check_classes(given, datasets)
    console.tell_problems([line for dataset in datasets for line in dataset.problems])
    evaluated = _validation(data, given["val"], given["val_split"], labels) if share.rank == 0 else []
    start = _start(labels, given, datasets, data)
    settings = _settings(start.spec, given)
    photos = join(datasets, labels)
    with _bar("reading photos", len(photos)) as advance:
        store = PhotoStore(photos, int(given["memory"] * 1e9), advance)
    console.tell_problems([f"{problem}: left out" for problem in store.problems])
    missed: list[str] = []

    def note(problem: str) -> None:
        missed.append(problem)
        console.log.warning("%s: another photo stands in for it", problem)

    teacher = None
    if given["teacher"]:
        known = options.open_checkpoint(given["teacher"], family=None, boxes=None, offline=given["offline"])
        teacher = Teacher(known, start.spec, device)
    with _stopping() as stop, _progress() as progress:
        evaluate = _scorer(evaluated, given["device"], given["metric"], stop) if evaluated else None
        trainer = Trainer(start, store, settings, output, Hooks(evaluate, progress, stop, note), share, teacher)
        if resume and trainer.resume():
            console.log.info("%s: going on after step %d of %d", output, trainer.step, trainer.steps)
        finished = trainer.run()
    if share.rank == 0 and finished:
        best = "" if trainer.best is None else f", best mAP {trainer.best:.4f}"
        click.echo(f"{trainer.steps} steps over {len(store)} photos{best}: {console.printable(str(output))}")
    lost = store.problems or missed or any(dataset.skipped for dataset in [*datasets, *evaluated])
    if share.rank == 0 and finished and lost:
        raise click.exceptions.Exit(1)


def _check_folder(folder: Path, resume: bool) -> None:
    """Make it, unless a run that is not meant to go on is in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise WrongUsageError(f"{folder}: {error.strerror}") from error
    if used and not resume:
        raise WrongUsageError(
            f"{folder} is not empty: go on with the run in it with --resume, or choose another with -o"
        )


def _check_classes(given: dict[str, Any], datasets: Sequence[Dataset]) -> None:
    """A class of --classes that nothing is said of was misspelt."""
    from ssdcam.datasets import match_labels
    from ssdcam.training.data import join_labels

    names, there = _labels(given["classes"], None), join_labels(datasets)
    nowhere = [name for name, i in zip(names, match_labels(names, there), strict=True) if i is None]
    if nowhere and not given["teacher"]:
        raise WrongUsageError(f"--classes: the data has no {', '.join(map(repr, nowhere))}; it has {', '.join(there)}")


def _labels(classes: str | None, file: Path | None) -> tuple[str, ...]:
    """The classes that were asked for; none if it was all."""
    from ssdcam.checkpoints.labels import read_labels

    if classes is not None and file is not None:
        raise WrongUsageError("--classes and --labels both say what to learn: give one")
    if file is not None:
        return read_labels(file)
    names = tuple(dict.fromkeys(name.strip() for name in (classes or "").split(",") if name.strip()))
    if classes is not None and not names:
        raise WrongUsageError("--classes names no class")
    return names


def _validation(data: Sequence[Path], val: Sequence[Path], split: str, labels: Sequence[str]) -> list[Dataset]:
    """What to choose the best weights on: parts of the data, or data given apart, that show what is learnt."""
    import numpy as np

    from ssdcam.datasets import check_images, dataset_splits, match_labels, open_dataset

    datasets = []
    for path in val or data:
        try:
            whole = path.suffix.lower() == ".json" or not dataset_splits(path)
            if val or not whole:  # what is not divided is all trained on
                dataset = check_images(open_dataset(path, None if whole else split))
                learnt = [i for i in match_labels(labels, dataset.labels) if i is not None]
                if any((np.isin(s.class_ids, learnt) & ~s.difficult).any() for s in dataset.samples):
                    datasets.append(dataset)
                else:
                    console.log.warning("%s: shows nothing of what is learnt: not chosen on", path)
        except DatasetError as error:
            if val:
                raise
            console.log.info("%s", error)
    if not datasets:
        console.log.warning("there is no %s part to choose the best weights on: the last count as the best", split)
    console.tell_problems([line for dataset in datasets for line in dataset.problems])
    return datasets


def _start(
    labels: tuple[str, ...], given: dict[str, Any], datasets: Sequence[Dataset], data: Sequence[Path]
) -> Checkpoint:
    """The network to train, with the weights it starts from."""
    from ssdcam.training.transfer import fresh, transfer

    model, seed = given["model"], given["seed"]
    spec, old = options.network(
        labels, model, given["arch"], given["arch_options"], given["input_size"],
        family=given["family"], offline=given["offline"],
    )  # fmt: skip
    if given["boxes"]:
        spec = _with_boxes(spec, given["boxes"])
    if given["classification"]:
        spec = replace(spec, score_function="softmax" if given["classification"] == "softmax" else "sigmoid")
    # Nothing reads a background column beside sigmoids, so a network that learns has none.
    spec = replace(spec, background=spec.score_function == "softmax")
    sets = (f"{path.resolve().name} ({len(s.samples)} photos)" for path, s in zip(data, datasets, strict=True))
    provenance = {"source": "trained by ssdcam train", "data": ", ".join(sets), "command": shlex.join(sys.argv[1:])}
    if old:
        origin = "; ".join(f"{key}: {value}" for key, value in old.spec.provenance.items() if key != "command")
        provenance["start"] = f"{Path(model).name if model else 'the embedded detector'} ({origin})"
        if "licence" in old.spec.provenance:
            provenance["licence"] = old.spec.provenance["licence"]
    spec = replace(spec, provenance=provenance)
    return transfer(old, spec, seed) if old else fresh(spec, seed)


def _with_boxes(spec: ModelSpec, path: Path) -> ModelSpec:
    """A spec with the default boxes of a file: a checkpoint's ``boxes`` object, alone or under that key."""
    from ssdcam.checkpoints.checkpoint import spec_from_json, spec_to_json

    try:
        read = json.loads(path.read_text("utf-8-sig"))
        boxes = read.get("boxes", read) if isinstance(read, dict) else read
        changed = spec_from_json(json.dumps({**spec_to_json(spec), "boxes": boxes}))
    except OSError as error:
        raise SsdcamError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WrongUsageError(f"{path}: holds no default boxes: {error}") from error
    if [(m.rows, m.columns) for m in changed.boxes.maps] != [(m.rows, m.columns) for m in spec.boxes.maps]:
        raise WrongUsageError(f"{path}: its boxes are for feature maps of other sizes than the network has")
    return replace(spec, boxes=changed.boxes)


def _settings(spec: ModelSpec, given: dict[str, Any]) -> Settings:
    from ssdcam.training.augment import NOTHING, Augmentation
    from ssdcam.training.loss import LossFigures
    from ssdcam.training.settings import Settings

    mean = spec.normalisation.mean
    if given["no_augment"] and given["mosaic"]:
        raise WrongUsageError("--mosaic is augmentation: it goes not with --no-augment")
    mean = mean[::-1] if spec.normalisation.colour == "rgb" else mean
    how = NOTHING if given["no_augment"] else Augmentation(mosaic=given["mosaic"], mean=mean)
    default: Classification = "softmax" if spec.score_function == "softmax" else "focal"
    trained, untrained = _LEARNING_RATES[given["optimizer"]]
    from_scratch = given["arch"] is not None and given["model"] is None
    same = (
        "epochs batch seed optimizer schedule warmup weight_decay bias_lr clip freeze batch_norm ema keep_start "
        "balance precision device workers"
    ).split()
    return Settings(
        lr=given["lr"] or (untrained if from_scratch else trained),
        loss=LossFigures(given["classification"] or default),
        augmentation=how,
        save_seconds=given["save_every"],
        log_steps=given["log_every"],
        evaluate_epochs=given["eval_every"],
        half=not given["fp32_weights"],
        **{name: given[name] for name in same},
    )


def _scorer(datasets: Sequence[Dataset], device: str, metric: Any, stop: Callable[[], bool]) -> Evaluate:
    """The mean over the data sets of a checkpoint's mAP; None if it was told to stop before the end."""
    import numpy as np

    from ssdcam.datasets import read_picture
    from ssdcam.detection.detector import Detector, choose
    from ssdcam.detection.torch_engine import TorchEngine
    from ssdcam.evaluation import evaluate, pair

    def score(checkpoint: Checkpoint) -> float | None:
        detector = Detector(TorchEngine(checkpoint, device), checkpoint.spec, choose(checkpoint.spec, score=0.01))
        values = []
        for dataset in datasets:
            found: list[Detections] = []
            for i in range(0, len(dataset.samples), 16):
                if stop():
                    return None
                found += detector.detect([read_picture(sample) for sample in dataset.samples[i : i + 16]])
            values.append(evaluate(pair(dataset, found, checkpoint.spec.labels), metric).figures["map"])
        return float(np.nan_to_num(np.mean(values)))

    return score


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Hear Ctrl-C and SIGTERM between two steps, so that all is saved; the second time they end the run at once.

    Yields:
        Whether one of them has come. At the end it has its usual effect.
    """
    received: list[int] = []
    usual: dict[int, Any] = {}

    def note(signum: int, frame: FrameType | None) -> None:
        if received:
            usual[signum](signum, frame)
        received.append(signum)

    for stopping in (signal.SIGINT, signal.SIGTERM):
        usual[stopping] = signal.signal(stopping, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    if received:
        usual[received[0]](received[0], None)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A plain bar on stderr, where someone sees it."""
    if not console.shows_progress():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), redirect_stdout=False, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar over all steps with epoch, loss, best mAP, rate and time left."""
    if not console.shows_progress():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  mAP {task.fields[best]}  {task.fields[rate]:.0f} photos/s"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as bar:
        task = bar.add_task("", total=None, epoch="", loss=float("nan"), best="-", rate=0.0)

        def show(progress: Progress) -> None:
            bar.update(
                task, completed=progress.step, total=progress.steps, epoch=f"{progress.epoch}/{progress.epochs}",
                loss=progress.loss, rate=progress.photos_per_second,
                best="-" if progress.best is None else f"{progress.best:.3f}",
            )  # fmt: skip

        yield show
