"""``ssdcam eval`` from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdcam.detection.engines import ENGINES

from ..datasets import made
from ..datasets.made import LAYOUTS, Thing
from .commands import TIMEOUT, Run, Terminal, ssdcam

Arguments = list[str | Path]

INDEPENDENT = Path(__file__).parents[1] / "evaluation/independent_voc.py"


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Arguments:
    """The command with a detector of ants, bees and cats."""
    return ["eval", "-m", tiny_model, "--device", "cpu"]


def figures(run: Run) -> dict[str, Any]:
    assert (run.code, run.complaints) == (0, [])
    values: dict[str, Any] = json.loads(run.out)
    return values


def part_of_voc(shared: Path, count: int, folder: Path) -> Path:
    """The first photos of val as a data set."""
    root = shared / "data/voc"
    names = (root / "ImageSets/Main/val.txt").read_text().split()[:count]
    made.write(folder / "ImageSets/Main/val.txt", "\n".join(names))
    for kind, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        (folder / kind).mkdir()
        for name in names:
            (folder / kind / f"{name}.{suffix}").symlink_to(root / kind / f"{name}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def hundred(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred real photos."""
    return part_of_voc(shared, 100, tmp_path_factory.mktemp("data") / "voc")


@pytest.fixture(scope="module")
def result(hundred: Path, coco_tflite: Path) -> dict[str, Any]:
    """What a published detector is worth on them."""
    return figures(ssdcam("eval", hundred, "-m", coco_tflite, "--device", "cpu", "--json"))


