"""What users and other programs write down for ssdcam to read, with anything in any place of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from ssdcam.checkpoints.checkpoint import METADATA_KEY, Checkpoint, spec_to_json
from ssdcam.checkpoints.labels import read_labels
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.cli.console import printable
from ssdcam.cli.train_setup import with_boxes
from ssdcam.datasets import open_dataset
from ssdcam.detection.torch_engine import load_network
from ssdcam.errors import SsdcamError
from ssdcam.evaluation.records import read_found
from ssdcam.records import read_records, to_line

from ..datasets import made
from ..records import samples
from .conftest import Count

EXAMPLES = 70
MORE = 30

_DEEP: Any = []
for _ in range(100):
    _DEEP = [_DEEP]

# What may stand where something else is meant.
JUNK = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 1e-320, 2**31, 2**63, 2**64, 10**40, float("nan"),
        float("inf"),
        "", "x", "0", "1e5", "nan", "\0", "\x1b[31m", "a\nb", "[red]", "\ud800", "\u202e", "../../x", "/etc/passwd",
        "n" * 2000,
        [], {}, [None], [[]], [0] * 500, {"": 0}, {"id": []}, _DEEP,
    ]
)  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a tree."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, one in inner for place in places(one, (*here, key)))]


@st.composite
def edited(draw: st.DrawFn, whole: Any) -> Any:
    """A tree with junk in some places, and others missing."""
    tree = [deepcopy(whole)]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(tree)[1:] or [(0,)]))
        parent = tree
        for key in place[:-1]:
            parent = parent[key]
        if draw(st.integers(0, 4)) == 0 and len(place) > 1:
            del parent[place[-1]]
        else:
            parent[place[-1]] = deepcopy(draw(JUNK))
    return tree[0]


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def as_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def as_xml(tree: Any) -> bytes:
    """Lists of a tag, a text and children, as far as they still are that."""

    def element(values: Any) -> ElementTree.Element:
        tag, text, children = values if isinstance(values, list) and len(values) == 3 else ("x", values, [])
        one = ElementTree.Element(tag if isinstance(tag, str) and tag.isidentifier() else "x")
        one.text = str(text)
        one.extend([element(child) for child in children] if isinstance(children, list) else [])
        return one

    return ElementTree.tostring(element(tree)).replace(b"\0", b"")


def as_tree(element: ElementTree.Element) -> Any:
    return [element.tag, element.text or "", [as_tree(child) for child in element]]


def ends_well(read: Callable[[], object], path: Path) -> None:
    """It is read, or refused in a line that says what is wrong."""
    try:
        read()
    except SsdcamError as trouble:
        error = trouble
    else:
        return
    said = printable(str(error))
    assert "\n" not in said
    named = (path.name, path.parent.name, "/etc/passwd", "the checkpoint")
    assert any(name in said for name in named), said


class Kinds:
    """Each kind of configuration: a whole tree, and what writes one down and reads it, given a folder."""

    def __init__(self, folder: Path, tiny: Checkpoint) -> None:
        self.folder = folder
        self.tiny = tiny
        self.voc = made.voc(folder / "sets/voc")
        self.coco = made.coco(folder / "sets/coco")
        self.yolo = made.yolo(folder / "sets/yolo")

    def spec(self) -> tuple[Any, Callable[[Any], None]]:
        weights = {name: np.ascontiguousarray(array) for name, array in self.tiny.weights.items()}
        path = self.folder / "spec.safetensors"

        def read(tree: Any) -> None:
            path.write_bytes(save(weights, {METADATA_KEY: json.dumps(tree)}))
            ends_well(lambda: load_network(open_checkpoint(path)), path)

        return spec_to_json(self.tiny.spec), read

    def layout(self) -> tuple[Any, Callable[[Any], None]]:
        path = self.folder / "boxes.json"

        def read(tree: Any) -> None:
            path.write_bytes(as_json(tree))
            ends_well(lambda: with_boxes(self.tiny.spec, path), path)

        return spec_to_json(self.tiny.spec)["boxes"], read

    def coco_dataset(self) -> tuple[Any, Callable[[Any], None]]:
        path = self.coco / "train.json"

        def read(tree: Any) -> None:
            path.write_bytes(as_json(tree))
            ends_well(lambda: open_dataset(path), path)

        return made.coco_json(made.TRAIN), read

    def yolo_dataset(self) -> tuple[Any, Callable[[Any], None]]:
        path = self.yolo / "data.yaml"

        def read(tree: Any) -> None:
            path.write_bytes(as_yaml(tree))
            ends_well(lambda: open_dataset(self.yolo, None), path)

        return {
            "path": ".",
            "train": "images/train",
            "val": ["images/val"],
            "names": {0: "cat", 1: "dog", 2: "x"},
        }, read

    def voc_dataset(self) -> tuple[Any, Callable[[Any], None]]:
        path = self.voc / "Annotations/a.xml"

        def read(tree: Any) -> None:
            path.write_bytes(as_xml(tree))
            ends_well(lambda: open_dataset(self.voc), path)

        return as_tree(ElementTree.fromstring(made.voc_xml(made.TRAIN["a"]))), read

    def _records(self, kind: str, write: Callable[[Any], bytes], whole: Any) -> tuple[Any, Callable[[Any], None]]:
        folder = self.folder / kind
        folder.mkdir()
        target = samples.targets(folder)[kind]
        samples.write(target, RECORDS)
        path = next(p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in ("a.txt", "classes.txt"))

        def read(tree: Any) -> None:
            path.write_bytes(write(tree))
            ends_well(lambda: [to_line(one) for one in read_records(target)], path)

        return whole if whole is not None else json.loads(path.read_bytes()), read

    def jsonl(self) -> tuple[Any, Callable[[Any], None]]:
        return self._records("jsonl", as_json, samples.as_json(RECORDS)[0])

    def coco_records(self) -> tuple[Any, Callable[[Any], None]]:
        return self._records("json", as_json, None)

    def voc_records(self) -> tuple[Any, Callable[[Any], None]]:
        corners = [[key, "7", []] for key in ("xmin", "ymin", "xmax", "ymax")]
        thing = ["object", "", [["name", "a", []], ["score", "0.5", []], ["bndbox", "", corners]]]
        size = ["size", "", [["width", "640", []], ["height", "480", []]]]
        tree = ["annotation", "", [["filename", "a.jpg", []], size, thing]]
        return self._records("voc", as_xml, tree)

    def yolo_index(self) -> tuple[Any, Callable[[Any], None]]:
        return self._records("yolo", as_json, {"file": "a.txt", "source": "a.jpg", "width": 640, "height": 480})

    def results(self) -> tuple[Any, Callable[[Any], None]]:
        """COCO's results, to be scored against a data set."""
        path, truth = self.folder / "results.json", self.coco / "val.json"
        dataset = open_dataset(truth, pictures=False)

        def read(tree: Any) -> None:
            path.write_bytes(as_json(tree))
            ends_well(lambda: read_found(str(path), dataset, truth), path)

        return [{"image_id": 11, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2, read


RECORDS = [samples.record("a.jpg", samples.TWO)]

KINDS = (
    "spec", "layout", "coco_dataset", "yolo_dataset", "voc_dataset", "jsonl", "coco_records", "voc_records",
    "yolo_index", "results",
)  # fmt: skip


def try_edits(kind: str, number: int, tmp_path: Path, tiny: Checkpoint) -> int:
    whole, read = getattr(Kinds(tmp_path, tiny), kind)()
    read(deepcopy(whole))
    tried = 0

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(edited(whole))
    def attempt(tree: Any) -> None:
        nonlocal tried
        tried += 1
        read(tree)

    attempt()
    return tried


@pytest.mark.parametrize("kind", KINDS)
def test_anything_in_any_place(kind: str, tmp_path: Path, tiny_checkpoint: Checkpoint, count: Count) -> None:
    count("edited configurations", try_edits(kind, EXAMPLES, tmp_path, tiny_checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_much_more_of_it(kind: str, tmp_path: Path, tiny_checkpoint: Checkpoint, count: Count) -> None:
    count("edited configurations", try_edits(kind, MORE * EXAMPLES, tmp_path, tiny_checkpoint))


@settings(max_examples=120, derandomize=True, database=None, deadline=None)
@given(content=st.binary(max_size=60) | samples.any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_labels(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.txt"
    path.write_bytes(content)
    ends_well(lambda: read_labels(path), path)
