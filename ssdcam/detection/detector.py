"""The detector: images of any size in, detections in their pixels out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, get_args, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from ssdcam.checkpoints.families.family import BoxSizes
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.cpu import threads_of_a_share
from ssdcam.detection.engine import Engine
from ssdcam.detection.engines import EngineName, PrecisionName, start
from ssdcam.detection.int8 import Calibration
from ssdcam.detections import Detections, Image
from ssdcam.errors import WrongUsageError
from ssdcam.notes import note
from ssdcam.ssd.spec import ModelSpec, Selection

_FEW_PICTURES = 32  # from which on ranges miss little of what later pictures hold

CALIBRATION_PICTURES = 300
"""How many pictures int8's ranges are chosen on at most; more make it no better."""

# Thinner boxes, in pixels, are artefacts of clipping at the image's border; at two decimals they would have no area.
_MIN_SIDE = 0.02


def load(
    model: str | Path | None = None,
    *,
    score: float = 0.5,
    iou: float | None = None,
    max_det: int | None = None,
    classes: str | Sequence[str] | None = None,
    labels: str | Path | None = None,
    family: str | None = None,
    boxes: BoxSizes | None = None,
    device: str = "auto",
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    calibrate: Iterable[Image] | None = None,
    threads: int | None = None,
    offline: bool = False,
) -> Detector:
    """Make a detector.

    Args:
        model: a checkpoint file; or a name that ``ssdcam weights list`` shows, of an embedded detector or of a
            published one, which is downloaded when it is first used; None is the default embedded one.
        score: boxes below this score are dropped, 0 to 1.
        iou: boxes of a class that overlap by more than this IoU are one object; None is the checkpoint's figure.
        max_det: boxes kept an image; None is the checkpoint's figure.
        classes: the class or classes to look for; None is all.
        labels: a text file with a name a line, for a checkpoint that has no names.
        family: whose checkpoint a file of another code base is; None is told by the file.
        boxes: ``voc`` or ``coco``, where such a file does not tell which default boxes it has.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: ``torch``, ``openvino``, ``onnxruntime``, or ``auto``: the fastest of those that are installed and run
            there.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``; which there are depends on engine and device.
        calibrate: some hundred images to choose int8's ranges on, of which the first 300 are taken; needed the first
            time that a checkpoint is run in int8, but for embedded detectors in OpenVINO.
        threads: CPU threads that the engine and OpenCV may use (torch: in the whole process); None is as many
            as a container's share of the cores keeps busy, or theirs where all cores may be used.
        offline: never touch the network; so it is, too, where the environment has SSDCAM_OFFLINE=1.

    Raises:
        SsdcamError: one of its kinds says in a line what is wrong and what to do.

    Example:
        >>> detector = ssdcam.load("detect.tflite", score=0.3, classes=["cat", "dog"])
        >>> detections = detector.detect(cv2.imread("photo.jpg"))
    """
    if engine not in get_args(EngineName):
        raise WrongUsageError(f"engine {engine!r} is none of {', '.join(get_args(EngineName))}")
    if precision not in get_args(PrecisionName):
        raise WrongUsageError(f"precision {precision!r} is none of {', '.join(get_args(PrecisionName))}")
    if calibrate is not None and precision != "int8":
        raise WrongUsageError(f"calibration is for precision int8, not for {precision}")
    if threads is not None and threads < 1:
        raise WrongUsageError(f"{threads} threads are too few")
    names_file = None if labels is None else Path(labels)
    checkpoint = open_checkpoint(model, names_file, family=family, boxes=boxes, offline=offline)
    names = [classes] if isinstance(classes, str) else classes
    selection = choose(checkpoint.spec, score=score, iou=iou, max_det=max_det, classes=names)

    threads = threads or threads_of_a_share()
    if threads is not None:
        cv2.setNumThreads(threads)
    calibration = None if calibrate is None else Calibration(calibration_batch(calibrate, checkpoint.spec))
    return Detector(start(engine, checkpoint, device, precision, threads, calibration), checkpoint.spec, selection)


def calibration_batch(pictures: Iterable[Image], spec: ModelSpec) -> NDArray[np.uint8]:
    """The first of some pictures as a batch ``(N, H, W, 3)`` to choose int8's ranges on.

    They are taken one by one, as together they may be larger than memory. That there are few is said in a line.

    Raises:
        WrongUsageError: there are none.
    """
    slots = [prepare([picture], spec.input_size) for picture in islice(pictures, CALIBRATION_PICTURES)]
    if not slots:
        raise WrongUsageError("precision int8: there is no picture to choose its ranges on")
    if len(slots) < _FEW_PICTURES:
        pictures_there = "1 picture" if len(slots) == 1 else f"{len(slots)} pictures"
        note(f"precision int8: its ranges may be poor, chosen on {pictures_there} only: some hundred are best")
    return np.concatenate(slots)


