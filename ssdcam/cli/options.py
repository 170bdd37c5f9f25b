"""Options that several commands share, each written down once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssdcam.cli import completing, console, progress
from ssdcam.errors import WrongUsageError

if TYPE_CHECKING:
    from ssdcam.checkpoints.checkpoint import Checkpoint
    from ssdcam.datasets import Dataset
    from ssdcam.detection.detector import Detector
    from ssdcam.detections import Image
    from ssdcam.ssd.spec import ModelSpec

# As in ssdcam.detection.engines, which imports numpy: too much for a help text, and for who looks what is broken.
ENGINES = ("torch", "openvino", "onnxruntime")

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def together(*options: Decorator[Any]) -> Decorator[Any]:
    """One decorator that adds several options, the first one listed first."""
    return lambda command: functools.reduce(lambda f, option: option(f), reversed(options), command)


def _set_verbosity(ctx: click.Context, param: click.Parameter, count: int) -> None:
    counts = ctx.meta.setdefault("ssdcam.verbosity", {})
    counts[param.name] = count
    console.set_verbosity(counts.get("verbose", 0) - counts.get("quiet", 0))


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A time: seconds, or minutes and hours before them."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From text to seconds."""
        if isinstance(value, float):
            return value
        try:
            parts = [float(part) for part in str(value).split(":")]
            if len(parts) > 3 or not all(0 <= part < inf for part in parts) or any(part >= 60 for part in parts[1:]):
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} is no time such as 12.5, 1:30 or 1:02:03", param, ctx)
        total = 0.0
        for part in parts:
            total = total * 60 + part
        return total


MOST = 1_000_000_000
"""Beyond what anybody counts: a larger number is a slip, and would only fill memory or overflow."""


class Number(click.FloatRange):
    """A number in a range, up to :data:`MOST` where it has no end, and not none, which a plain range lets through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From text to a number."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        if number > MOST:
            self.fail(f"{value!r} is more than {MOST:,}", param, ctx)
        return number


def whole(least: int, most: int = MOST) -> click.IntRange:
    """A whole number in a range."""
    return click.IntRange(least, most)


verbosity = together(
    click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_set_verbosity,
        is_eager=True,
        help="Say more; -vv adds tracebacks and what libraries say.",
    ),
    click.option(
        "-q",
        "--quiet",
        count=True,
        expose_value=False,
        callback=_set_verbosity,
        is_eager=True,
        help="Say less: errors only, and no summary at the end; -qq no errors either.",
    ),
)

model = click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    shell_complete=completing.models,
    help="Checkpoint to use, a file or a name of `ssdcam weights list`; the embedded one if not given.",
)

offline = click.option("--offline", is_flag=True, help="Download nothing; SSDCAM_OFFLINE=1 does the same.")

device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|mps",
    shell_complete=completing.devices,
    help="Where to run.",
)

threads = click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads to use; default: all cores.")

labels = click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Class names, one a line, for a checkpoint that has none.",
)

family = click.option(
    "--family",
    metavar="NAME",
    shell_complete=completing.families,
    help="Whose checkpoint another code base's is, where it does not tell; README.md has the names.",
)

foreign = together(
    family,
    click.option(
        "--boxes",
        type=click.Choice(["voc", "coco"]),
        help="Default boxes of another code base's checkpoint, where its number of classes does not tell.",
    ),
)

yes = click.option("-y", "--yes", is_flag=True, help="Overwrite without asking.")

arch_size = together(
    click.option("--arch-option", "arch_options", multiple=True, metavar="KEY=F", help="Of --arch, such as width=0.5."),
    click.option("--input-size", type=click.IntRange(32, 4096), help="Side of the network's input; default: its own."),
)

detection = together(
    model,
    device,
    click.option(
        "--engine",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="What runs the network; auto is the fastest that is installed and runs there.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
        default="auto",
        show_default=True,
        help="Of the network's arithmetic; auto is fp16 on CUDA, bf16 on CPUs that compute in it, else fp32.",
    ),
    click.option(
        "--calibrate",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Pictures to choose int8's ranges on; needed the first time.",
    ),
    click.option(
        "--score",
        type=Number(0, 1),
        default=0.5,
        show_default=True,
        help="Leave out objects below this score.",
    ),
    click.option(
        "--iou",
        type=Number(0, 1),
        help="Boxes of a class that overlap more are one object; default: the checkpoint's.",
    ),
    click.option(
        "--max-det", type=click.IntRange(1, 100_000), help="Objects an image at most; default: the checkpoint's."
    ),
    click.option("--classes", metavar="NAME,...", help="Look for these classes only."),
    labels,
    foreign,
    threads,
    offline,
)

records = click.option(
    "--records",
    metavar="FILE",
    shell_complete=completing.files,
    help="Write records there: x.jsonl, x.csv, x.json (COCO), voc:DIR or yolo:DIR.",
)


class Folder(click.Path):
    """A folder, there or to be made; an empty name, as of a variable that is not set, is none."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See :meth:`click.ParamType.convert`."""
        if value == "":
            self.fail("an empty name is no folder", param, ctx)
        return super().convert(value, param, ctx)


crops = click.option(
    "--crops",
    type=Folder(),
    metavar="DIR",
    help="Cut every object out into a file there.",
)

stats = click.option(
    "--stats", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the run's figures as JSON."
)

no_fps = click.option("--no-fps", is_flag=True, help="Do not draw rate and latency.")

