from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ssdcam
from ssdcam import Detections, Detector
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.detector import choose, load, prepare
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import WrongUsageError
from ssdcam.ssd.host import pairwise_iou

from .. import pictures
from ..conftest import TINY_LABELS

Image = NDArray[np.uint8]

# Convolutions of one picture and of seven add up in another order: some millionths of a score, a hundred-thousandth of
# the picture's side.
PIXELS, SCORE = 0.05, 1e-4


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Checkpoint) -> TorchEngine:
    return TorchEngine(tiny_checkpoint, "cpu")


def detector(engine: TorchEngine, checkpoint: Checkpoint, **figures: Any) -> Detector:
    return Detector(engine, checkpoint.spec, choose(checkpoint.spec, **figures))


@pytest.fixture(scope="module")
def tiny(engine: TorchEngine, tiny_checkpoint: Checkpoint) -> Detector:
    return detector(engine, tiny_checkpoint)


def same(a: Detections, b: Detections) -> bool:
    """Whether two results are one but for rounding."""
    return (
        a.labels == b.labels
        and np.allclose(a.boxes, b.boxes, rtol=0, atol=PIXELS)
        and np.allclose(a.scores, b.scores, rtol=0, atol=SCORE)
    )


SIZES = [(300, 300), (80, 60), (1, 1), (640, 480), (480, 640), (1, 700), (1999, 3)]


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    """Seven, of sizes that no batch has."""
    return [pictures.noise(width, height, seed) for seed, (width, height) in enumerate(SIZES)]


class TestResults:
    @settings(max_examples=25)
    @given(width=st.integers(1, 900), height=st.integers(1, 900), score=st.sampled_from([0.0, 0.3, 0.9]))
    def test_keep_the_contract(
        self, width: int, height: int, score: float, engine: TorchEngine, tiny_checkpoint: Checkpoint
    ) -> None:
        found = detector(engine, tiny_checkpoint, score=score).detect(pictures.noise(width, height, width))
        assert isinstance(found, Detections)
        assert (found.boxes.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int64)
        x1, y1, x2, y2 = found.boxes.T
        assert (x1 >= 0).all()
        assert (x1 < x2).all()
        assert (x2 <= width).all()
        assert (y1 >= 0).all()
        assert (y1 < y2).all()
        assert (y2 <= height).all()
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.scores >= score) & (found.scores <= 1)).all()
        assert found.labels == tuple(TINY_LABELS[i] for i in found.class_ids)

    def test_depend_on_the_picture(self, tiny: Detector, photos: list[Image]) -> None:
        # Else the tests below would compare nothing.
        results = tiny.detect(photos)
        assert all(len(found) > 10 for found in results)
        assert len({tuple(found.scores.tolist()) for found in results}) == len(photos)

    def test_are_in_pixels_of_the_picture(self, tiny: Detector) -> None:
        # With each column twice, it is resized to the same input.
        square = pictures.noise(300, 300, 0)
        expected = tiny.detect(square)
        found = tiny.detect(np.repeat(square, 2, axis=1))
        assert len(found) == len(expected) > 10
        np.testing.assert_allclose(found.boxes, expected.boxes * (2, 1, 2, 1), atol=PIXELS)


