"""Processes that share a cache or an output folder, and threads that share a detector."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.checkpoint import load_checkpoint
from ssdcam.detection.detector import Detector
from ssdcam.detections import Detections
from ssdcam.errors import RecordError
from ssdcam.media.images import read_image
from ssdcam.records import open_records, read_records

from ..cli.running import INSTALLED, one_line, start
from ..pictures import noise, photo
from ..records import samples
from ..waiting import GUARD
from .conftest import Count

THREADS = 4


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    found = []
    for process in processes:
        out, err = process.communicate(timeout=GUARD)
        found.append((process.returncode, out, err))
    return found


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        photo(folder / f"p{number}.jpg", seed=number)
    return folder


def test_an_output_folder(tmp_path: Path, count: Count) -> None:
    """The same pictures, crops and COCO file from three runs at once: each file is whole, whoever wrote it last."""
    source = pictures(tmp_path / "in", 12)
    words = [
        "image",
        source,
        "-o",
        tmp_path / "out",
        "--crops",
        tmp_path / "crops",
        "--records",
        tmp_path / "r.json",
        "-y",
    ]
    runs = ended([start(*words) for _ in range(3)])
    assert [(code, err) for code, _, err in runs] == [(0, "")] * 3
    for path in [*(tmp_path / "out").iterdir(), *(tmp_path / "crops").iterdir()]:
        assert path.suffix == ".jpg", "nothing is left of what was being written"
        read_image(path)
    assert len(list((tmp_path / "out").iterdir())) == 12
    assert len(list(read_records(tmp_path / "r.json"))) == 12
    count("processes that share a folder", 3)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks on Windows")
@pytest.mark.parametrize("kind", ["jsonl", "csv", "yolo"])
def test_records_that_another_run_writes_are_left_to_it(kind: str, tmp_path: Path) -> None:
    target = samples.targets(tmp_path)[kind]
    with open_records(target, labels=samples.LABELS) as first:
        first.write(samples.record("a.jpg", samples.TWO))
        second = open_records(target, labels=samples.LABELS)
        with pytest.raises(RecordError, match="is being written by another run"):
            second.write(samples.record("b.jpg", samples.TWO))
        first.write(samples.record("c.jpg", samples.TWO))
    assert [record.source for record in read_records(target)] == ["a.jpg", "c.jpg"]
    samples.write(target, [samples.record("d.jpg", samples.TWO)])
    assert [record.source for record in read_records(target)] == ["d.jpg"]


def test_a_file_of_records(tmp_path: Path, count: Count) -> None:
    source = pictures(tmp_path / "in", 12)
    runs = ended([start("image", source, "--records", tmp_path / "r.jsonl", "-y") for _ in range(3)])
    assert 0 in {code for code, _, _ in runs}
    for code, _, err in runs:
        assert not code or "r.jsonl: is being written by another run" in one_line(err)
    assert len(list(read_records(tmp_path / "r.jsonl"))) == 12
    count("processes that share a folder", 3)


def test_a_checkpoint_that_several_write_while_others_read(tiny_model: Path, tmp_path: Path, count: Count) -> None:
    target = tmp_path / "w.safetensors"
    words = ["weights", "convert", tiny_model, "-o", target, "-y"]
    running = [start(*words, command=INSTALLED) for _ in range(3)]
    looks = 0
    while any(process.poll() is None for process in running):
        if target.exists():
            load_checkpoint(target)
            looks += 1
    assert [code for code, _, _ in ended(running)] == [0, 0, 0]
    assert looks
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    count("processes that share a folder", 3)


def found(detections: Detections) -> list[Any]:
    return [detections.boxes.tolist(), detections.scores.tolist(), detections.labels]


def check_threads(detector: Detector, count: Count) -> None:
    dice = random.Random(7)
    images = [noise(dice.randrange(40, 160), dice.randrange(40, 160), seed) for seed in range(12)]
    batches = [images[:1], images[1:2], images[2:6], images[6:]] * 3
    alone = [[found(one) for one in detector.detect(batch)] for batch in batches]
    assert any(boxes for batch in alone for boxes, _, _ in batch)
    together = Barrier(THREADS)

    def work(number: int) -> list[list[list[Any]]]:
        order = random.Random(number).sample(range(len(batches)), len(batches))
        together.wait(GUARD)
        mine = {i: [found(one) for one in detector.detect(batches[i])] for i in order}
        return [mine[i] for i in range(len(batches))]

    with ThreadPoolExecutor(THREADS) as pool:
        for theirs in pool.map(work, range(THREADS)):
            for one, other in zip(theirs, alone, strict=True):
                for (boxes, scores, labels), (boxes_alone, scores_alone, labels_alone) in zip(one, other, strict=True):
                    assert labels == labels_alone
                    np.testing.assert_allclose(scores, scores_alone, atol=1e-4)
                    np.testing.assert_allclose(boxes, boxes_alone, atol=0.05)
    count("detections from several threads at once", THREADS * sum(map(len, batches)))


def test_a_detector_in_torch_from_several_threads(tiny_model: Path, count: Count) -> None:
    check_threads(ssdcam.load(tiny_model, score=0.4, device="cpu"), count)


def test_a_detector_in_openvino_from_several_threads(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO")
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    check_threads(ssdcam.load(tiny_model, score=0.4, engine="openvino", threads=2), count)


# Detects in a picture with the network that the cache holds, or prepares it; damage comes in between.
DETECT = """
import json, sys
import numpy as np
import ssdcam
detector = ssdcam.load(sys.argv[1], score=0.4, engine="openvino", threads=1)
image = np.load(sys.argv[2])
found = detector.detect(image)
print(json.dumps([found.boxes.tolist(), found.scores.tolist(), "torch" in sys.modules]))
"""


def detect(model: Path, image: Path, home: Path) -> subprocess.Popen[str]:
    return start(model, image, command=[sys.executable, "-c", DETECT], env={"SSDCAM_HOME": str(home)})


@pytest.mark.parametrize(("processes", "rounds"), [(2, 1), pytest.param(4, 6, marks=pytest.mark.slow)])
def test_a_cache(processes: int, rounds: int, tiny_model: Path, tmp_path: Path, count: Count) -> None:
    """A network prepared by several processes at the same moment, each of which may find half of the others' work."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    np.save(tmp_path / "image.npy", noise(120, 90, 3))
    for number in range(rounds):
        home = tmp_path / f"home{number}"
        runs = ended([detect(tiny_model, tmp_path / "image.npy", home) for _ in range(processes)])
        (later,) = ended([detect(tiny_model, tmp_path / "image.npy", home)])
        results = []
        for code, out, err in [*runs, later]:
            assert code == 0, err
            results.append(json.loads(out))
        boxes, scores, used_torch = results[-1]
        assert boxes
        assert not used_torch, "it was not kept"
        for other in results:
            np.testing.assert_allclose(other[0], boxes, atol=0.05)
            np.testing.assert_allclose(other[1], scores, atol=1e-4)
        kept = sorted(path.suffix for path in (home / "openvino").iterdir() if path.suffix in (".xml", ".bin"))
        assert kept == [".bin", ".xml"]
    count("processes that share a cache", rounds * (processes + 1))


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with a picture and a cache, and what was found in the picture."""
    pytest.importorskip("openvino", reason="needs OpenVINO")
    folder = tmp_path_factory.mktemp("prepared")
    np.save(folder / "image.npy", noise(120, 90, 3))
    ((code, out, err),) = ended([detect(tiny_model, folder / "image.npy", folder / "home")])
    assert code == 0, err
    return folder, json.loads(out)[0]


@pytest.mark.parametrize(
    ("suffix", "share"),
    [
        (".xml", 0.5),
        (".bin", 0.5),
        (".blob", 0.5),
        *(pytest.param(s, p, marks=pytest.mark.slow) for s in (".xml", ".bin", ".blob") for p in (0.0, 0.1, 0.97)),
    ],
)
def test_a_cache_that_was_cut_short(
    suffix: str, share: float, prepared: tuple[Path, Any], tiny_model: Path, tmp_path: Path, count: Count
) -> None:
    """What a crash of the whole machine leaves of files that were being written."""
    shutil.copytree(prepared[0] / "home", tmp_path / "home")
    files = list((tmp_path / "home/openvino").glob(f"*{suffix}"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    ((code, out, err),) = ended([detect(tiny_model, prepared[0] / "image.npy", tmp_path / "home")])
    assert code == 0, err
    np.testing.assert_allclose(json.loads(out)[0], prepared[1], atol=0.05)
    count("damaged caches", 1)
