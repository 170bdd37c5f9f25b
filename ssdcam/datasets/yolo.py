"""YOLO: a text file a picture, ``class cx cy width height`` a line, relative to the picture as it is shown.

Where things lie is told as the users of ultralytics expect: a ``data.yaml`` names the parts, or the folders do
(``images/train`` and ``labels/train``, or ``train/images`` and ``train/labels``), or text files that list pictures. The
annotation of ``.../images/x.jpg`` is ``.../labels/x.txt``, that of another lies beside it; a picture that has none
shows no object. A line with more numbers is an outline, whose extent is the box.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import yaml

from ssdcam.datasets.layout import (
    PARTS,
    SUFFIXES,
    Layout,
    RawObject,
    RawPart,
    RawPhoto,
    Troubles,
    list_pictures,
    place_of,
    places_of,
    read_text,
)
from ssdcam.datasets.pictures import picture_size
from ssdcam.errors import DatasetError, ImageError
from ssdcam.files import exists, is_file, is_folder, is_hidden

LOOKED_FOR = "data.yaml, or images/ and labels/ with classes.txt (YOLO)"
LOOKED_FOR_BESIDE = "pictures with a .txt beside each, and classes.txt (YOLO)"

_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LABEL_LISTS = (
    "classes.txt",
    "obj.names",
    "labels/classes.txt",
    "labels/train/classes.txt",
    "train/labels/classes.txt",
)

Config = Mapping[str, Any]
Part = Callable[[Troubles], list[Path]]


def find_yolo(path: Path) -> Layout | None:
    """The YOLO data set that a folder or a yaml file is, if it is one."""
    is_config = path.suffix.lower() in (".yaml", ".yml") and is_file(path)
    root = path.parent if is_config else path
    configs = [path] if is_config else [root / name for name in _CONFIGS]
    config_file = next((file for file in configs if file.is_file()), None)
    config = _read_config(config_file) if config_file else {}
    parts = _parts_of_config(root, config) or _parts_of_folders(root)
    whole = list(parts.values()) or [partial(_in_folder, root / "images")]
    if not parts and not ((root / "images").is_dir() and (root / "labels").is_dir()):
        return None
    labels = partial(_labels, root, config, config_file)
    splits = {name: partial(_read, path, labels, [part]) for name, part in parts.items()}
    return Layout("YOLO", splits, partial(_read, path, labels, whole))


def find_yolo_beside(path: Path) -> Layout | None:
    """The data set of pictures with a text file beside each that a folder is, if it is one, as LabelImg writes them."""
    if not any((path / name).is_file() for name in ("classes.txt", "obj.names")):
        return None
    if not any(is_file(_annotation(picture)) for picture in list_pictures(path)):
        return None
    whole = partial(_read, path, partial(_labels, path, {}, None), [partial(_in_folder, path)])
    return Layout("YOLO", {}, whole)


def _read_config(path: Path) -> Config:
    try:
        # The base loader makes texts of everything: "no", "on" and 1 name classes here, and nothing is executed.
        config = yaml.load(read_text(path), Loader=yaml.BaseLoader)  # noqa: S506  # plain text only
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: is no YAML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise DatasetError(f"{path}: is no description of a data set: it is nested too deep") from None
    if not isinstance(config, dict):
        raise DatasetError(f"{path}: is no description of a data set")
    return config


def _parts_of_config(root: Path, config: Config) -> dict[str, Part]:
    top = config.get("path")
    base = root / top if isinstance(top, str) and is_folder(root / top) else root
    stated = {name: config[name] for name in PARTS if config.get(name)}
    entries = {
        name: [_text(root, name, entry) for entry in (value if isinstance(value, list) else [value])]
        for name, value in stated.items()
    }
    places = _told_apart(base, {entry: place_of(base, entry) for wanted in entries.values() for entry in wanted})
    return {name: partial(_in_places, [places[entry] for entry in wanted]) for name, wanted in entries.items()}


def _text(root: Path, key: str, value: object) -> str:
    """A text, and no list that repeats itself: written out, one of a few lines may fill all memory."""
    if not isinstance(value, str):
        raise DatasetError(f"{root}: is no data set: {key} of its yaml holds something that is no text")
    return value


def _told_apart(base: Path, places: Mapping[str, Path]) -> dict[str, Path]:
    """Places by their entries, as stated where an end led to another's: one may be to learn from, one to judge by."""

    def meets(entry: str) -> bool:
        place, others = places[entry], (other for name, other in places.items() if name != entry)
        return any(place.is_relative_to(other) or other.is_relative_to(place) for other in others)

    return {e: base / e if place != base / e and meets(e) else place for e, place in places.items()}


def _parts_of_folders(root: Path) -> dict[str, Part]:
    inside = [path for path in sorted((root / "images").glob("*/")) if not is_hidden(path, root)]
    folders = {path.name: path for path in inside if (root / "labels").is_dir()}
    if not folders:
        beside = [path for path in sorted(root.glob("*/images/")) if not is_hidden(path, root)]
        folders = {path.parent.name: path for path in beside if (path.parent / "labels").is_dir()}
    if folders:
        return {name: partial(_in_folder, folder) for name, folder in folders.items()}
    lists = {name: root / f"{name}.txt" for name in PARTS}
    return {name: partial(_listed, path) for name, path in lists.items() if path.is_file()}


