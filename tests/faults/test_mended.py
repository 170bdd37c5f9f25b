"""What these suites, or whoever wrote them, found and nothing else here names: mended, and kept as cases."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ssdcam.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssdcam.errors import RecordError, SourceError
from ssdcam.media.sources import FileSource
from ssdcam.records import read_records

from ..datasets import made
from ..media.sources.videos import make_video
from ..pictures import photo
from ..records import samples
from ..waiting import GUARD
from .cases import Case, run_cases
from .conftest import Count
from .running import check, run_here

LONG = "n" * 300
HUGE = "9" * 400


@pytest.fixture
def here(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture, a video, a model, and a data set in two layouts."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    photo(tmp_path / "p.jpg")
    make_video(tmp_path / "v.mp4", range(3))
    (tmp_path / "m.safetensors").write_bytes(tiny_model.read_bytes())
    made.voc(tmp_path / "voc")
    made.coco(tmp_path / "coco")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Asking whether such a file is there raises, where for other names it says no.
TOO_LONG = (
    f"image p.jpg -m m.safetensors -o {LONG}/x",
    f"image p.jpg -m m.safetensors --crops {LONG}/x",
    f"image p.jpg -m m.safetensors --records {LONG}.jsonl",
    f"image p.jpg -m m.safetensors --records {LONG}.json",
    f"image p.jpg -m m.safetensors --records yolo:{LONG}",
    f"image p.jpg -m {LONG}",
    f"image {LONG}.jpg -m m.safetensors",
    f"video v.mp4 -m m.safetensors -o {LONG}.mp4",
    f"video v.mp4 -m m.safetensors -o {LONG}/",
    f"video v.mp4 -m m.safetensors --json --stats {LONG}",
    f"video v.mp4 -m m.safetensors --json --stats {LONG}/x",
    f"video v.mp4 -m {LONG} --json",
    f"webcam v.mp4 -m m.safetensors --no-window -o {LONG}.mp4",
    f"webcam {LONG} -m m.safetensors --no-window --json",
    f"eval {LONG} -m m.safetensors",
    f"eval --ground-truth coco/val.json --detections {LONG}.json",
    f"eval --ground-truth {LONG} --detections p.json",
    f"boxes {LONG}",
    f"boxes voc --arch ssd300-mobilenet-v1 -o {LONG}",
    f"train {LONG} -m m.safetensors",
    f"train voc -m m.safetensors -o {LONG}",
    f"weights info {LONG}",
    f"weights convert m.safetensors -o {LONG}.safetensors",
    f"weights convert m.safetensors -o {LONG}/x.safetensors",
)

# Most of these ran for ever, filled memory, or ended in an error of Python's own.
NUMBERS = (
    "video v.mp4 -m m.safetensors --json --start 1e300",
    "video v.mp4 -m m.safetensors --json --start nan",
    "video v.mp4 -m m.safetensors --json --end inf",
    f"video v.mp4 -m m.safetensors --json --max-frames {HUGE}",
    f"video v.mp4 -m m.safetensors --json --stride {HUGE}",
    "video v.mp4 -m m.safetensors --json --batch 1000000",
    "webcam v.mp4 -m m.safetensors --json --no-window --duration nan",
    "webcam v.mp4 -m m.safetensors --json --no-window --fps nan",
    "train voc -m m.safetensors --memory inf",
    "train voc -m m.safetensors --lr nan",
    "train voc -m m.safetensors --weight-decay inf",
    "train voc -m m.safetensors --batch 1000000000000",
    "train voc -m m.safetensors --bias-lr 1e308",
    "train voc -m m.safetensors --workers 1000",
    f"train voc -m m.safetensors --seed {HUGE}",
)


@pytest.mark.parametrize("line", TOO_LONG, ids=lambda line: line.replace(LONG, "LONG"))
def test_a_name_that_is_too_long(line: str, here: Path, count: Count) -> None:
    said = run_here(line.split())
    check(line.split(), said, most_lines=1)
    assert said.code in {1, 2}
    assert LONG in said.err
    count("regressions", 1)


@pytest.mark.parametrize("line", NUMBERS, ids=lambda line: line.replace(HUGE, "HUGE"))
def test_a_number_that_nobody_means(line: str, here: Path, count: Count) -> None:
    said = run_here(line.split())
    check(line.split(), said, most_lines=1)
    assert said.code == 2
    count("regressions", 1)


def test_a_long_label_of_a_long_name_has_a_crop(here: Path, tiny_checkpoint: Checkpoint, count: Count) -> None:
    labels = tuple(sign * 90 for sign in "猫犬鳥")
    spec = replace(tiny_checkpoint.spec, labels=labels)
    save_checkpoint(replace(tiny_checkpoint, spec=spec), here / "cats.safetensors")
    photo(here / "p.jpg").rename(here / f"{'猫' * 80}.jpg")
    said = run_here(["image", f"{'猫' * 80}.jpg", "-m", "cats.safetensors", "--crops", "crops"])
    check([], said, most_lines=0)
    assert said.code == 0
    assert list((here / "crops").iterdir())
    count("regressions", 1)


@pytest.mark.parametrize("content", ['{"images": ' + "[" * 100_000, "[" * 100_000], ids=["object", "results"])
def test_records_that_nest_too_deep_are_told_by_eval(content: str, here: Path, count: Count) -> None:
    (here / "deep.json").write_text(content)
    said = run_here("eval --ground-truth coco/val.json --detections deep.json".split())
    check([], said, most_lines=1)
    assert said.code == 1
    assert "deep.json" in said.err
    count("regressions", 1)


def test_frames_of_more_pixels_than_the_limit_are_refused_by_name(tmp_path: Path, count: Count) -> None:
    path = tmp_path / "large.y4m"
    path.write_bytes(b"YUV4MPEG2 W8200 H8200 F25:1 C420jpeg\nFRAME\n" + bytes(8200 * 8200 * 3 // 2))
    with pytest.raises(
        SourceError, match=r"large.y4m: claims frames of 8200x8200, more than the limit of 2\^26 pixels"
    ):
        FileSource(path)
    count("regressions", 1)


def test_a_damaged_hevc_video_does_not_hang(count: Count) -> None:
    """A flipped bit: FFmpeg's decoder, given several frames at once, waited for ever, and not even Ctrl-C helped."""
    (ended,) = run_cases([Case("video", Path(__file__).with_name("hanging.mkv"), "")])
    assert not ended.trouble
    count("regressions", 1)


