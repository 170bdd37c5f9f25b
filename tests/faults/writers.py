"""Every command that writes, with what it writes; and what must hold of that whatever ended the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ssdcam.checkpoints.checkpoint import load_checkpoint
from ssdcam.media.images import read_image
from ssdcam.records import read_records, to_line
from ssdcam.training.log import read_log

from ..datasets import made
from ..media import clips
from ..media.sources.videos import make_video
from ..pictures import photo

Look = Callable[[Path], None]


def pictures(place: Path) -> None:
    """Each is whole."""
    for path in visible(place):
        assert read_image(path).size


def records(target: str) -> None:
    """All that is there can be read, to the end."""
    path = Path(target.rpartition(":")[2])
    if path.is_dir() and not visible(path):
        return
    if path.suffix == ".csv" and path.exists() and not path.stat().st_size:  # killed before its header
        return
    if target.startswith("yolo:") and not all((path / name).exists() for name in ("index.jsonl", "classes.txt")):
        return
    if path.exists():
        for record in read_records(target):
            to_line(record)


def checkpoint(path: Path) -> None:
    if path.exists():
        load_checkpoint(path)


def document(path: Path) -> None:
    if path.exists():
        json.loads(path.read_bytes())


def film(path: Path) -> None:
    """What is there plays from its beginning: a whole header, or nothing yet."""
    header = 16384 if path.suffix == ".avi" else 4096  # AVI keeps room for an index of each track
    if path.exists() and path.stat().st_size > header:
        assert clips.frame_times(path)


def training(folder: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        checkpoint(folder / name)
    read_log(folder / "log.csv")


def visible(place: Path) -> list[Path]:
    """The files in a folder that are not hidden: `.ssdcam-*.part` may be left of a process that was killed."""
    return sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))


@dataclass(frozen=True)
class Writer:
    """A command line that writes.

    Attributes:
        words: it, in a folder furnished by :func:`furnish`; ``{out}`` is the folder that is written to.
        look: at what it wrote, raises if that is neither whole nor absent.
        keeps: whether what was there before stays until something whole replaces it.
        stubbed: whether the detector may be a stub.
    """

    words: str
    look: Look
    keeps: bool = True
    stubbed: bool = True


_TRAIN = (
    "--epochs 1 --batch 2 --warmup 1 --log-every 1 --save-every 0 --device cpu --threads 1 --precision fp32 --workers 0"
)

WRITERS: dict[str, Writer] = {
    "image -o": Writer("image in -o {out}/pics -y", lambda out: pictures(out / "pics")),
    "image --crops": Writer("image in --crops {out}/crops -y", lambda out: pictures(out / "crops")),
    **{
        f"image --records {target}": Writer(
            f"image in --records {target.replace('OUT', '{out}')} -y",
            lambda out, target=target: records(target.replace("OUT", str(out))),
            keeps=target.endswith(".json"),
        )
        for target in ("OUT/r.jsonl", "OUT/r.csv", "OUT/r.json", "voc:OUT/voc", "yolo:OUT/yolo")
    },
    **{
        f"video -o {suffix}": Writer(
            f"video v.mp4 -o {{out}}/v{suffix} --preset ultrafast -y",
            lambda out, suffix=suffix: film(out / f"v{suffix}"),
            keeps=False,
        )
        for suffix in (".mp4", ".mkv", ".webm", ".avi")
    },
    "video --crops --records": Writer(
        "video v.mp4 --crops {out}/crops --records {out}/r.jsonl -y",
        lambda out: [pictures(out / "crops"), records(f"{out}/r.jsonl")][0],
        keeps=False,
    ),
    "video --stats": Writer("video v.mp4 --json --stats {out}/s.json -y", lambda out: document(out / "s.json")),
    "webcam -o": Writer(
        "webcam v.mp4 --no-window -o {out}/w.mp4 --max-frames 5 -y", lambda out: film(out / "w.mp4"), keeps=False
    ),
    "weights convert": Writer(
        "weights convert tiny.safetensors -o {out}/w.safetensors -y", lambda out: checkpoint(out / "w.safetensors")
    ),
    "boxes -o": Writer(
        "boxes voc --arch ssd300-mobilenet-v1 -o {out}/boxes.json -y", lambda out: document(out / "boxes.json")
    ),
    "eval --plots": Writer(
        "eval --ground-truth coco/val.json --detections found.json --plots {out}/plots",
        lambda out: pictures(out / "plots"),
    ),
    "train": Writer(
        f"train voc -m tiny.safetensors -o {{out}}/run --resume {_TRAIN}",
        lambda out: training(out / "run"),
        stubbed=False,
    ),
}


def furnish(folder: Path, model: Path) -> None:
    """What the command lines read."""
    (folder / "in").mkdir(parents=True)
    for number in range(3):
        photo(folder / f"in/p{number}.jpg", seed=number)
    make_video(folder / "v.mp4", range(8))
    (folder / "tiny.safetensors").write_bytes(model.read_bytes())
    made.voc(folder / "voc")
    made.coco(folder / "coco")
    results = [{"image_id": 11, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (folder / "found.json").write_text(json.dumps(results))


def words(name: str, out: str) -> list[str]:
    """A writer's command line, with a place to write to."""
    if name == "eval --plots":
        pytest.importorskip("matplotlib", reason="plots need matplotlib")
    return [word.replace("{out}", out) for word in WRITERS[name].words.split()]
