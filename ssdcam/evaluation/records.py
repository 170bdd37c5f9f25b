"""Records made elsewhere as what was found in a data set's photos."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssdcam.datasets import Dataset, coco_file
from ssdcam.datasets.aliases import canonical
from ssdcam.detections import Detections
from ssdcam.errors import RecordError, WrongUsageError
from ssdcam.files import check_ends
from ssdcam.records import Record, read_coco_results, read_records
from ssdcam.records.names import last_part, plain_stem
from ssdcam.records.yolo import read_labels


@dataclass(frozen=True, eq=False)
class FoundElsewhere:
    """What records say about a data set's photos.

    Attributes:
        detections: of each sample; a photo without a record has none.
        labels: all classes that the detector can find; None if the format does not say.
        problems: a line each on records that fit no photo, or not quite.
    """

    detections: tuple[Detections, ...]
    labels: tuple[str, ...] | None
    problems: tuple[str, ...]


def read_found(target: str, dataset: Dataset, path: Path, split: str | None = None) -> FoundElsewhere:
    """Read records and bring them to the photos that they are about, by file name.

    Args:
        target: what :func:`ssdcam.records.read_records` takes, or a JSON list of COCO results.
        dataset: the photos.
        path: where the data set was read from; COCO results say which photo by its file's ids.
        split: which part it is.

    Raises:
        RecordError: the records cannot be read, or none is about any of the photos, or two are about the same.
        WrongUsageError: COCO results come with another layout's ground truth, or the target holds no records.
    """
    if not _is_results(target):
        return meet(target, read_records(target), dataset, _labels(target))
    file = coco_file(path, split)
    if file is None:
        raise WrongUsageError(f"{target} is a list of COCO results, whose ids need a COCO ground truth; {path} is none")
    return meet(target, read_coco_results(Path(target), file), dataset, None)


def meet(target: str, records: Iterable[Record], dataset: Dataset, labels: tuple[str, ...] | None) -> FoundElsewhere:
    """Bring records to the samples that they are about; see :func:`read_found`."""
    find = _Finder(dataset)
    found: dict[int, Record] = {}
    strays, resized = [], []
    for record in records:
        place = find(record)
        if place is None:
            strays.append(record.source)
            continue
        sample = dataset.samples[place]
        if place in found:
            raise RecordError(f"{target}: holds two records for {sample.path.name}: {record.source} is one of them")
        found[place] = record
        if sample.width and sample.height and (record.width, record.height) != (sample.width, sample.height):
            resized.append(f"{record.source} ({record.width}x{record.height}, not {sample.width}x{sample.height})")
    if strays and not found:
        raise RecordError(f"{target}: none of its pictures is in the data set, for instance {strays[0]}")
    problems = []
    if strays:
        problems.append(f"{target}: not in the data set and passed over: {_some(strays)}")
    if resized:
        problems.append(f"{target}: looked at in another size than the data set states: {_some(resized)}")
    nothing = Detections.empty()
    detections = tuple(found[i].detections if i in found else nothing for i in range(len(dataset.samples)))
    return FoundElsewhere(detections, labels, tuple(problems))


def select(found: Detections, score: float = 0.0, labels: Sequence[str] | None = None) -> Detections:
    """What reaches a score and is of certain classes, by whatever name."""
    names = None if labels is None else {canonical(label) for label in labels}
    fits = [names is None or canonical(label) in names for label in found.labels]
    kept = np.flatnonzero((found.scores >= score) & np.array(fits, np.bool_))
    return replace(
        found,
        boxes=found.boxes[kept],
        scores=found.scores[kept],
        class_ids=found.class_ids[kept],
        labels=tuple(found.labels[i] for i in kept),
    )


def _some(names: Sequence[str]) -> str:
    return names[0] + (f", and {len(names) - 1} more" if len(names) > 1 else "")


class _Finder:
    """Finds the sample that a record is about: by its file's name, then by that without suffix, then by id.

    Where several photos bear the name, the folders before it tell.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._samples = dataset.samples
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, sample in enumerate(dataset.samples):
            name = last_part(str(sample.path))  # a COCO json without its pictures may be another machine's
            for key in {name, Path(name).stem, sample.id}:
                self._places[key].append(place)

    def __call__(self, record: Record) -> int | None:
        """The sample's place, or None.

        Raises:
            RecordError: several would do.
        """
        name = last_part(record.source)
        keys: tuple[str, ...] = (name, Path(name).stem, record.source)
        if record.frame is not None:  # a picture cut out of a video, under the name that records give it
            keys = (f"{plain_stem(record.source)}_{record.frame:06d}",)
        places = next((self._places[key] for key in keys if key in self._places), [])
        if len(places) > 1:
            parts = record.source.replace("\\", "/").split("/")
            common = [_common_end(parts, self._samples[place].path.parts) for place in places]
            places = [place for place, length in zip(places, common, strict=True) if length == max(common)]
        if len(places) > 1:
            paths = " or ".join(str(self._samples[place].path) for place in places[:2])
            raise RecordError(f"{record.source}: could be {paths}")
        return places[0] if places else None


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    """How many last parts are the same."""
    same = [one == other for one, other in zip(reversed(a), reversed(b), strict=False)]
    return (*same, False).index(False)


def _is_results(target: str) -> bool:
    path = Path(target)
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            return file.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:  # told when the records are read
        return False


def _labels(target: str) -> tuple[str, ...] | None:
    """The classes that the writer of the records knew; damage is told when the records are read."""
    prefix, _, folder = target.partition(":")
    try:
        if folder and prefix == "yolo":
            return read_labels(Path(folder))
        if Path(target).suffix.lower() == ".json":
            check_ends(Path(target))
            return tuple(str(category["name"]) for category in json.loads(Path(target).read_bytes())["categories"])
    except (RecordError, OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None