class TestBatches:
    def test_of_one_and_of_seven(self, tiny: Detector, photos: list[Image]) -> None:
        together = tiny.detect(photos)
        assert isinstance(together, list)
        assert len(together) == 7
        for found, photo in zip(together, photos, strict=True):
            assert same(found, tiny.detect(photo))

    def test_order_does_not_matter(self, tiny: Detector, photos: list[Image]) -> None:
        backwards = tiny.detect(photos[::-1])[::-1]
        assert all(map(same, tiny.detect(photos), backwards))

    def test_of_real_photos_and_a_real_detector(self, coco_tflite: Path, shared: Path) -> None:
        coco = ssdcam.load(coco_tflite, score=0.3, device="cpu")
        paths = sorted((shared / "data/coco/images").glob("*.jpg"))[:7]
        images = [cv2.imread(str(path)) for path in paths]
        apart = [coco.detect(image) for image in images]
        together = coco.detect(images)
        assert sum(map(len, apart)) > 10
        assert all(map(same, apart, together))

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_of_none(self, kind: type[Sequence[Image]], tiny: Detector) -> None:
        assert tiny.detect(kind()) == []

    def test_of_one_is_a_list_of_one(self, tiny: Detector, photos: list[Image]) -> None:
        (found,) = tiny.detect(photos[:1])
        assert same(found, tiny.detect(photos[0]))

    def test_where_nothing_is_found_in_some(self, engine: TorchEngine, tiny_checkpoint: Checkpoint) -> None:
        photos = [pictures.noise(80, 60, seed) for seed in range(7)]
        best = [float(found.scores[0]) for found in detector(engine, tiny_checkpoint).detect(photos)]
        picky = detector(engine, tiny_checkpoint, score=float(np.median(best)))
        counts = [len(found) for found in picky.detect(photos)]
        assert [count > 0 for count in counts] == [score >= np.median(best) for score in best]


class TestImages:
    @pytest.mark.parametrize(
        "image",
        [
            np.zeros((60, 80), np.uint8),
            np.zeros((60, 80, 1), np.uint8),
            np.zeros((60, 80, 4), np.uint8),
            np.zeros((3, 60, 80), np.uint8),
            np.zeros((2, 60, 80, 3), np.uint8),
            np.zeros((60, 80, 3), np.float32),
            np.zeros((60, 80, 3), np.uint16),
            np.zeros((60, 80, 3), bool),
            np.zeros((0, 80, 3), np.uint8),
            np.zeros((60, 0, 3), np.uint8),
            np.zeros((0,), np.uint8),
            np.zeros((), np.uint8),
        ],
        ids=lambda image: f"{image.dtype} {image.shape}",
    )
    def test_that_are_none(self, image: NDArray[Any], tiny: Detector, photos: list[Image]) -> None:
        for argument in (image, [image], [photos[0], image]):
            with pytest.raises(ValueError, match="an image must be uint8"):
                tiny.detect(argument)

    def test_that_could_not_be_read(self, tiny: Detector) -> None:
        for argument in (None, [None]):
            with pytest.raises(ValueError, match=r"cv2\.imread gives None"):
                tiny.detect(argument)  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        ("argument", "shown"),
        [
            ("x.jpg", "str 'x.jpg'"),
            ("", "str ''"),
            (Path("x.jpg"), "Path"),
            (b"\xff\xd8", "bytes"),
            (5, "int"),
            (iter([]), "list_iterator"),
        ],
        ids=["name", "nothing", "path", "bytes", "number", "iterator"],
    )
    def test_that_are_no_arrays(self, argument: Any, shown: str, tiny: Detector, photos: list[Image]) -> None:
        for images in (argument, [argument], (photos[0], argument)):
            with pytest.raises(TypeError, match=r"an array as cv2\.imread reads it.*not .*" + shown):
                tiny.detect(images)

    @pytest.mark.parametrize(
        "view",
        [
            lambda image: image[::-1],
            lambda image: image[:, ::-1],
            lambda image: image[..., ::-1],
            lambda image: image[10:50:2, 5:71:3],
            lambda image: image.transpose(1, 0, 2),
            lambda image: np.asfortranarray(image),
            lambda image: np.broadcast_to(image[:1], image.shape),
        ],
        ids=["upside down", "mirrored", "rgb", "strided", "transposed", "fortran", "broadcast"],
    )
    def test_that_are_views(self, view: Any, tiny: Detector) -> None:
        image = view(pictures.noise(80, 60, 3))
        assert not image.flags.c_contiguous
        assert same(tiny.detect(image), tiny.detect(np.ascontiguousarray(image)))

    def test_that_may_not_be_written_to(self, tiny: Detector) -> None:
        image = pictures.noise(80, 60, 3)
        before = image.copy()
        image.flags.writeable = False
        assert len(tiny.detect(image)) > 0
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize("size", [(1, 70_000), (70_000, 1), (4000, 3000)])
    def test_of_unusual_sizes(self, size: tuple[int, int], tiny: Detector) -> None:
        found = tiny.detect(np.full((size[1], size[0], 3), 128, np.uint8))
        assert (found.boxes <= np.array([*size, *size])).all()


