"""Options that several commands share, each written down once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ssdcam.cli import completing, console
from ssdcam.cli.parameters import Folder, Number, Whole

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

threads = click.option("--threads", type=Whole(1, 1024), help="CPU threads to use; default: all cores it may use.")

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
    click.option("--input-size", type=Whole(32, 4096), help="Side of the network's input; default: its own."),
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
        help="Of the network's arithmetic; auto is fp16 on CUDA, bf16 on CPUs that compute in it, else fp32; in"
        " OpenVINO int8 for embedded detectors where an x86 CPU has VNNI.",
    ),
    click.option(
        "--calibrate",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Pictures to choose int8's ranges on; needed the first time, but for embedded detectors in OpenVINO.",
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
    click.option("--max-det", type=Whole(1, 100_000), help="Objects an image at most; default: the checkpoint's."),
    click.option("--classes", metavar="NAME,...", help="Look for these classes only."),
    labels,
    foreign,
    threads,
    offline,
)

records = click.option(
    "--records",
    metavar="FILE",
    multiple=True,
    shell_complete=completing.files,
    help="Write records there: x.jsonl, x.csv, x.json (COCO), voc:DIR or yolo:DIR; may be given several times.",
)


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
    click.option("--line-width", type=Whole(1, 1000), help="Of boxes, in pixels; default: by the picture's size."),
    click.option("--no-labels", is_flag=True, help="Draw boxes alone."),
)
