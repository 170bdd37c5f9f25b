"""PASCAL VOC: ``ImageSets/Main/SPLIT.txt``, ``Annotations/ID.xml`` and ``JPEGImages/ID.jpg``, or no lists.

VOC counts pixels from 1 and means both corners to be inside the box (VOC2007 development kit, section 5.2), so that
``xmin`` 1, ``xmax`` 1 is one pixel, whose edges are 0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from ssdcam.datasets.layout import (
    SUFFIXES,
    Layout,
    RawObject,
    RawPart,
    RawPhoto,
    Troubles,
    list_pictures,
    read_text,
)
from ssdcam.files import check_ends, is_hidden

LOOKED_FOR = "ImageSets/Main/*.txt (VOC)"
LOOKED_FOR_BESIDE = "pictures with an .xml beside each (VOC)"

_XML = (".xml",)
_OF_BOXES = ("Annotations", "annotations", "annotations/xmls")  # the last one as Oxford's pets have it
_OF_PICTURES = ("JPEGImages", "images")


class Pair(NamedTuple):
    """A folder of annotations and one of pictures, which may be the same, and the part that they are, if any."""

    boxes: Path
    pictures: Path
    part: str


def find_voc(path: Path) -> Layout | None:
    """The VOC data set that a folder is, if it is one."""
    if not (path / "ImageSets/Main").is_dir():
        return None
    folder = path / "ImageSets/Main"
    lists = sorted(one for one in folder.glob("*.txt") if not is_hidden(one, folder))
    splits: dict[str, Callable[[Troubles], RawPart]] = {
        one.stem: partial(_read, path, partial(_lines, one)) for one in lists
    }
    return Layout("VOC", splits, partial(_read, path, lambda: sorted(p.stem for p in _annotations(path))))


def find_voc_beside(path: Path) -> Layout | None:
    """The data set of pictures with an XML file beside each that a folder is, if it is one; its folders are parts.

    So LabelImg writes them, and Roboflow exports them; others have a folder for either, and no lists. As other layouts
    may have such files, too, they come first.
    """
    pairs = _pairs(path)
    if not pairs:
        return None
    parts = sorted({pair.part for pair in pairs} - {""})
    splits = {part: partial(_read_pairs, pairs, [pair for pair in pairs if pair.part == part]) for part in parts}
    return Layout("VOC", splits, partial(_read_pairs, pairs, pairs))


def _pairs(path: Path) -> list[Pair]:
    """The folders below a folder, and itself, that hold annotations and their pictures."""
    parts = [one for one in sorted(path.glob("*/")) if not is_hidden(one, path) and not _is_divided(one)]
    places = {path: "", **{one: one.name for one in parts}}
    pairs = [Pair(place, place, part) for place, part in places.items()]
    for (place, part), of_boxes, of_pictures in product(places.items(), _OF_BOXES, _OF_PICTURES):
        pairs.append(Pair(place / of_boxes, place / of_pictures, part))
    found: dict[Path, Pair] = {}  # by the pictures: annotated twice over, they would count twice
    for pair in pairs:
        if pair.pictures not in found and _files(pair.boxes, _XML).keys() & _files(pair.pictures, SUFFIXES).keys():
            found[pair.pictures] = pair
    return list(found.values())


def _is_divided(path: Path) -> bool:
    """Whether lists divide a folder, as they do VOC2007 in VOCdevkit: a part of anything else it is not."""
    layout = find_voc(path)
    return layout is not None and len(layout.splits) > 1


def _annotations(path: Path) -> Iterable[Path]:
    folder = path / "Annotations"
    return (one for one in folder.glob("*.xml") if not is_hidden(one, folder))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _id(line: str, known: Container[str]) -> str:
    """The photo that a line names: lists of one class state after it whether it shows the class; it may have spaces."""
    without_flag = re.sub(r"\s+(-1|0|1)$", "", line)
    return next((name for name in (line, without_flag, line.split()[0]) if name in known), without_flag)


def _read(path: Path, lines: Callable[[], list[str]], troubles: Troubles) -> RawPart:
    listed = lines()
    pictures = {picture.stem: picture for picture in list_pictures(path / "JPEGImages")}
    trees = {annotation: _parse(annotation) for annotation in sorted(_annotations(path))}
    known = {annotation.stem for annotation in trees}
    photos = [
        (name, path / "Annotations" / f"{name}.xml", pictures.get(name, path / "JPEGImages" / f"{name}.jpg"))
        for name in (_id(line, known) for line in listed)
    ]
    return RawPart(_labels(trees.values()), _photos(photos, trees, troubles))


def _read_pairs(pairs: Iterable[Pair], wanted: Iterable[Pair], troubles: Troubles) -> RawPart:
    trees = {annotation: _parse(annotation) for pair in pairs for annotation in _files(pair.boxes, _XML).values()}
    photos = []
    for pair in wanted:
        pictures, annotations = _files(pair.pictures, SUFFIXES), _files(pair.boxes, _XML)
        if bare := [picture.name for stem, picture in pictures.items() if stem not in annotations]:
            troubles.add(f"{pair.pictures}: {len(bare)} without an .xml, such as {bare[0]}: left out", photos=len(bare))
        for stem, annotation in annotations.items():
            name = f"{pair.part}/{stem}" if pair.part else stem
            photos.append((name, annotation, pictures.get(stem, pair.pictures / f"{stem}.jpg")))
    return RawPart(_labels(trees.values()), _photos(photos, trees, troubles))


def _files(folder: Path, suffixes: Container[str]) -> dict[str, Path]:
    """The visible files of a folder with such suffixes, by their stems."""
    files = sorted(one for one in folder.glob("*") if one.suffix.lower() in suffixes)
    return {one.stem: one for one in files if not is_hidden(one, folder)}


def _labels(trees: Iterable[ElementTree.Element | str]) -> tuple[str, ...]:
    """Every part must number the classes alike, and VOC lists them nowhere but in the annotations of all."""
    things = (thing for tree in trees if isinstance(tree, ElementTree.Element) for thing in tree.iterfind("object"))
    return tuple(sorted({thing.findtext("name", "").strip() for thing in things} - {""}))


def _photos(
    photos: Iterable[tuple[str, Path, Path]], trees: Mapping[Path, ElementTree.Element | str], troubles: Troubles
) -> Iterator[RawPhoto]:
    for name, annotation, picture in photos:
        tree = trees.get(annotation, "no such file")
        if isinstance(tree, str):
            troubles.add(f"{annotation}: {tree}", photos=1)
            continue
        try:
            width, height = (_size(tree, side) for side in ("width", "height"))
        except ValueError as error:
            troubles.add(f"{annotation}: {error}", photos=1)
            continue
        yield RawPhoto(name, picture, width, height, tuple(_objects(annotation, tree, troubles)))


def _parse(path: Path) -> ElementTree.Element | str:
    """An annotation, or what is wrong with it."""
    try:
        # expat fetches nothing from outside the file and stops entities that grow without end
        check_ends(path)
        return ElementTree.fromstring(path.read_bytes())  # noqa: S314  # no entities fetched
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ElementTree.ParseError as error:
        return f"line {error.position[0]}: is no XML or cut short: {expat.ErrorString(error.code)}"
    except (ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        return str(error)


def _size(tree: ElementTree.Element, side: str) -> int | None:
    """A side of the picture in pixels; None if it is not stated, or, as some tools have it, stated as 0."""
    text = tree.findtext(f"size/{side}", "").strip() or "0"
    try:
        return int(float(text)) or None
    except (ValueError, OverflowError):
        raise ValueError(f"size/{side} is {text!r}, not a number") from None


def _objects(path: Path, tree: ElementTree.Element, troubles: Troubles) -> Iterator[RawObject]:
    for number, thing in enumerate(tree.iterfind("object"), 1):
        place = f"{path}: object {number}"
        try:
            label = thing.findtext("name", "").strip()
            if not label:
                raise ValueError("has no name")
            x1, y1, x2, y2 = (_number(thing, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
            if x1 >= x2 or y1 >= y2:  # strictly one pixel where they are equal, but nobody marks such an object
                raise ValueError(f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area")
        except ValueError as error:
            troubles.add(f"{place}: {error}")
            continue
        difficult = thing.findtext("difficult", "0").strip() == "1"
        yield RawObject(label, (x1 - 1, y1 - 1, x2, y2), difficult, None, place)


def _number(thing: ElementTree.Element, key: str) -> float:
    text = thing.findtext(key, "").strip()
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{key} is {text!r}, not a number") from None