class TestChoices:
    """What score, iou, max_det and classes keep of the same output."""

    @pytest.mark.parametrize("score", [0.31, 0.62, 0.9, 1.0])
    def test_score(self, score: float, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]) -> None:
        everything = detector(engine, tiny_checkpoint, score=0.3, max_det=1900).detect(photos[3])
        expected = everything.scores[everything.scores >= score]
        found = detector(engine, tiny_checkpoint, score=score, max_det=1900).detect(photos[3])
        np.testing.assert_array_equal(found.scores, expected)
        assert 0 < len(expected) < len(everything) or score == 1

    def test_with_score(self, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]) -> None:
        strict = detector(engine, tiny_checkpoint, score=0.9, classes=["bee"])
        assert same(strict.with_score(0.9).detect(photos[3]), strict.detect(photos[3]))
        assert len(strict.with_score(0.5).detect(photos[3])) > len(strict.detect(photos[3]))
        assert set(strict.with_score(0.5).detect(photos[3]).labels) == {"bee"}

    @pytest.mark.parametrize("iou", [0.0, 0.3, 0.6, 1.0])
    def test_iou(self, iou: float, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]) -> None:
        found = detector(engine, tiny_checkpoint, score=0.3, iou=iou, max_det=6000).detect(photos[0])
        for class_id in range(3):
            boxes = found.boxes[found.class_ids == class_id].astype(np.float64)
            overlaps = pairwise_iou(boxes, boxes)
            np.fill_diagonal(overlaps, 0)
            assert overlaps.max() <= iou + 1e-5

    def test_iou_defaults_to_the_checkpoint(self, engine: TorchEngine, tiny_checkpoint: Checkpoint) -> None:
        image = pictures.noise(320, 240, 5)
        default = detector(engine, tiny_checkpoint).detect(image)
        assert same(default, detector(engine, tiny_checkpoint, iou=tiny_checkpoint.spec.nms.iou).detect(image))
        counts = [len(detector(engine, tiny_checkpoint, iou=iou, max_det=900).detect(image)) for iou in (0, 0.3, 0.9)]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]

    @pytest.mark.parametrize("most", [1, 7, 100])
    def test_max_det(self, most: int, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]) -> None:
        default = detector(engine, tiny_checkpoint, score=0.1).detect(photos)
        for few, many in zip(
            detector(engine, tiny_checkpoint, score=0.1, max_det=most).detect(photos), default, strict=True
        ):
            assert len(few) == most  # of each image, not of the batch
            np.testing.assert_array_equal(few.scores, many.scores[:most])

    def test_max_det_may_be_more_than_the_checkpoint_enters_nms_with(
        self, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]
    ) -> None:
        assert len(detector(engine, tiny_checkpoint, score=0, iou=1, max_det=1500).detect(photos[0])) == 1500

    @pytest.mark.parametrize("classes", [["bee"], ["CAT", "ant"], ["bee", "bee"], list(TINY_LABELS)])
    def test_classes(
        self, classes: list[str], engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]
    ) -> None:
        everything = detector(engine, tiny_checkpoint, max_det=3000).detect(photos[3])
        found = detector(engine, tiny_checkpoint, max_det=3000, classes=classes).detect(photos[3])
        wanted = np.isin(everything.labels, [name.lower() for name in classes])
        np.testing.assert_array_equal(found.boxes, everything.boxes[wanted])
        assert set(found.labels) == {name.lower() for name in classes}

    def test_no_class(self, engine: TorchEngine, tiny_checkpoint: Checkpoint, photos: list[Image]) -> None:
        assert len(detector(engine, tiny_checkpoint, classes=[]).detect(photos[3])) == 0

    @pytest.mark.parametrize(
        ("figures", "complaint"),
        [
            *(({"score": score}, "score .* is not between 0 and 1") for score in (-0.1, 1.1, np.nan, np.inf)),
            *(({"iou": iou}, "IoU of .* is not in 0..1") for iou in (-0.1, 1.1, np.nan)),
            *(({"max_det": count}, "at least one box") for count in (0, -1)),
            ({"classes": ["aunt"]}, "no class 'aunt'; did you mean ant?"),
            ({"classes": ["bee", "Bees"]}, "no class 'Bees'; did you mean bee?"),
            ({"classes": ["zebra"]}, "no class 'zebra'; it knows ant, bee, cat"),
            ({"classes": [""]}, "no class ''"),
            ({"classes": ["ant,bee"]}, "no class 'ant,bee'"),
        ],
    )
    def test_that_cannot_be(self, figures: dict[str, Any], complaint: str, tiny_checkpoint: Checkpoint) -> None:
        with pytest.raises(WrongUsageError, match=complaint):
            choose(tiny_checkpoint.spec, **figures)

    def test_a_class_by_its_own_spelling(self, tiny_checkpoint: Checkpoint) -> None:
        spec = replace(tiny_checkpoint.spec, labels=("Straße", "traffic light", "traffic sign"))
        assert choose(spec, classes=["STRASSE", "Traffic Sign"]).classes == (0, 2)
        with pytest.raises(WrongUsageError, match="did you mean traffic sign, traffic light"):
            choose(spec, classes=["traffic sing"])