class TestRealDetector:
    """A published detector on real photos."""

    def test_equals_an_independent_evaluation(self, result: dict[str, Any], hundred: Path, coco_tflite: Path) -> None:
        command = [sys.executable, INDEPENDENT, hundred, "-m", coco_tflite]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout.splitlines()
        expected = {name: float(ap) for name, ap, *_ in map(str.split, lines) if ap != "nan"}
        assert result["map"] == pytest.approx(expected.pop("mAP"), abs=5.1e-5)  # it prints four decimals
        assert result["classes"] == pytest.approx(expected, abs=5.1e-5)
        assert result["images"] == 100
        assert (result["engine"] in ENGINES, result["device"], result["precision"] != "auto") == (True, "cpu", True)

    def test_records_give_the_same(
        self, result: dict[str, Any], hundred: Path, coco_tflite: Path, tmp_path: Path
    ) -> None:
        records = tmp_path / "found.json"
        options = ["-m", coco_tflite, "--device", "cpu", "--score", ".01"]
        assert ssdcam("image", hundred / "JPEGImages", *options, "--records", records).code == 0
        again = figures(ssdcam("eval", "--ground-truth", hundred, "--detections", records, "--json"))
        assert again["map"] == pytest.approx(result["map"], abs=2e-3)  # records are rounded
        assert again["detections"] == pytest.approx(result["detections"], rel=1e-3)
        assert again["not_in_data"] == result["not_in_data"]
        assert again["left_out"] == result["left_out"]
        assert "engine" not in again

    @pytest.mark.slow
    def test_all_of_val(self, shared: Path, coco_tflite: Path) -> None:
        options = ["-m", coco_tflite, "--device", "cpu", "--precision", "fp32"]  # in bf16 it is .5338
        result = figures(ssdcam("eval", shared / "data/voc", *options, "--json"))
        assert result["map"] == pytest.approx(0.5350, abs=5e-4)
        assert result["images"] == 1002


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same(name: str, tiny: Arguments, tmp_path: Path) -> None:
    result = figures(ssdcam(*tiny, LAYOUTS[name](tmp_path / name), "--json", "--split", "train"))
    reference = figures(ssdcam(*tiny, LAYOUTS["voc"](tmp_path / "reference"), "--json", "--split", "train"))
    assert result == reference
    assert result["classes"].keys() == {"cat"}
    assert result["left_out"] == ["dog", "potted plant"]
    assert result["not_in_data"] == ["ant", "bee"]
    assert (result["metric"], result["images"], result["ground_truths"], result["skipped"]) == ("voc07", 3, 2, 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made.voc(tmp_path / "data")


def perfect(path: Path) -> Path:
    """Records of what is there in val, and of a photo that is not."""
    lines = [
        {
            "source": f"elsewhere/{name}.jpg",
            "width": made.WIDTH,
            "height": made.HEIGHT,
            "detections": [{"label": t.label, "class_id": 0, "score": 0.6, "box": t.box} for t in things],
        }
        for name, things in made.VAL.items()
    ]
    return made.write(path, "".join(f"{json.dumps(line)}\n" for line in lines))


class TestRecords:
    @pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
    @pytest.mark.parametrize("layout", ["voc", "coco", "yolo"])
    def test_perfect_ones(self, layout: str, metric: str, tmp_path: Path) -> None:
        records, data = perfect(tmp_path / "r.jsonl"), LAYOUTS[layout](tmp_path / "data")
        result = figures(ssdcam("eval", "--ground-truth", data, "--detections", records, "--metric", metric, "--json"))
        assert result["map"] == result["map50"] == pytest.approx(1)
        assert result["classes"] == {"cat": 1, "dog": 1, "potted plant": None}

    def test_a_list_of_coco_results(self, tmp_path: Path) -> None:
        truth = made.write(tmp_path / "truth.json", json.dumps(made.coco_json(made.VAL)))  # without its pictures
        results = [
            {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
            for one in made.coco_json(made.VAL)["annotations"]
        ]
        found = made.write(tmp_path / "found.json", json.dumps(results))
        run = ssdcam("eval", "--ground-truth", truth, "--detections", found, "--json")
        assert figures(run)["map"] == 1
        made.coco(tmp_path / "folder")
        run = ssdcam("eval", "--ground-truth", tmp_path / "folder", "--detections", found, "--json")
        assert figures(run)["map"] == 1
        run = ssdcam("eval", "--ground-truth", made.voc(tmp_path / "voc"), "--detections", found)
        assert run.code == 2
        assert "need a COCO ground truth" in run.err

    def test_score_and_classes(self, data: Path, tmp_path: Path) -> None:
        mode = ["eval", "--ground-truth", data, "--detections", perfect(tmp_path / "r.jsonl"), "--json"]
        assert figures(ssdcam(*mode, "--score", ".7"))["map"] == 0
        one = figures(ssdcam(*mode, "--classes", "Dog"))
        assert (one["classes"], one["left_out"]) == ({"dog": 1}, ["cat", "potted plant"])
        run = ssdcam(*mode, "--classes", "zebra")
        assert run.code == 2
        assert "the data set has no class 'zebra'" in run.err

    def test_photos_that_nobody_looked_at_have_nothing_found(self, data: Path, tmp_path: Path) -> None:
        lines = perfect(tmp_path / "r.jsonl").read_text().splitlines()
        records = made.write(tmp_path / "r.jsonl", f"{lines[0]}\n{lines[1].replace('e.jpg', 'zzz.jpg')}\n")
        run = ssdcam("eval", "--ground-truth", data, "--detections", records, "--json")
        assert run.code == 0
        assert run.complaints == [f"warning: {records}: not in the data set and passed over: elsewhere/zzz.jpg"]
        assert json.loads(run.out)["classes"] == {"cat": 0, "dog": 1, "potted plant": None}


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "give DATA"),
            (["--ground-truth", "x"], "give DATA"),
            (["--detections", "x.jsonl"], "needs --ground-truth"),
            (["x", "--ground-truth", "x", "--detections", "x.jsonl"], "no DATA beside it"),
            (
                ["--ground-truth", "x", "--detections", "y", "-m", "m", "--max-det", "3"],
                "--model, --max-det: means nothing",
            ),
            (
                ["--ground-truth", "x", "--detections", "y", "--family", "f", "--boxes", "voc", "--offline"],
                "--family, --boxes, --offline: means nothing",
            ),
            (["--ground-truth", "x", "--detections", "y.jsonl", "--classes", " ,"], "--classes names no class"),
            (["x", "--metric", "best"], "'best' is not one of"),
        ],
    )
    def test_is_told(self, arguments: list[str], complaint: str) -> None:
        run = ssdcam("eval", *arguments)
        assert (run.code, run.out, len(run.complaints)) == (2, "", 1)
        assert complaint in run.err

    def test_no_data_set(self, tiny: Arguments, tmp_path: Path) -> None:
        run = ssdcam(*tiny, tmp_path)
        assert (run.code, run.out) == (1, "")
        assert run.complaints[0].startswith(f"error: {tmp_path}: is no data set: looked for ")

    def test_no_common_class(self, tiny: Arguments, data: Path) -> None:
        for split in ("train", "val"):
            for name in made.SPLITS[split]:
                made.write(data / f"Annotations/{name}.xml", made.voc_xml([Thing("dog", (1, 1, 9, 9))]))
        run = ssdcam(*tiny, data)
        assert (run.code, run.complaints) == (1, [f"error: {data}: the detector knows none of its classes, dog"])

    def test_records_that_are_none(self, data: Path, tmp_path: Path) -> None:
        records = made.write(tmp_path / "r.jsonl", '{"source": ')
        run = ssdcam("eval", "--ground-truth", data, "--detections", records)
        assert (run.code, run.out, len(run.complaints)) == (1, "", 1)
        assert "line 1" in run.err


