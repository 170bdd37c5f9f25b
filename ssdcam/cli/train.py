"""``ssdcam train``: an SSD for one's own classes."""

from __future__ import annotations

import signal
from _thread import start_new_thread
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ssdcam.cli import console, loading, options, progress, stopping, train_setup
from ssdcam.cli.train_options import TrainOptions, training
from ssdcam.errors import TrainingError, WrongUsageError
from ssdcam.files import exists, release, take
from ssdcam.notes import note

_CLAIM = ".ssdcam-claimed"  # in RUN_DIR, while a run is at work there
_STOPPING = "stopping after this step, then all is saved; Ctrl-C again ends at once, without saving"


@click.command("train")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA...")
@training
@options.verbosity
def command(data: tuple[Path, ...], **given: Any) -> None:
    """Train an SSD on data sets in VOC, COCO or YOLO layout; labels of several meet by name.

    RUN_DIR gets best.safetensors and last.safetensors, log.csv, curves.png, and the state that --resume goes on from.
    Ctrl-C saves and stops. Photos that cannot be read are reported and left out; the exit code is then 1.
    For several devices: torchrun --nproc-per-node N -m ssdcam train ...
    """
    told = TrainOptions(**given)
    train_setup.check_usage(told)

    from ssdcam.training.distributed import find_share, local_device

    share = find_share()
    if share.rank == 0:
        new = [path for path in (told.output, *told.output.parents) if not exists(path)]
        context = click.get_current_context()
        context.call_on_close(lambda: _remove_empty(new))
        _check_folder(told.output, told.resume)
        context.call_on_close(_claim(told.output))
    else:
        console.set_verbosity(-1)

    import cv2
    import torch

    from ssdcam.cpu import threads_of_a_share
    from ssdcam.detection.torch_engine import find_device
    from ssdcam.training.data import PhotoStore, join
    from ssdcam.training.hooks import Hooks
    from ssdcam.training.memory import keep_memory
    from ssdcam.training.scoring import digest_of, scorer
    from ssdcam.training.teacher import Teacher
    from ssdcam.training.trainer import Trainer

    threads = told.threads or threads_of_a_share()
    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    keep_memory()
    place = local_device(told.device)
    device = find_device(place)
    datasets = [loading.open_part(path, told.split) for path in data]
    labels = train_setup.labels_to_learn(told, datasets)
    console.tell_problems([line for dataset in datasets for line in dataset.problems])
    photos = join(datasets, labels)
    if not told.teacher:
        train_setup.check_objects(photos, labels)
    evaluated = train_setup.validation(data, told, labels) if share.rank == 0 else []
    start = train_setup.start(labels, told, datasets, data)
    settings = train_setup.settings(start.spec, told, place)
    train_setup.check_batch(told.batch, len(photos))
    train_setup.check_memory(start.spec, settings, share.world)
    with progress.bar("reading photos", len(photos)) as advance:
        store = PhotoStore(photos, int(told.memory * 1e9), advance)
    console.tell_problems([f"{problem}: left out" for problem in store.problems])
    missed: list[str] = []

    def miss(what_then: str) -> Callable[[str], None]:
        def warn(problem: str) -> None:
            missed.append(problem)
            console.log.warning("%s: %s", problem, what_then)

        return warn

    teacher = None
    if told.teacher:
        known = loading.open_checkpoint(told.teacher, family=None, boxes=None, offline=told.offline)
        teacher = Teacher(known, start.spec, device)
    signals: list[int] = []

    def stop() -> bool:
        return bool(signals)

    with progress.training() as show:
        evaluate = None
        if evaluated:
            evaluate = scorer(evaluated, place, told.metric, stop=stop, warn=miss("left out of the evaluation"))
        scored = f"{told.metric} {digest_of(evaluated)}"
        hooks = Hooks(evaluate, show, stop, miss("another photo stands in for it"), scored)
        if settings.batch_norm:
            note("measuring how large values become, for batch normalisation")
        trainer = Trainer(start, store, settings, told.output, hooks, share, teacher)
        if told.resume and trainer.resume():
            console.log.info("%s: going on after step %d of %d", told.output, trainer.step, trainer.steps)
        with _stopping(signals):
            finished = trainer.run()
    if share.rank == 0 and finished:
        best = "" if trainer.best is None else f", best mAP {trainer.best:.4f}"
        click.echo(f"{trainer.steps} steps over {len(store)} photos{best}: {console.printable(str(told.output))}")
    lost = store.problems or missed or any(dataset.skipped for dataset in [*datasets, *evaluated])
    if share.rank == 0 and finished and lost:
        raise click.exceptions.Exit(1)


def _check_folder(folder: Path, resume: bool) -> None:
    """Make it, unless a run that is not meant to go on is in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(path.name != _CLAIM for path in folder.iterdir())
    except OSError as error:
        raise WrongUsageError(f"{folder}: {error.strerror}") from error
    if used and not resume:
        raise WrongUsageError(
            f"{folder} is not empty: go on with the run in it with --resume, or choose another with -o"
        )


def _claim(folder: Path) -> Callable[[], None]:
    """Keep other runs out of a folder; returns what lets them in again, as the end of the process does.

    Raises:
        WrongUsageError: another run is at work there.
        TrainingError: the folder cannot be written to.
    """
    path = folder / _CLAIM
    try:
        descriptor = take(path)
    except BlockingIOError:
        raise WrongUsageError(f"{folder}: another run is at work there: choose another folder with -o") from None
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}") from error

    return lambda: release(path, descriptor)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def _stopping(received: list[int]) -> Iterator[None]:
    """Hear what stops a run between two steps, so that all is saved; the second time it ends the run at once.

    After Ctrl-C it is said that it was heard: a step may take long.

    Args:
        received: where such signals are put. At the end the first has its usual effect.
    """
    usual: dict[int, Any] = {}

    def hear(signum: int, frame: FrameType | None) -> None:
        if received:
            usual[signum](signum, frame)
        received.append(signum)
        if signum == signal.SIGINT:  # said by a thread, as what this breaks into may be writing a line itself
            start_new_thread(note, (_STOPPING,))

    for heard in stopping.HEARD:
        usual[heard] = signal.signal(heard, hear)
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    if received:
        usual[received[0]](received[0], None)
