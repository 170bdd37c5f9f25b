"""Train the embedded detectors again, as those in weights/ were, and write their model cards' figures.

    python benchmarks/train_embedded.py --coco DATA --voc DATA --start detect.tflite -o out [coco] [voc]

DATA: COCO with train.json and val.json, VOC with the sets train and val. The start is TensorFlow's COCO SSD (see
weights/README.md). `coco` is one stage; `voc` goes through all 80 classes at its larger input twice before it learns
VOC's 20. Every stage is a command of ssdcam, printed before it runs; a run that was stopped goes on where it was. On a
CPU the result repeats bit for bit only with the same number of threads and the same torch; elsewhere it is as good, not
the same.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ssdcam.checkpoints.labels import VOC
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes, paper_shapes

SIDE = 364
"""Of the input: maps of 23, 12 and 6 cells, each at the step in pixels that it has at 300."""

COMMON = "--batch-norm --freeze 5 --batch 16 --balance 0.02 --seed 0".split()


@dataclass(frozen=True)
class Stage:
    """A run of ``ssdcam train``; ``{...}`` in its words stands for what is given, and for other stages' checkpoints."""

    name: str
    words: str


STAGES = {
    "coco": (
        Stage("coco", "{coco} {voc} -m {start} --teacher {start} --epochs 2 --lr 1e-4 --eval-every 2 --keep-start 0.4"),
    ),
    "voc": (
        Stage(
            "large",
            "{coco} {voc} -m {start} --input-size {side} --boxes {boxes} "
            "--epochs 18 --lr 1.5e-4 --eval-every 3 --keep-start 0.5",
        ),
        Stage(
            "taught",
            "{coco} {voc} -m {large} --teacher {large} --epochs 8 --lr 1e-4 --eval-every 2 --keep-start 0.4",
        ),
        Stage(
            "voc",
            "{voc} {coco} -m {taught} --classes {classes} --val {voc} "
            "--epochs 4 --lr 1e-4 --eval-every 4 --keep-start 0.5",
        ),
    ),
}
"""Of each embedded detector."""


def boxes_in_pixels(side: int) -> BoxLayout:
    """The start's default boxes for a larger input.

    On the three finest maps, which see most objects, boxes keep their size in pixels, so that the start's predictors
    hold for them; on the others they grow evenly to .95 of the picture.
    """
    smaller = 300 / side
    third = 0.5 * smaller
    scales = [0.2 * smaller, 0.35 * smaller, third, *(third + (0.95 - third) * k / 3 for k in (1, 2, 3)), 1.0]
    cells = [side]
    for _ in range(9):
        cells.append(-(-cells[-1] // 2))  # strides of 2 with TensorFlow's padding
    maps = []
    for k, (count, scale, following) in enumerate(zip(cells[4:], scales, scales[1:], strict=False)):
        square, extra, *others = paper_shapes((scale, scale), (following, following), (2, 3))
        shapes = ((0.1 * smaller, 0.1 * smaller), *others[:2]) if k == 0 else (square, *others, extra)
        maps.append(FeatureMapBoxes(count, count, shapes, (1 / count, 1 / count)))
    return BoxLayout(tuple(maps))


def ssdcam(*arguments: object) -> str:
    """Run a command; its standard output."""
    command = [sys.executable, "-m", "ssdcam", *map(str, arguments)]
    print("$ ssdcam", shlex.join(command[3:]), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name: str, given: argparse.Namespace) -> Path:
    """Train one, or go on; its checkpoint."""
    boxes = given.output / "boxes.json"
    boxes.write_text(json.dumps(as_json(boxes_in_pixels(SIDE)), indent=1) + "\n")
    known = {"coco": given.coco, "voc": given.voc, "start": given.start, "side": SIDE, "boxes": boxes}
    known["classes"] = ",".join(VOC)
    for stage in STAGES[name]:
        folder = given.output / stage.name
        words = [word.format(**known) for word in stage.words.split()]
        ssdcam("train", *words, *COMMON, "--resume", "-o", folder)
        last = folder / "last.safetensors"
        known.setdefault(stage.name, last)
    return Path(last)


def table(data: Path, metric: str, model: Path) -> str:
    """A model card's figures: all classes and each, best first, in Markdown."""
    result = json.loads(ssdcam("eval", data, "--metric", metric, "-m", model, "--json"))
    classes = sorted(result["classes"].items(), key=lambda one: -(one[1] or 0))
    rows = [f"**all** {result['map']:.4f}", *(f"{label} {ap:.3f}" for label, ap in classes if ap is not None)]
    return f"{data.name}, {metric}: " + ", ".join(rows)


def as_json(layout: BoxLayout) -> dict[str, object]:
    """The ``boxes`` of a checkpoint's metadata."""
    maps = [{"rows": m.rows, "columns": m.columns, "shapes": m.shapes, "step": m.step} for m in layout.maps]
    return {"maps": maps, "clip": layout.clip}


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["coco", "voc"], metavar="NAME", help="coco, voc or both")
    for option in ("--coco", "--voc", "--start", "--output"):
        parser.add_argument(option, *(["-o"] if option == "--output" else []), type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        last = train(name, given)
        shutil.copyfile(last, given.output / f"{name}.safetensors")
        tables = [table(given.voc, "voc07", last)]
        if name == "coco":
            tables.append(table(given.coco / "val.json", "coco", last))
        (given.output / f"{name}.md").write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
