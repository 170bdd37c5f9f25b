"""What ``ssdcam train`` is told, and the form in which the rest of it is told so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdcam.cli import completing, options, parameters

if TYPE_CHECKING:
    from ssdcam.evaluation import Metric
    from ssdcam.training.loss import Classification
    from ssdcam.training.settings import OptimizerName, Precision, ScheduleName


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``ssdcam train`` as :data:`training` lists them, whose help says what they mean."""

    model: str | None
    family: str | None
    arch: str | None
    arch_options: tuple[str, ...]
    input_size: int | None
    boxes: Path | None
    classes: str | None
    labels: Path | None
    split: str
    val_split: str
    val: tuple[Path, ...]
    metric: Metric
    output: Path
    resume: bool
    epochs: int
    batch: int
    lr: float | None
    seed: int
    optimizer: OptimizerName
    schedule: ScheduleName
    warmup: int
    weight_decay: float
    bias_lr: float
    clip: float
    freeze: int
    batch_norm: bool
    ema: float
    keep_start: float
    classification: Classification | None
    balance: float
    mosaic: float
    no_augment: bool
    teacher: str | None
    precision: Precision
    device: str
    workers: int | None
    threads: int | None
    memory: float
    save_every: float
    eval_every: int
    log_every: int
    offline: bool
    fp32_weights: bool


training = options.together(
    click.option(
        "-m",
        "--model",
        metavar="NAME|PATH",
        shell_complete=completing.models,
        help="Checkpoint to start from; the embedded one if not given.",
    ),
    options.family,
    click.option(
        "--arch",
        metavar="NAME",
        shell_complete=completing.architectures,
        help="Start from random weights: ssd300-mobilenet-v1, ssd300-vgg16, ...",
    ),
    options.arch_size,
    click.option(
        "--boxes",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Default boxes: what `ssdcam boxes -o` writes, or what `ssdcam weights info --json` prints.",
    ),
    click.option("--classes", metavar="NAME,...", help="Learn these classes only; default: all that the data has."),
    click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Learn these classes, one a line, also those that only a --teacher or the start knows.",
    ),
    click.option("--split", default="train", show_default=True, help="Part of the data to train on."),
    click.option(
        "--val-split", default="val", show_default=True, help="Part of the data to choose the best weights on."
    ),
    click.option(
        "--val",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="DATA",
        help="Choose on the val part of this data instead, or on all of it if it is not divided.",
    ),
    click.option(
        "--metric",
        type=click.Choice(["voc07", "voc", "coco"]),
        default="voc07",
        show_default=True,
        help="Average precision to choose by.",
    ),
    click.option(
        "-o",
        "--output",
        type=parameters.Folder(),
        default="run",
        show_default=True,
        metavar="RUN_DIR",
        help="Where checkpoints, log and state go.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the run in RUN_DIR, if there is one."),
    click.option(
        "--epochs", type=parameters.Whole(1), default=24, show_default=True, help="How often all photos are seen."
    ),
    click.option(
        "--batch",
        type=parameters.Whole(1, 65536),
        default=16,
        show_default=True,
        help="Photos a step, of all processes together.",
    ),
    click.option(
        "--lr",
        type=parameters.Number(0, 1000, min_open=True, max_open=True),
        help="Learning rate; default: 1e-4 with adamw, 1e-3 with sgd; from random weights ten times that.",
    ),
    click.option("--seed", type=parameters.Whole(0), default=0, show_default=True, help="Where all chance comes from."),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "sgd"]),
        default="adamw",
        show_default=True,
        help="sgd has momentum .9.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(["cosine", "step", "constant"]),
        default="cosine",
        show_default=True,
        help="How the learning rate falls: along half a cosine to 0; to a tenth at 2/3 and again at 5/6; not at all.",
    ),
    click.option(
        "--warmup",
        type=parameters.Whole(0),
        default=100,
        show_default=True,
        help="Steps that the learning rate rises for.",
    ),
    click.option(
        "--weight-decay",
        type=parameters.Number(0),
        default=5e-4,
        show_default=True,
        help="Of kernels; biases and norms have none.",
    ),
    click.option(
        "--bias-lr",
        type=parameters.Number(0),
        default=1.0,
        show_default=True,
        help="Factor of the biases' learning rate; the paper's release has 2.",
    ),
    click.option(
        "--clip",
        type=parameters.Number(0),
        default=10.0,
        show_default=True,
        help="Largest norm of all gradients together; 0: no limit.",
    ),
    click.option(
        "--freeze",
        type=parameters.Whole(0),
        default=0,
        show_default=True,
        help="So many convolutions, from the picture on, stay as they are; as many as 999 are the whole backbone.",
    ),
    click.option(
        "--batch-norm",
        is_flag=True,
        help="Train with batch normalisation, folded into the convolutions of what is saved.",
    ),
    click.option(
        "--ema",
        type=parameters.Number(0, 1, max_open=True),
        default=0.999,
        show_default=True,
        help="Decay of the weights' moving average; 0: none.",
    ),
    click.option(
        "--keep-start",
        type=parameters.Number(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Share of the start's weights in what is saved, so that less of them is forgotten.",
    ),
    click.option(
        "--loss",
        "classification",
        type=click.Choice(["softmax", "sigmoid", "focal"]),
        help="Of the scores: softmax and sigmoid with hard negatives, or focal; default: softmax, or focal "
        "where the start's scores are sigmoids.",
    ),
    click.option(
        "--balance",
        type=parameters.Number(0, 1),
        default=0.0,
        show_default=True,
        help="Classes in a smaller share of the photos than this are shown more often.",
    ),
    click.option(
        "--mosaic",
        type=parameters.Number(0, 1),
        default=0.0,
        show_default=True,
        help="Share of inputs that are put together from four photos.",
    ),
    click.option("--no-augment", is_flag=True, help="Show photos as they are."),
    click.option(
        "--teacher",
        metavar="NAME|PATH",
        shell_complete=completing.models,
        help="A detector to learn from about classes that a photo's data set does not name.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="Of the arithmetic; auto is bf16 where the device is fast at it.",
    ),
    options.device,
    click.option(
        "--workers",
        type=parameters.Whole(0, 1024),
        help="Processes that prepare photos; default: none on a CPU, up to 8 a GPU.",
    ),
    options.threads,
    click.option(
        "--memory",
        type=parameters.Number(0),
        default=4.0,
        show_default=True,
        metavar="GB",
        help="To hold photos in, of each process; what does not fit is read each time.",
    ),
    click.option(
        "--save-every",
        type=parameters.Number(0),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Save the state to resume from this often, and after every epoch.",
    ),
    click.option(
        "--eval-every",
        type=parameters.Whole(1),
        default=1,
        show_default=True,
        metavar="EPOCHS",
        help="Evaluate this often, and at the end.",
    ),
    click.option(
        "--log-every",
        type=parameters.Whole(1),
        default=50,
        show_default=True,
        metavar="STEPS",
        help="Write a line of log.csv this often, and after every epoch.",
    ),
    options.offline,
    click.option("--fp32-weights", is_flag=True, help="Save checkpoints in float32, at twice the size."),
)
