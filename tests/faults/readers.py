"""What reads users' files, each as a function of a path that uses all that comes out, and what it may raise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssdcam.errors import SourceError, SsdcamError, WrongUsageError

# A damaged file may promise hours; what is wrong with one shows sooner.
_FRAMES = 300


def image(path: Path) -> None:
    from ssdcam.datasets.pictures import picture_size
    from ssdcam.media.images import read_image

    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size
    assert min(picture_size(path)) >= 0


def image_head(path: Path) -> None:
    from ssdcam.datasets.pictures import picture_size

    assert len(picture_size(path)) == 2


def video(path: Path) -> None:
    from ssdcam.media.sources import FileSource

    with FileSource(path, max_frames=_FRAMES) as source:
        source.other_tracks()
        assert source.frame_count is None or source.frame_count >= 0
        last = -np.inf
        while (frame := source.read()) is not None:
            assert frame.image.shape == (source.height, source.width, 3)
            assert frame.image.dtype == np.uint8
            assert last < frame.pts < np.inf
            last = frame.pts


def video_from_the_middle(path: Path) -> None:
    from ssdcam.media.sources import FileSource

    with FileSource(path, start=0.5, end=3.0, max_frames=_FRAMES) as source:
        while (frame := source.read()) is not None:
            assert source.start_time <= frame.pts < source.end_time


def labelled_video(path: Path) -> None:
    """The whole of ``ssdcam video``: what is decoded goes, with its sound, through an encoder into a container."""
    from ssdcam.detection import detector
    from ssdcam.media.sources import FileSource

    from ..cli.stubbed import _load
    from .running import check, run_here

    detector.load = _load  # type: ignore[assignment]
    # Sound is copied into some containers and encoded anew for others.
    out = path.with_name(f"out{ {'.mp4': '.webm', '.mkv': '.avi'}.get(path.suffix, '.mp4') }")
    words = ["video", str(path), "-o", str(out), "--preset", "ultrafast", "-y"]
    said = run_here(words)
    check(words, said, most_lines=5)
    complaints = [line.removeprefix("error: ") for line in said.err.splitlines() if line.startswith("error: ")]
    if complaints:
        raise SourceError(complaints[0])
    with FileSource(out) as source:
        assert source.read()
    assert out.stat().st_size < 1000 * (path.stat().st_size + 10_000)


def checkpoint(path: Path) -> None:
    from ssdcam.checkpoints.checkpoint import spec_from_json, spec_to_json
    from ssdcam.checkpoints.resolve import open_checkpoint
    from ssdcam.detection.detector import Detector, choose
    from ssdcam.detection.torch_engine import TorchEngine

    found = open_checkpoint(path)
    import json

    assert spec_from_json(json.dumps(spec_to_json(found.spec))) == found.spec
    detector = Detector(TorchEngine(found, "cpu"), found.spec, choose(found.spec, score=0.3))
    with np.errstate(all="raise"):
        detections = detector.detect(np.full((40, 60, 3), 99, np.uint8))
    assert np.isfinite(detections.boxes).all()
    assert (detections.boxes[:, :2] >= 0).all()
    assert (detections.boxes[:, 2:] <= (60, 40)).all()
    assert (detections.boxes[:, :2] < detections.boxes[:, 2:]).all()
    assert np.isfinite(detections.scores).all()


def dataset(path: Path) -> None:
    from ssdcam.datasets import check_images, dataset_splits, open_dataset

    dataset_splits(path)
    for split in (None, "train"):
        found = check_images(open_dataset(path, split))
        for sample in found.samples:
            assert np.isfinite(sample.boxes).all()
            assert sample.width
            assert sample.height
            assert (sample.boxes >= 0).all()
            assert (sample.boxes <= [sample.width, sample.height] * 2).all()
            assert (sample.boxes[:, :2] < sample.boxes[:, 2:]).all()
            assert ((sample.class_ids >= 0) & (sample.class_ids < len(found.labels))).all()
        for problem in found.problems:
            assert str(path) in problem or problem.startswith("/"), problem  # a damaged list may name any file


def records(path: Path) -> None:
    from ssdcam.records import read_records, to_line

    kind = path.name
    target = f"{kind}:{path}" if kind in ("voc", "yolo") else next(path.iterdir())
    for record in read_records(target):
        to_line(record)


READERS: dict[str, Callable[[Path], None]] = {
    reader.__name__: reader
    for reader in (image, image_head, video, video_from_the_middle, labelled_video, checkpoint, dataset, records)
}


def outcome(reader: str, path: Path) -> str:
    """What comes of reading a file: ``read``, or what a user is told, which must be one line that names the file.

    Raises:
        AssertionError: what was read makes no sense, or the complaint is none.
        Exception: anything that is no SsdcamError would reach a user as "a bug in ssdcam".
    """
    try:
        READERS[reader](path)
    except SsdcamError as trouble:
        error = trouble
    else:
        return "read"
    complaint = str(error)
    assert not isinstance(error, WrongUsageError), complaint
    assert str(path) in complaint or str(path.parent) in complaint or complaint.startswith("the checkpoint"), complaint
    assert "\n" not in complaint, complaint
    assert len(complaint) < 1000, complaint
    return complaint.replace(str(path), path.name)


def copy(original: Path, place: Path) -> Path:
    """The original, a file or a folder, in another place."""
    if original.is_dir():
        shutil.copytree(original, place)
    else:
        place.write_bytes(original.read_bytes())
    return place
