"""Objects cut out of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.detections import Detections
from ssdcam.errors import ImageError
from ssdcam.media.crops import CropFolder
from ssdcam.records import Record

IMAGE = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
WIDTH, HEIGHT = IMAGE.shape[1], IMAGE.shape[0]


def record(boxes: list[list[float]], labels: tuple[str, ...], source: str = "a/dog.jpg", frame: int | None = None):
    count = len(labels)
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count).astype(np.float32),
        np.zeros(count, np.int64),
        labels,
    )
    return Record(source, WIDTH, HEIGHT, found, frame, None if frame is None else 0.5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_in_the_box_is_cut_out(tmp_path: Path) -> None:
    CropFolder(tmp_path).save(record([[16, 8, 56, 40]], ("cat",)), IMAGE)
    (path,) = tmp_path.iterdir()
    crop = cv2.imread(str(path))
    assert crop is not None
    assert crop.shape == (32, 40, 3)
    assert np.abs(crop.astype(int) - IMAGE[8:40, 16:56]).mean() < 12  # JPEG


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ([0.4, 0.4, 10.2, 20.2], (21, 11)),  # whole pixels outwards
        ([0, 0, WIDTH, HEIGHT], (HEIGHT, WIDTH)),
        ([95.97, 63.97, 96, 64], (1, 1)),
        ([5.0, 5.01, 5.02, 5.99], (1, 1)),
    ],
)
def test_sizes(tmp_path: Path, box: list[float], shape: tuple[int, int]) -> None:
    CropFolder(tmp_path).save(record([box], ("cat",)), IMAGE)
    (path,) = tmp_path.iterdir()
    crop = cv2.imread(str(path))
    assert crop is not None
    assert crop.shape[:2] == shape


def test_names_tell_rank_and_label(tmp_path: Path) -> None:
    folder = CropFolder(tmp_path / "deep" / "crops")
    folder.save(record([[0, 0, 9, 9], [1, 1, 20, 20]], ("poodle", "cat")), IMAGE)
    folder.save(record([[0, 0, 9, 9]], ("car",), "street.mp4", 7), IMAGE)
    assert names(tmp_path / "deep" / "crops") == ["dog_0_poodle.jpg", "dog_1_cat.jpg", "street_000007_0_car.jpg"]


def test_two_pictures_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = CropFolder(tmp_path)
    for source in ("a/dog.jpg", "b/dog.jpg"):
        folder.save(record([[0, 0, 9, 9]], ("cat",), source), IMAGE)
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("label", ["../../etc/passwd", "a/b", "", "***", "x" * 300, "hot dog", "кот", "a\0b"])
def test_labels_never_leave_the_folder(tmp_path: Path, label: str) -> None:
    folder = tmp_path / "crops"
    CropFolder(folder).save(record([[0, 0, 9, 9]], (label,)), IMAGE)
    assert names(tmp_path) == ["crops"]
    (name,) = names(folder)
    assert name.startswith("dog_0_")
    assert name.endswith(".jpg")


def test_where_nothing_was_found_nothing_is_made(tmp_path: Path) -> None:
    CropFolder(tmp_path / "crops").save(record([], ()), IMAGE)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be made"):
        CropFolder(tmp_path / "file").save(record([[0, 0, 9, 9]], ("cat",)), IMAGE)