encoding = together(
    click.option(
        "--codec",
        metavar="h264|h265|av1|vp9|mpeg4",
        shell_complete=completing.codecs,
        help="Of the output; default: h264 where the container holds it. h264_nvenc and its kin use an NVIDIA card.",
    ),
    click.option("--crf", type=int, help="Quality on the codec's own scale, lower is better; 23 for h264."),
    click.option(
        "--preset",
        default="veryfast",
        show_default=True,
        metavar="ultrafast..medium",
        shell_complete=completing.presets,
        help="Speed of encoding against size.",
    ),
)

drawing = together(
    click.option(
        "--line-width", type=click.IntRange(1, 1000), help="Of boxes, in pixels; default: by the picture's size."
    ),
    click.option("--no-labels", is_flag=True, help="Draw boxes alone."),
)


def files_read(detection: Mapping[str, Any]) -> list[Path]:
    """The files that the detection options name, which no output may replace."""
    return [Path(name) for name in (detection["model"], detection["labels"]) if name]


def class_names(classes: str) -> list[str]:
    """The names that ``--classes`` gives.

    Raises:
        WrongUsageError: there is none.
    """
    found = [name.strip() for name in classes.split(",") if name.strip()]
    if not found:
        raise WrongUsageError("--classes names no class")
    return found


def load_detector(
    *,
    model: str | None,
    device: str,
    engine: Any,
    precision: Any,
    calibrate: Path | None,
    score: float,
    iou: float | None,
    max_det: int | None,
    classes: str | None,
    labels: Path | None,
    family: str | None,
    boxes: Any,
    threads: int | None,
    offline: bool,
) -> Detector:
    """The detector that the detection options describe."""
    from ssdcam.detection.detector import load

    wanted = None if classes is None else class_names(classes)
    fetch(model, family, boxes, offline)
    return load(
        model,
        score=score,
        iou=iou,
        max_det=max_det,
        classes=wanted,
        labels=labels,
        family=family,
        boxes=boxes,
        device=device,
        engine=engine,
        precision=precision,
        calibrate=None if calibrate is None else calibration_pictures(calibrate),
        threads=threads,
        offline=offline,
    )


def fetch(model: str | Path | None, family: str | None, boxes: str | None, offline: bool) -> None:
    """Download what ``-m`` names, if need be, with a bar where someone sees it.

    With ``--family`` or ``--boxes`` it is no published one, or wrong usage: that is told when it is opened.
    """
    from ssdcam.checkpoints import resolve

    if model is not None and not (family or boxes):
        with progress.download() as show:
            resolve.fetch(model, offline=offline, progress=show)


def open_checkpoint(
    model: str | Path | None, labels: Path | None = None, *, family: str | None, boxes: Any, offline: bool
) -> Checkpoint:
    """The checkpoint that ``-m`` and the options about it describe, downloaded if need be."""
    from ssdcam.checkpoints import resolve

    fetch(model, family, boxes, offline)
    return resolve.open_checkpoint(model, labels, family=family, boxes=boxes, offline=offline)


def calibration_pictures(folder: Path) -> Iterator[Image]:
    """Pictures of a folder to calibrate on, spread over it; those that cannot be read are named and left out."""
    from ssdcam.detection.detector import CALIBRATION_PICTURES
    from ssdcam.errors import ImageError
    from ssdcam.media.images import find_pictures, read_image

    found = list(find_pictures([str(folder)]))
    taken = found[:: -(-len(found) // CALIBRATION_PICTURES) or 1]
    with progress.counted(taken, "calibrating") as pictures:
        for picture in pictures:
            try:
                if isinstance(picture, ImageError):
                    raise picture
                yield read_image(picture.path)
            except ImageError as error:
                console.log.warning("%s", error)


def open_part(path: Path, split: str) -> Dataset:
    """A part of a data set; of one that is not divided, all of it."""
    from ssdcam.datasets import dataset_splits, open_dataset

    return open_dataset(path, split if dataset_splits(path) else None)


def network(
    labels: tuple[str, ...],
    model: str | None,
    arch: str | None,
    arch_options: Sequence[str],
    side: int | None,
    *,
    family: str | None = None,
    offline: bool = False,
) -> tuple[ModelSpec, Checkpoint | None]:
    """The network that ``-m`` or ``--arch``, and the options about them, describe, for some labels.

    Returns:
        Its spec, and the checkpoint that it is of; None of an architecture alone.
    """
    from ssdcam.ssd.architectures import architecture, map_sizes, new_spec
    from ssdcam.training.transfer import retarget

    size = (side, side) if side else None
    if model is None and arch is not None:
        if family:
            raise WrongUsageError("--family is for a checkpoint: give -m as well")
        try:
            return new_spec(arch, labels, input_size=size, options=_arch_options(arch_options)), None
        except ValueError as error:
            raise WrongUsageError(str(error)) from error
    checkpoint = open_checkpoint(model, family=family, boxes=None, offline=offline)
    spec = retarget(checkpoint.spec, labels)
    if arch not in (None, spec.architecture):
        raise WrongUsageError(f"{model} is {spec.architecture}: give either -m or --arch")
    if arch_options:
        raise WrongUsageError("--arch-option is for --arch: a checkpoint has its own")
    if size and size != spec.input_size:
        try:
            boxes = architecture(spec.architecture).boxes(size, map_sizes(spec.architecture, size, spec.options))
        except ValueError as error:
            raise WrongUsageError(str(error)) from error
        spec = replace(spec, input_size=size, boxes=boxes)
    return spec, checkpoint


def _arch_options(texts: Sequence[str]) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in (text.split("=", 1) for text in texts)}
    except ValueError as error:
        raise WrongUsageError("--arch-option takes a name and a number, such as width=0.5") from error