class TestLoad:
    """From a file, by everything a user can say."""

    def test_is_public(self) -> None:
        assert ssdcam.load is load
        assert ssdcam.Detector is Detector

    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_path(self, kind: type, tiny_model: Path, tiny: Detector, photos: list[Image]) -> None:
        loaded = load(kind(tiny_model), device="cpu", engine="torch")
        assert loaded.labels == TINY_LABELS
        assert same(loaded.detect(photos[3]), tiny.detect(photos[3]))

    @pytest.mark.parametrize("classes", ["wasp", ["wasp"]])
    def test_names_and_classes(self, classes: str | list[str], tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("fly\nwasp\ntiger\n")
        for labels in (tmp_path / "names.txt", str(tmp_path / "names.txt")):
            loaded = load(tiny_model, labels=labels, classes=classes, device="cpu")
            assert loaded.labels == ("fly", "wasp", "tiger")
            assert set(loaded.detect(pictures.noise(80, 60, 3)).labels) == {"wasp"}

    @pytest.mark.parametrize(
        ("choice", "complaint"),
        [
            ({"model": "nosuch"}, "no such checkpoint"),
            ({"engine": "caffe"}, "engine 'caffe' is none of auto, torch"),
            ({"device": "gpu"}, "device 'gpu' is none of"),
            ({"precision": "fp8"}, "precision 'fp8' is none of auto, fp32, fp16, bf16"),
            ({"score": 2}, "score 2"),
            ({"threads": 0}, "0 threads"),
            ({"classes": ["aunt"]}, "no class"),
        ],
    )
    def test_wrong_usage(self, choice: dict[str, Any], complaint: str, tiny_model: Path) -> None:
        with pytest.raises(WrongUsageError, match=complaint):
            load(**{"model": tiny_model, **choice})


def test_threads_do_not_disturb_each_other(tiny: Detector, photos: list[Image]) -> None:
    expected = tiny.detect(photos)
    jobs = [(i * 5) % 7 for i in range(70)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: (i, tiny.detect(photos[i])), jobs))
    assert all(same(found, expected[i]) for i, found in results)


class TestPrepare:
    @pytest.mark.parametrize("input_size", [(300, 300), (200, 320)])
    def test_stretches_the_whole_image(self, input_size: tuple[int, int]) -> None:
        image = np.asarray(pictures.scene(64, 48), np.uint8)[..., ::-1]
        (resized,) = prepare([image], input_size)
        assert resized.shape == (*input_size, 3)
        np.testing.assert_array_equal(pictures.quadrants(resized), pictures.COLOURS)

    def test_an_image_of_the_input_size_is_not_changed(self) -> None:
        image = pictures.noise(320, 200, 0)
        np.testing.assert_array_equal(prepare([image, image], (200, 320))[1], image)

    def test_of_nothing(self) -> None:
        assert prepare([], (300, 200)).shape == (0, 300, 200, 3)