def test_damage_is_listed_and_the_rest_scored(tiny: Arguments, data: Path) -> None:
    (data / "JPEGImages/a.jpg").write_bytes(b"no picture")
    (data / "JPEGImages/b.jpg").unlink()
    made.write(data / "Annotations/c.xml", made.voc_xml([Thing("cat", (9, 9, 9, 20)), Thing("cat", (1, 1, 50, 50))]))
    run = ssdcam(*tiny, data, "--split", "train", "--json")
    assert run.code == 1
    result = json.loads(run.out)
    assert (result["images"], result["skipped"], result["ground_truths"]) == (1, 2, 1)
    assert sorted(Path(line.split(": ")[1]).name for line in run.complaints) == ["a.jpg", "b.jpg", "c.xml"]


def test_a_table_for_people_and_plots(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    records, plots = perfect(tmp_path / "r.jsonl"), tmp_path / "new/plots"
    run = ssdcam("eval", "--ground-truth", data, "--detections", records, "--metric", "coco", "--plots", plots)
    assert (run.code, run.complaints) == (0, [])
    assert re.search(r"^dog +1\.0000 1\.0000 +1 +1$", run.out, re.MULTILINE)
    assert re.search(r"^potted plant +- +- +0 +0$", run.out, re.MULTILINE)
    assert "2 photos, metric coco" in run.out
    assert sorted(path.name for path in plots.iterdir()) == ["confusion.png", "precision_recall.png"]


def test_the_help_states_the_score() -> None:
    run = ssdcam("eval", "--help")
    assert re.search(r"--score .*?0\.01", run.out, re.DOTALL)
    assert run.code == 0


class TestLongRun:
    @pytest.fixture
    def many(self, data: Path) -> Path:
        """A data set of 400 photos."""
        names = [f"x{i:03}" for i in range(400)]
        made.write(data / "ImageSets/Main/many.txt", "\n".join(names))
        for name in names:
            os.link(data / "JPEGImages/a.jpg", data / f"JPEGImages/{name}.jpg")
            os.link(data / "Annotations/a.xml", data / f"Annotations/{name}.xml")
        return data

    def test_shows_progress_and_stops_on_ctrl_c(self, tiny: Arguments, many: Path) -> None:
        terminal = Terminal(*tiny, many, "--split", "many")
        terminal.read_until(b"/400")
        terminal._process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert b"Traceback" not in terminal.seen

    def test_stops_on_sigterm(self, tiny: Arguments, many: Path, tmp_path: Path) -> None:
        terminal = Terminal(*tiny, many, "--split", "many", stdout=tmp_path / "out")
        terminal.read_until(b"/400")
        terminal._process.send_signal(signal.SIGTERM)
        assert terminal.end() == 143
        assert b"Traceback" not in terminal.seen
        assert not (tmp_path / "out").read_bytes()

    def test_says_the_first_problems_only(self, tiny: Arguments, many: Path) -> None:
        for i in range(100, 130):
            (many / f"JPEGImages/x{i}.jpg").unlink()
        mode = ["eval", "--ground-truth", many, "--split", "many"]
        records = many / "r.jsonl"
        line = {"source": "x000.jpg", "width": made.WIDTH, "height": made.HEIGHT, "detections": []}
        made.write(records, json.dumps(line))
        (many / "Annotations/x399.xml").unlink()
        for i in range(30):
            os.unlink(many / f"Annotations/x{200 + i}.xml")  # noqa: PTH108
        run = ssdcam(*mode, "--detections", records)
        assert run.code == 1
        assert (len(run.complaints), run.complaints[-1]) == (21, "warning: and 11 more problems (-v shows them)")
        assert len(ssdcam(*mode, "--detections", records, "-v").complaints) == 31
        assert np.all(["x2" in line or "x399" in line for line in run.complaints[:-1]])