def test_a_rate_that_no_video_has_is_not_believed(here: Path, count: Count) -> None:
    make_video(here / "v.avi", range(3), codec="mjpeg", pixels="yuvj420p")
    data = bytearray((here / "v.avi").read_bytes())
    at = data.index(b"strh") + 28  # scale and rate of the stream
    data[at : at + 8] = struct.pack("<II", 1, 2**31 - 1)
    (here / "v.avi").write_bytes(data)
    said = run_here("video v.avi -m m.safetensors -o out.mp4".split())
    check([], said)
    assert said.code == 0
    count("regressions", 1)


@pytest.mark.parametrize("name", ["\\ud800", "\\u0000"])
def test_a_record_of_a_file_that_no_file_can_be_called(name: str, tmp_path: Path, count: Count) -> None:
    samples.write(f"yolo:{tmp_path}", [samples.record("a.jpg")])
    (tmp_path / "index.jsonl").write_text(f'{{"file": "{name}", "source": "a.jpg", "width": 640, "height": 480}}\n')
    with pytest.raises(RecordError, match="no file can be called so"):
        list(read_records(f"yolo:{tmp_path}"))
    count("regressions", 1)


def test_a_complaint_is_not_as_long_as_what_it_is_about(here: Path, tiny_checkpoint: Checkpoint, count: Count) -> None:
    spec = replace(tiny_checkpoint.spec, labels=("a" * 100_000, "b", "c"))
    save_checkpoint(replace(tiny_checkpoint, spec=spec), here / "long.safetensors")
    said = run_here("image p.jpg -m long.safetensors --classes nosuch".split())
    check([], said, most_lines=1)
    assert said.code == 2
    count("regressions", 1)


# What never ends, in place of a file: device nodes, pipes, and links to them in a data set that came from elsewhere.
ENDLESS = {
    "image p.jpg -m m.safetensors --labels /dev/zero": "/dev/zero: cannot be read: holds more than 16 MiB",
    "weights info m.safetensors --labels /dev/zero": "/dev/zero: cannot be read: holds more than 16 MiB",
    "train voc -m m.safetensors --boxes /dev/zero": "/dev/zero: cannot be read: holds more than 16 MiB",
    "eval linked/voc -m m.safetensors": ".xml: cannot be read: is a device, not a file",
    "eval linked/coco/val.json -m m.safetensors": "val.json: is no data set",
    "eval --ground-truth coco/val.json --detections linked/r.json": "r.json: cannot be read: is a device, not a file",
    "eval --ground-truth coco/val.json --detections linked/r.jsonl": "r.jsonl: cannot be read: is a device, not a file",
    "eval --ground-truth coco/val.json --detections linked/r.csv": "r.csv: cannot be read: is a device, not a file",
    "image - -m m.safetensors": "standard input: a line of 64 KiB",
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process' memory as Linux does")
@pytest.mark.parametrize("line", ENDLESS)
def test_what_never_ends_is_not_read_to_its_end(line: str, here: Path, count: Count) -> None:
    (here / "linked/coco").mkdir(parents=True)
    made.voc(here / "linked/voc")
    annotations = list((here / "linked/voc/Annotations").iterdir())
    for link in (*annotations, *(here / "linked" / name for name in ("coco/val.json", "r.json", "r.jsonl", "r.csv"))):
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/zero")
    command = f"ulimit -d {3 * 2**20}; yes | tr -d '\\n' | exec {sys.executable} -m ssdcam {line}"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, timeout=GUARD)
    count("regressions", 1)
    assert ENDLESS[line] in done.stderr
    assert done.returncode in (1, 2)
