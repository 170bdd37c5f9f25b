"""What commands write: looked at before any work, and told of at the end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ssdcam.media.claims import marker_of
from ssdcam.records import read_records
from ssdcam.records.record import to_json

from .. import pictures
from ..media.sources.videos import make_video
from ..waiting import wait_until
from .running import GUARD, STUBBED, one_line, records, run, start

needs_streams = pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A picture, a video, a file and a data set of a picture."""
    pictures.photo(tmp_path / "p.jpg")
    make_video(tmp_path / "v.mp4", range(12))
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/labels").mkdir()
    (tmp_path / "data/classes.txt").write_text("thing\n")
    pictures.photo(tmp_path / "data/images/a.jpg")
    (tmp_path / "data/labels/a.txt").write_text("0 .5 .5 .4 .4\n")
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "line",
    [
        "image p.jpg -o file/x",
        "image p.jpg -o file",
        "image p.jpg --crops file/x",
        "image p.jpg --crops file",
        "image p.jpg --records voc:file/x",
        "image p.jpg --records yolo:file",
        "image p.jpg --records file/x.jsonl",
        "video v.mp4 -o file/x.mp4",
        "video v.mp4 -o file/x/",
        "video v.mp4 missing.mp4 -o file",
        "video v.mp4 --crops file/x",
        "video v.mp4 -o out.mp4 --stats file/x.json",
        "webcam v.mp4 --no-window -o file/x.mp4",
        "webcam v.mp4 --no-window --crops file/x",
        "webcam v.mp4 --no-window --records voc:file/x/y",
        "eval data --plots file/x",
        "eval data --plots file",
        "train data -o file/x",
        "train data -o file",
        "export --format onnx -o file/x.onnx",
        "boxes data -o file/x.json",
        "boxes data --plot file/x.png",
        "bench --plot file/x.png",
        "weights convert voc -o file/x.safetensors",
    ],
)
def test_nothing_can_be_written_below_a_file(line: str, here: Path) -> None:
    before = everything(here)
    done = run(*line.split(), "-y" if line.startswith(("image", "video")) else "-v", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert "file" in one_line(done.stderr)
    assert everything(here) == before


@pytest.mark.parametrize("command", ["image p.jpg", "video v.mp4", "webcam v.mp4 --no-window"])
def test_records_in_several_formats_at_once(command: str, here: Path) -> None:
    targets = ("r.jsonl", "r.csv", "r.json", "voc:voc", "yolo:yolo")
    done = run(*command.split(), *(word for target in targets for word in ("--records", target)), cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("wrote r.jsonl, r.csv, r.json, voc, yolo")
    first = records((here / "r.jsonl").read_text())
    assert any(record["detections"] for record in first)
    for target in targets[1:]:
        prefix, _, name = target.partition(":")
        back = [to_json(one) for one in read_records(f"{prefix}:{here / name}" if name else here / target)]
        boxes, expected = (
            [found["box"] for record in records for found in record["detections"]] for records in (back, first)
        )
        assert len(boxes) == len(expected)
        for box, other in zip(boxes, expected, strict=True):
            assert box == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize(
    ("command", "second", "said"),
    [
        ("image p.jpg", "./one.jsonl", "two outputs cannot have one name"),
        ("video v.mp4", "./one.jsonl", "two outputs cannot have one name"),
        ("webcam v.mp4 --no-window", "./one.jsonl", "two outputs cannot have one name"),
        ("image p.jpg", "voc:one.jsonl", "two outputs cannot have one name"),
        ("image p.jpg", "old.csv", "old.csv exists: pass -y to overwrite"),
        ("video v.mp4", "no/r.csv", "there is no folder no"),
        ("image p.jpg", "input.json", "is an input"),
        ("image p.jpg old.csv -y", "old.csv", "is an input"),
        ("webcam v.mp4 --no-window", "r.xml", "is no place for records"),
        ("video v.mp4 -o out/ --resume", "r.csv", "goes with neither --json nor --records"),
    ],
)
def test_each_of_several_records_is_looked_at(command: str, second: str, said: str, here: Path) -> None:
    for name in ("old.csv", "input.json"):
        (here / name).write_text("thing\n")
    before = everything(here)
    done = run(*command.split(), "--labels", "input.json", "--records", "one.jsonl", "--records", second, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)
    assert {name: content for name, content in everything(here).items() if name != "out"} == before


def test_two_folders_of_records_are_two_folders(here: Path) -> None:
    done = run("image", "p.jpg", "--records", "voc:both", "--records", "yolo:both", cwd=here)
    assert done.returncode == 2
    assert one_line(done.stderr) == "error: both: two outputs cannot have one name"


def test_several_records_are_replaced_together(here: Path) -> None:
    names = ("a.jsonl", "b.csv", "c.json")
    for name in names:
        (here / f"kept-{name}").write_text("old")
        (here / name).symlink_to(f"kept-{name}")
    line = ("image", "p.jpg", *(word for name in names for word in ("--records", name)))
    done = run(*line, cwd=here)
    assert one_line(done.stderr) == "error: a.jsonl exists, and 2 more: pass -y to overwrite"
    assert run(*line, "-y", cwd=here).returncode == 0
    for name in names:
        assert (here / name).is_symlink(), "links are followed"
        assert (here / f"kept-{name}").read_text() != "old"


@needs_streams
def test_figures_go_where_records_are_printed(here: Path) -> None:
    done = run("video", "v.mp4", "--json", "--stats", "/dev/stdout", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    *frames, figures = map(json.loads, done.stdout.splitlines())
    assert figures["frames"] == len(frames) > 0


@needs_streams
def test_figures_go_where_errors_are_told(here: Path) -> None:
    done = run("video", "v.mp4", "--json", "--stats", "/dev/stderr", cwd=here)
    assert done.returncode == 0
    assert json.loads(done.stderr)["frames"] == len(done.stdout.splitlines()) > 0


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("image p.jpg -o out --crops crops", "out, crops"),
        ("image p.jpg data/images/a.jpg -o out --records r.csv", "out, r.csv"),
        ("image p.jpg --crops none --score 1", None),
        ("image p.jpg --crops older --score 1", None),
        ("video v.mp4 --crops older --score 1 --records r.csv", "r.csv"),
        ("webcam v.mp4 --no-window --crops older --score 1 --stats s.json", "s.json"),
        ("image p.jpg", None),
        ("video v.mp4 -o out.mp4 --records r.jsonl --stats s.json", "out.mp4, r.jsonl, s.json"),
        ("video v.mp4 -o out/ --crops crops", "out/v.mp4, crops"),
        ("video v.mp4 second.mp4 -o out", "out"),
        ("webcam v.mp4 --no-window -o out.mkv", "out.mkv"),
    ],
)
def test_the_end_says_where_results_are(line: str, places: str | None, here: Path) -> None:
    make_video(here / "second.mp4", range(6))
    (here / "older").mkdir()
    (here / "older/a_0_dark.jpg").write_text("of an earlier run")
    done = run(*line.split(), cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    told = [text.partition("wrote ")[2] for text in done.stdout.splitlines() if "wrote " in text]
    assert told == ([] if places is None else [places])
    assert done.stdout.splitlines()[-1].endswith(f"wrote {places}") or places is None


@pytest.mark.parametrize("option", ["-q", "--json"])
@pytest.mark.parametrize(
    "line", ["image p.jpg -o out", "video v.mp4 -o out.mp4", "webcam v.mp4 --no-window -o out.mp4"]
)
def test_nothing_is_said_where_it_is_not_wanted(line: str, option: str, here: Path) -> None:
    done = run(*line.split(), option, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote" not in done.stdout


def test_a_run_that_fails_claims_nothing(here: Path) -> None:
    line = "video v.mp4 -o out.mp4 --records r.csv --batch 1"
    done = run(*line.split(), cwd=here, env={"SSDCAM_STUB_FAIL": "10"})
    assert done.returncode == 1
    assert "the stub was told to fail" in one_line(done.stderr)
    assert "wrote" not in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="Windows limits no file's size")
@pytest.mark.parametrize(
    ("line", "complaint", "told"),
    [
        ("video long.mp4 -o out.mp4", "out.mp4: cannot be written", []),
        ("video long.mp4 -o out.mp4 --records r.csv", "out.mp4: cannot be written", ["wrote r.csv"]),
        ("video long.mp4 -o out/", "out/long.mp4: cannot be written", []),
        ("video long.mp4 v.mp4 -o out", "out/long.mp4: cannot be written", ["wrote out"]),
        ("webcam long.mp4 --no-window -o out.mp4", "out.mp4: cannot be written", []),
    ],
)
def test_what_could_not_be_written_whole_is_not_claimed(line: str, complaint: str, told: list[str], here: Path) -> None:
    make_video(here / "long.mp4", range(300))
    limited = ["bash", "-c", 'ulimit -f 24; exec "$@"', "--", *STUBBED]
    slow = {"SSDCAM_STUB_SLEEP": "0.01"}  # no slower than the encoder, so that few records are ahead of it
    done = run(*line.split(), "--preset", "ultrafast", cwd=here, env=slow, command=limited)
    assert done.returncode == 1
    assert complaint in one_line(done.stderr)
    assert [text for text in done.stdout.splitlines() if "wrote" in text] == told


def test_one_that_is_stopped_says_what_it_wrote(here: Path) -> None:
    make_video(here / "long.mp4", range(900))
    slow = {"SSDCAM_STUB_SLEEP": "0.1"}
    process = start("video", "long.mp4", "-o", "out.mp4", "--records", "r.jsonl", cwd=here, env=slow)
    wait_until(lambda: (here / "r.jsonl").exists() and (here / "r.jsonl").stat().st_size, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (130, "")
    assert out.splitlines()[-1] == "wrote out.mp4, r.jsonl"
    assert json.loads((here / "r.jsonl").read_text().splitlines()[0])["frame"] == 0


@pytest.mark.skipif(os.name != "posix", reason="nobody is killed so on Windows")
@pytest.mark.parametrize("out", ["out.mp4", "out/"])
def test_what_a_killed_run_left_is_named(out: str, here: Path) -> None:
    make_video(here / "long.mp4", range(900))
    target = here / out / "long.mp4" if out.endswith("/") else here / out
    process = start("video", "long.mp4", "-o", out, cwd=here, env={"SSDCAM_STUB_SLEEP": "0.1"})
    wait_until(target.exists, process)
    process.kill()
    process.communicate(timeout=GUARD)
    assert marker_of(target).exists()

    name, short = target.relative_to(here), ("--max-frames", "5")
    warning = f"warning: {name}: an earlier run left this unfinished"
    warning += "; --resume begins it anew and leaves alone what is done" if out.endswith("/") else ""
    refused = run("video", "long.mp4", "-o", out, *short, cwd=here)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [warning, f"error: {name} exists: pass -y to overwrite"]
    if out.endswith("/"):
        assert run("video", "long.mp4", "-o", out, *short, "--resume", cwd=here).stderr == ""
    else:
        assert run("video", "long.mp4", "-o", out, *short, "-y", cwd=here).stderr == f"{warning}\n"
    assert run("video", "long.mp4", "-o", out, *short, "-y", cwd=here).stderr == "", "it is told once"
