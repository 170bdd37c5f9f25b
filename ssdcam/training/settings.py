"""What a training run is told: plain data that is stored with the run and compared when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ssdcam.errors import WrongUsageError
from ssdcam.training.augment import NOTHING, Augmentation
from ssdcam.training.loss import LossFigures

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["cosine", "step", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: how often all photos are gone through.
        batch: photos a step, of all processes together.
        seed: what all chance comes from.
        optimizer: ``sgd`` with momentum .9 or ``adamw``.
        lr: learning rate after the warm-up.
        weight_decay: of kernels; biases and norms have none.
        bias_lr: factor of the biases' learning rate; the paper's Caffe release has 2.
        schedule: ``cosine`` to nothing, ``step`` to a tenth at two thirds and again at five sixths (the paper's 80k
            and 100k of 120k), or ``constant``.
        warmup: steps over which the learning rate rises.
        clip: largest norm of all gradients together; 0 is no limit.
        ema: decay of the moving average of the weights, which is what is kept and evaluated; 0 is none.
        keep_start: share of the weights that training started from in what is evaluated and saved. A network that was
            trained on far more than is here forgets some of it; an average of before and after often does better at
            both (Wortsman et al., arXiv 2109.01903). 0 is none.
        freeze: convolutions of the backbone, from the picture on, that stay as they are.
        batch_norm: whether norms are put behind the backbone's convolutions while it is trained.
        precision: of the arithmetic; ``auto`` is bf16 where the device computes it fast, else fp32.
        balance: see :class:`ssdcam.training.data.Order`.
        loss: the loss's figures.
        augmentation: the augmentation's figures.
        device: where to train, as in :class:`ssdcam.detection.torch_engine.TorchEngine`.
        workers: processes that prepare batches; None is none on a CPU, which has better to do, and up to 8 otherwise.
        save_seconds: the run's state is saved at least this often, and after every epoch.
        log_steps: steps between lines of the log.
        evaluate_epochs: epochs between evaluations.
        half: whether checkpoints hold float16.
    """

    epochs: int = 24
    batch: int = 16
    seed: int = 0
    optimizer: OptimizerName = "sgd"
    lr: float = 1e-3
    weight_decay: float = 5e-4
    bias_lr: float = 1.0
    schedule: ScheduleName = "cosine"
    warmup: int = 100
    clip: float = 10.0
    ema: float = 0.999
    keep_start: float = 0.0
    freeze: int = 0
    batch_norm: bool = False
    precision: Precision = "auto"
    balance: float = 0.0
    loss: LossFigures = field(default_factory=LossFigures)
    augmentation: Augmentation = field(default_factory=Augmentation)
    device: str = "auto"
    workers: int | None = None
    save_seconds: float = 300.0
    log_steps: int = 50
    evaluate_epochs: int = 1
    half: bool = True

    def __post_init__(self) -> None:
        for value, choices in (
            (self.optimizer, OptimizerName),
            (self.schedule, ScheduleName),
            (self.precision, Precision),
        ):
            if value not in get_args(choices):
                raise WrongUsageError(f"{value!r} is none of {', '.join(get_args(choices))}")
        if min(self.epochs, self.batch, self.log_steps, self.evaluate_epochs) < 1:
            raise WrongUsageError("epochs, batch and the steps between logs and evaluations start at 1")
        if not (0 < self.lr < 1e3 and 0 <= self.ema < 1 and 0 <= self.keep_start < 1 and self.seed >= 0):
            raise WrongUsageError(
                f"lr {self.lr}, ema {self.ema}, keep_start {self.keep_start} or seed {self.seed} is out of range"
            )


# What may differ when a run is resumed: it changes how fast or how loudly, not what is learnt.
_FREE = {"device", "workers", "save_seconds", "log_steps", "evaluate_epochs", "half"}


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """As JSON's own types."""
    return {key: _plain(value) for key, value in asdict(settings).items()}


def differences(settings: Settings, stored: Mapping[str, Any]) -> list[str]:
    """What a run was started with that is not what it is to be resumed with, a text each."""
    now = _as_told(settings_to_json(settings))
    # What was not yet a setting then was as it is by default.
    before = _as_told({**settings_to_json(Settings()), **stored})
    told = []
    for name, value in now.items():
        was = before.get(name, value)
        if isinstance(value, bool) and name.startswith("--") and was != value:
            told.append(f"{name} was {'given' if was else 'not given'}")
        elif was != value:
            told.append(f"{name} was {was}, not {value}")
    return told


def _as_told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of ``ssdcam train``'s options; those that have none, by their own."""
    loss, augmentation = dict(settings["loss"]), dict(settings["augmentation"])
    none = augmentation == _plain(asdict(NOTHING))
    told = {
        f"--{name.replace('_', '-')}": value
        for name, value in settings.items()
        if name not in {*_FREE, "loss", "augmentation"}
    }
    told |= {"--loss": loss.pop("classification"), "--no-augment": none, "--mosaic": augmentation.pop("mosaic")}
    told |= {f"the loss's {name}": value for name, value in loss.items()}
    return told if none else told | {f"the augmentation's {name}": value for name, value in augmentation.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value
