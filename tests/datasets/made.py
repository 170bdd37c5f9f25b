"""The same tiny data set in every layout: photos of noise and boxes on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import pictures

LABELS = ("cat", "dog", "potted plant")
WIDTH, HEIGHT = 80, 64  # sides that a relative box hits exactly


class Thing(NamedTuple):
    label: str
    box: tuple[float, float, float, float]  # edges from 0
    difficult: bool = False


Photos = Mapping[str, Sequence[Thing]]

TRAIN: Photos = {
    "a": [Thing("cat", (0, 0, 40, 32)), Thing("dog", (20, 16, 80, 64))],
    "b": [],
    "c": [Thing("potted plant", (10, 4, 30, 60)), Thing("cat", (1, 2, 3, 6))],
}
VAL: Photos = {"d": [Thing("dog", (8, 8, 16, 24))], "e": [Thing("cat", (0, 0, 80, 64))]}
SPLITS = {"train": TRAIN, "val": VAL}

Maker = Callable[[Path], Path]


def voc_xml(things: Sequence[Thing]) -> str:
    objects = "".join(
        f"<object><name>{t.label}</name><difficult>{int(t.difficult)}</difficult><part><name>head</name></part><bndbox>"
        f"<xmin>{t.box[0] + 1}</xmin><ymin>{t.box[1] + 1}</ymin><xmax>{t.box[2]}</xmax><ymax>{t.box[3]}</ymax>"
        "</bndbox></object>"
        for t in things
    )
    return f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{objects}</annotation>"


def coco_json(photos: Photos) -> dict[str, list[dict[str, object]]]:
    ids = {label: number for number, label in zip((3, 7, 9), LABELS, strict=True)}
    annotations = []
    for image_id, things in enumerate(photos.values(), 11):
        for thing in things:
            x1, y1, x2, y2 = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[thing.label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) / 2,
                    "iscrowd": int(thing.difficult),
                }
            )
    images = [
        {"id": i, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT} for i, name in enumerate(photos, 11)
    ]
    return {
        "images": images,
        "categories": [{"id": number, "name": label} for label, number in reversed(ids.items())],
        "annotations": annotations,
    }


def yolo_txt(things: Sequence[Thing]) -> str:
    lines = []
    for thing in things:
        x1, y1, x2, y2 = thing.box
        numbers = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
        lines.append(" ".join([str(LABELS.index(thing.label)), *map(str, numbers)]))
    return "\n".join(lines)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pictures.photo(path, WIDTH, HEIGHT, seed=ord(path.stem[0]))


def voc(root: Path) -> Path:
    for split, photos in SPLITS.items():
        write(root / f"ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in photos))
        for name, things in photos.items():
            photo(root / f"JPEGImages/{name}.jpg")
            write(root / f"Annotations/{name}.xml", voc_xml(things))
    return root


def voc_roboflow(root: Path) -> Path:
    for split, photos in SPLITS.items():
        for name, things in photos.items():
            photo(root / split / f"{name}.jpg")
            write(root / split / f"{name}.xml", voc_xml(things))
    write(root / "README.dataset.txt", "Exported")
    return root


def _coco(root: Path, file: str, picture: str) -> Path:
    for split, photos in SPLITS.items():
        write(root / file.format(split), json.dumps(coco_json(photos)))
        for name in photos:
            photo(root / picture.format(split) / f"{name}.jpg")
    return root


def coco(root: Path) -> Path:
    return _coco(root, "{}.json", "images")


def coco_2017(root: Path) -> Path:
    write(root / "annotations/captions_val2017.json", "{}")
    return _coco(root, "annotations/instances_{}2017.json", "{}2017")


def coco_roboflow(root: Path) -> Path:
    return _coco(root, "{}/_annotations.coco.json", "{}")


def _yolo(root: Path, picture: str, label: str) -> Path:
    for split, photos in SPLITS.items():
        for name, things in photos.items():
            photo(root / picture.format(split) / f"{name}.jpg")
            if things:
                write(root / label.format(split) / f"{name}.txt", yolo_txt(things))
    return root


def yolo(root: Path) -> Path:
    names = "".join(f"  {i}: {label}  # a class\n" for i, label in enumerate(LABELS))
    text = f"# a data set\npath: .\ntrain: images/train\nval: images/val\nnames:\n{names}download: |\n  import this\n"
    write(root / "data.yaml", text)
    return _yolo(root, "images/{}", "labels/{}")


def yolo_roboflow(root: Path) -> Path:
    text = "train: ../train/images\nval: ../valid/images\nnc: 3\nnames: ['cat', \"dog\",\n  potted plant]\n"
    _yolo(root, "{}/images", "{}/labels")
    (root / "val").rename(root / "valid")
    write(root / "data.yaml", text)
    return root


def yolo_plain(root: Path) -> Path:
    write(root / "labels/classes.txt", "\n".join(LABELS))
    return _yolo(root, "images/{}", "labels/{}")


def yolo_lists(root: Path) -> Path:
    write(root / "classes.txt", "\n".join(LABELS))
    for split, photos in SPLITS.items():
        write(root / f"{split}.txt", "".join(f"./images/{name}.jpg\n" for name in photos))
    return _yolo(root, "images", "labels")


LAYOUTS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (voc, voc_roboflow, coco, coco_2017, coco_roboflow, yolo, yolo_roboflow, yolo_plain, yolo_lists)
}