def _in_places(places: Sequence[Path], troubles: Troubles) -> list[Path]:
    return [
        picture for place in places for picture in (_listed if place.suffix == ".txt" else _in_folder)(place, troubles)
    ]


def _in_folder(folder: Path, troubles: Troubles) -> list[Path]:
    """The pictures below a folder; an annotation without one is a trouble."""
    if not is_folder(folder):
        raise DatasetError(f"{folder}: no such folder")
    pictures = list_pictures(folder)
    annotated = {_annotation(picture) for picture in pictures}
    if "images" in folder.parts:
        labels = _twin(folder)
        for path in sorted(labels.rglob("*.txt")):
            if path not in annotated and path.name != "classes.txt" and not is_hidden(path, labels):
                troubles.add(f"{path}: there is no picture for it", photos=1)
    return pictures


def _listed(path: Path, troubles: Troubles) -> list[Path]:
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    places = places_of(path.parent, lines)
    return [places[line] for line in lines]


def _twin(path: Path) -> Path:
    """A path with its last ``images`` replaced by ``labels``."""
    parts = list(path.parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:place], "labels", *parts[place + 1 :])


def _annotation(picture: Path) -> Path:
    """In ``labels`` for a picture in ``images``, else beside it: a folder above the data set may be called so, too."""
    apart = (_twin(picture) if "images" in picture.parts else picture).with_suffix(".txt")
    return apart if is_folder(apart.parent) else picture.with_suffix(".txt")


def _labels(root: Path, config: Config, config_file: Path | None) -> tuple[str, ...]:
    names = config.get("names")
    if isinstance(names, list):
        return tuple(_text(root, "names", name) for name in names)
    if isinstance(names, dict):
        try:
            by_id = {int(number): _text(root, "names", name) for number, name in names.items()}
        except ValueError:
            raise DatasetError(f"{config_file}: names has keys that are no class numbers") from None
        if by_id and min(by_id) >= 0 and max(by_id) < 100_000:
            return tuple(by_id.get(i, f"class {i}") for i in range(max(by_id) + 1))
    for name in _LABEL_LISTS:
        if (root / name).is_file():
            return tuple(line.strip() for line in read_text(root / name).strip().splitlines())
    what = f"{config_file} has no names, and there is" if config_file else "there is"
    raise DatasetError(f"{root}: nothing names the classes: {what} no classes.txt")


def _read(path: Path, labels: Callable[[], tuple[str, ...]], parts: Sequence[Part], troubles: Troubles) -> RawPart:
    names = labels()
    for name, count in Counter(names).items():
        if count > 1:
            troubles.add(f"{path}: {count} classes are called {name!r}: counted as one")
    pictures: dict[Path, None] = {}
    for part in parts:
        try:
            pictures.update(dict.fromkeys(part(troubles)))
        except DatasetError as error:
            if len(parts) == 1:
                raise
            troubles.add(str(error))  # the others can be used without it
    return RawPart(tuple(dict.fromkeys(names)), _photos(list(pictures), names, troubles))


def _photos(pictures: Sequence[Path], names: Sequence[str], troubles: Troubles) -> Iterator[RawPhoto]:
    for picture in pictures:
        if picture.suffix.lower() not in SUFFIXES:
            troubles.add(f"{picture}: is no picture", photos=1)
            continue
        try:
            width, height = picture_size(picture)
            annotation = _annotation(picture)
            text = read_text(annotation) if exists(annotation) else ""
        except (ImageError, DatasetError) as error:
            troubles.add(str(error), photos=1)
            continue
        objects = tuple(_objects(annotation, text, names, (width, height), troubles))
        yield RawPhoto(_id(picture), picture, width, height, objects, as_shown=True)


def _id(picture: Path) -> str:
    parts = PurePath(picture).with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("images") :] if "images" in parts else parts[-1:]
    return "/".join(below)


def _objects(
    path: Path, text: str, names: Sequence[str], size: tuple[int, int], troubles: Troubles
) -> Iterator[RawObject]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = f"{path}: line {number}"
            try:
                yield _object(line, names, size, place)
            except ValueError as error:
                troubles.add(f"{place}: {error}")


def _object(line: str, names: Sequence[str], size: tuple[int, int], place: str) -> RawObject:
    words = line.split()
    if len(words) == 6:  # proposals have a score, which no outline can be taken for
        words.pop()
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(f"holds {len(words)} values, not class, cx, cy, width and height, nor class and outline")
    try:
        number, class_id, values = float(words[0]), int(float(words[0])), [float(word) for word in words[1:]]
    except (ValueError, OverflowError):
        raise ValueError("holds something that is no number") from None
    if number != class_id or not 0 <= class_id < len(names):
        raise ValueError(f"class {words[0]} is not one of the {len(names)} that are named")
    if len(values) == 4:
        cx, cy, w, h = values
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        x1, x2, y1, y2 = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
    width, height = size
    return RawObject(names[class_id], (x1 * width, y1 * height, x2 * width, y2 * height), False, None, place)