def choose(
    spec: ModelSpec,
    *,
    score: float = 0.5,
    iou: float | None = None,
    max_det: int | None = None,
    classes: Sequence[str] | None = None,
) -> Selection:
    """What to keep of a model's output: the caller's figures, the checkpoint's where there are none.

    Raises:
        WrongUsageError: a figure is out of range, or the model has no such class.
    """
    if not 0 <= score <= 1:
        raise WrongUsageError(f"score {score} is not between 0 and 1")
    try:
        nms = replace(
            spec.nms,
            iou=spec.nms.iou if iou is None else iou,
            before=spec.nms.before if max_det is None else max(spec.nms.before, max_det),
            after=spec.nms.after if max_det is None else max_det,
        )
    except ValueError as error:
        raise WrongUsageError(str(error)) from error
    return Selection(score, nms, None if classes is None else tuple(_class_id(name, spec) for name in classes))


def _class_id(name: str, spec: ModelSpec) -> int:
    folded = [label.casefold() for label in spec.labels]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    near = get_close_matches(name.casefold(), folded, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it knows {', '.join(spec.labels)}"
    raise WrongUsageError(f"the model has no class {name!r}; {hint}")


class Detector:
    """Finds objects. Safe to use from several threads: a call changes nothing that another one reads.

    Args:
        engine: what runs the network.
        spec: what the network is.
        selection: what to keep of its output.
    """

    def __init__(self, engine: Engine, spec: ModelSpec, selection: Selection) -> None:
        self.engine = engine
        self.spec = spec
        self.selection = selection

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by class id."""
        return self.spec.labels

    def with_score(self, score: float) -> Detector:
        """The same detector with another score threshold, 0 to 1; engine and weights are shared."""
        return Detector(self.engine, self.spec, replace(self.selection, score=score))

    @overload
    def detect(self, images: Image) -> Detections: ...
    @overload
    def detect(self, images: Sequence[Image]) -> list[Detections]: ...

    def detect(self, images: Image | Sequence[Image]) -> Detections | list[Detections]:
        """Find the objects in one image or several.

        Args:
            images: a uint8 ``(height, width, 3)`` BGR array as OpenCV reads it, or a sequence of such arrays, of any
                sizes; a sequence is one batch.

        Returns:
            The image's detections, or a list of each image's; the same whatever else is in the batch.

        Raises:
            TypeError: an image is no array, such as the name of a file.
            ValueError: an image has another type of numbers or another shape, or no pixels, or is missing.
        """
        if isinstance(images, Collection) and not isinstance(images, np.ndarray | str | bytes):
            return self._detect(images) if len(images) else []
        _check(images)
        return self._detect([images])[0]

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        return self.decode(self.infer(self.prepare(images)), [image.shape[:2] for image in images])

    def prepare(self, images: Sequence[Image]) -> NDArray[np.uint8]:
        """The first step of :meth:`detect`: images to a batch of the network's input size."""
        return prepare(images, self.spec.input_size)

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Any, Any]:
        """The second step: the network's raw output, wherever the engine has it."""
        return self.engine.infer(batch)

    def submit(self, batch: NDArray[np.uint8]) -> Callable[[], tuple[Any, Any]]:
        """:meth:`infer` in two: it starts here, and what this returns waits, once, for the raw output."""
        return self.engine.submit(batch)

    def decode(self, raw: tuple[Any, Any], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """The last step: raw output to the detections of each image of the batch, of these heights and widths."""
        packed = self.engine.decode(*raw, self.selection)
        ends = np.searchsorted(packed.images, np.arange(len(sizes) + 1))
        return [
            self._in_pixels(packed.boxes[a:b], packed.scores[a:b], packed.class_ids[a:b], size)
            for size, a, b in zip(sizes, ends, ends[1:], strict=False)
        ]

    def _in_pixels(
        self,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.int64],
        size: tuple[int, int],
    ) -> Detections:
        height, width = size
        boxes = boxes * np.array([width, height, width, height], np.float32)
        wide = ((boxes[:, 2:] - boxes[:, :2]) >= _MIN_SIDE).all(axis=1)
        return Detections.named(boxes[wide], scores[wide], class_ids[wide], self.spec.labels)


def prepare(images: Sequence[Image], input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize images to a batch ``(B, height, width, 3)`` of the network's input size, whatever their proportions.

    The paper's way: the whole image is stretched to the input, bilinearly, with no border.

    Raises:
        TypeError: an image is no array.
        ValueError: an image is no uint8 ``(height, width, 3)`` array, or has no pixels, or is missing.
    """
    height, width = input_size
    batch = np.empty((len(images), height, width, 3), np.uint8)
    for slot, image in zip(batch, images, strict=True):
        _check(image)
        cv2.resize(np.ascontiguousarray(image), (width, height), dst=slot, interpolation=cv2.INTER_LINEAR)
    return batch


def _check(image: object) -> None:
    """That something is an image; see :func:`prepare`."""
    if image is None:
        raise ValueError("an image is missing: cv2.imread gives None for what it cannot read")
    if not isinstance(image, np.ndarray):
        shown = f"{type(image).__name__} {image!r:.80}" if isinstance(image, str | Path) else type(image).__name__
        raise TypeError(f"an image must be an array as cv2.imread reads it, uint8 (height, width, 3), not {shown}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must be uint8 (height, width, 3), not {image.dtype} {image.shape}")
