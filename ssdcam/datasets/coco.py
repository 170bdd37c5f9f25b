"""COCO: a JSON object of ``images``, ``categories`` and ``annotations``, and a folder of pictures."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ssdcam import json_fields as fields
from ssdcam.datasets.layout import Layout, RawObject, RawPart, RawPhoto, Troubles, place_of, places_of
from ssdcam.errors import DatasetError
from ssdcam.files import check_ends, is_file

T = TypeVar("T")
ImageEntry = tuple[int | str, str, int | None, int | None]
"""Id, file name, width and height."""

LOOKED_FOR = "a .json, train.json, val.json or annotations/instances_*.json (COCO)"

_BESIDE = "_annotations.coco.json"  # the pictures of each part, as Roboflow exports them

# Where the parts of a data set lie, below its folder, and what part a file's path says it is.
_NAMED = r"(?:instances_(?P<instances>.+)|(?P<plain>(?:train|val|test).*))\.json"
_PARTS = (
    ("annotations/*.json", f"annotations/{_NAMED}"),
    ("*.json", _NAMED),
    (f"*/{_BESIDE}", rf"(?P<plain>.+)/{re.escape(_BESIDE)}"),
)


def find_coco(path: Path) -> Layout | None:
    """The COCO data set that a file or a folder is, if it is one."""
    if file := lone_file(path):
        return Layout("COCO", {}, partial(_read, [file]))
    files = part_files(path)
    if not files:
        return None
    return Layout(
        "COCO", {name: partial(_read, [file]) for name, file in files.items()}, partial(_read, [*files.values()])
    )


def lone_file(path: Path) -> Path | None:
    """The file that holds all ground truths: the path itself, or what Roboflow puts beside the pictures of a part."""
    if path.suffix.lower() == ".json" and is_file(path):
        return path
    beside = path / _BESIDE
    return beside if is_file(beside) and not part_files(path) else None


def part_files(path: Path) -> dict[str, Path]:
    """The files below a folder that hold ground truths, by the names of the parts."""
    files: dict[str, Path] = {}
    for pattern, name in _PARTS:
        for file in sorted(path.glob(pattern)):
            if match := re.fullmatch(name, file.relative_to(path).as_posix()):
                files.setdefault(next(part for part in match.groups() if part), file)
    return files


def _read(paths: Sequence[Path], troubles: Troubles) -> RawPart:
    parts = [_read_file(path, troubles) for path in paths]
    labels = dict.fromkeys(label for part in parts for label in part.labels)
    return RawPart(tuple(labels), (photo for part in parts for photo in part.photos))


def _read_file(path: Path, troubles: Troubles) -> RawPart:
    whole = _object(path)
    images = _entries(path, whole, "images", _image, troubles)
    categories = dict(sorted(_entries(path, whole, "categories", _category, troubles)))
    if not categories:
        raise DatasetError(f"{path}: names no categories")
    numbers = {number for number, *_ in images}
    objects: dict[int | str, list[RawObject]] = defaultdict(list)

    def add(values: Mapping[str, Any], place: str) -> None:
        number = fields.identity(values, "image_id")
        if number not in numbers:
            raise ValueError(f"image_id {number!r} is not among the images")
        objects[number].append(_annotation(values, categories, place))

    _entries(path, whole, "annotations", add, troubles)
    folder = _picture_folder(path, [name for _, name, *_ in images])
    photos = _photos(folder, _told_apart(path, images, troubles), objects)
    return RawPart(tuple(dict.fromkeys(categories.values())), photos)


def _told_apart(path: Path, images: Sequence[ImageEntry], troubles: Troubles) -> list[ImageEntry]:
    """The images but for those of one id, as in files put together from several: whose its objects are is not told."""
    names: dict[int | str, dict[str, None]] = defaultdict(dict)
    for number, name, *_ in images:
        names[number][name] = None
    for number, bearers in names.items():
        if len(bearers) > 1:
            first, second, *_ = bearers
            what = f"id {number!r} is of {len(bearers)} images, such as {first} and {second}: left out"
            troubles.add(f"{path}: {what}", photos=len(bearers))
    return [image for image in images if len(names[image[0]]) == 1]


def _photos(
    folder: Path,
    images: Sequence[ImageEntry],
    objects: Mapping[int | str, list[RawObject]],
) -> Iterator[RawPhoto]:
    places = places_of(folder, [name for _, name, *_ in images])
    for number, name, width, height in images:
        yield RawPhoto(str(number), places[name], width, height, tuple(objects.get(number, ())))


def _object(path: Path) -> Mapping[str, Any]:
    try:
        # As Python has it NaN is a number; a box with one is told by its place.
        check_ends(path)
        return fields.mapping(json.loads(path.read_bytes()))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: line {error.lineno}: is no JSON or cut short: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: {error}") from None


def _entries(
    path: Path,
    whole: Mapping[str, Any],
    key: str,
    convert: Callable[[Mapping[str, Any], str], T],
    troubles: Troubles,
) -> list[T]:
    """The entries of a list that make sense."""
    try:
        entries = fields.items(whole, key)
    except ValueError as error:
        raise DatasetError(f"{path}: is no COCO data set: {error}") from None
    converted = []
    for i, entry in enumerate(entries):
        place = f"{path}: {key}[{i}]"
        try:
            converted.append(convert(fields.mapping(entry), place))
        except ValueError as error:
            troubles.add(f"{place}: {error}", photos=int(key == "images"))
    return converted


def _image(values: Mapping[str, Any], place: str) -> ImageEntry:
    width, height = (fields.whole(values, key, 1) if values.get(key) else None for key in ("width", "height"))
    return fields.identity(values, "id"), fields.text(values, "file_name"), width, height


def _category(values: Mapping[str, Any], place: str) -> tuple[int, str]:
    return fields.whole(values, "id", 0), fields.text(values, "name")


def _annotation(values: Mapping[str, Any], categories: Mapping[int, str], place: str) -> RawObject:
    category = fields.whole(values, "category_id", 0)
    if category not in categories:
        raise ValueError(f"category_id {category} is not among the categories")
    x, y, width, height = fields.numbers(values, "bbox", 4)
    area = fields.number(values, "area") if values.get("area") is not None else None
    return RawObject(categories[category], (x, y, x + width, y + height), bool(values.get("iscrowd")), area, place)


def _picture_folder(path: Path, names: Sequence[str]) -> Path:
    """Where the pictures lie: the first place, as data sets have it, that holds one of them."""
    split = path.stem.removeprefix("instances_")
    below = ("images", f"images/{split}", split, "", "train2017", "val2017", "JPEGImages")
    places = [root / name for root in (path.parent, path.parent.parent) for name in below]
    some = names[:20]
    holds = next((place for place in places if any(is_file(place / name) for name in some)), None)
    # Names that another machine's tools wrote are looked for only where none is right as it is.
    return holds or next((p for p in places if any(is_file(place_of(p, name)) for name in some)), places[0])
