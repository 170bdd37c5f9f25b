"""``ssdcam weights`` from outside."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdcam.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, spec_from_json, spec_to_json
from ssdcam.checkpoints.labels import COCO_WITH_GAPS
from ssdcam.checkpoints.tflite import load_tflite

from ..conftest import TINY_LABELS
from .commands import ssdcam, start


class TestInfo:
    def test_for_people(self, tiny_model: Path) -> None:
        run = ssdcam("weights", "info", tiny_model)
        assert (run.code, run.err) == (0, "")
        facts = dict(line.split(maxsplit=1) for line in run.out.splitlines())
        assert facts["architecture"] == "ssd300-mobilenet-v1 width=0.1"
        assert facts["input"].startswith("300x300 RGB, minus (127.5, 127.5, 127.5)")
        assert facts["default"].startswith("boxes  1,917 on 6 feature maps")
        assert facts["scores"] == "sigmoid with background"
        assert facts["NMS"].startswith("IoU 0.6, 100 before, 100 after")
        assert facts["labels"] == f"3: {', '.join(TINY_LABELS)}"
        assert facts["parameters"].endswith("(float32)")

    def test_json_is_the_whole_spec(self, tiny_model: Path) -> None:
        run = ssdcam("weights", "info", tiny_model, "--json")
        assert (run.code, run.err) == (0, "")
        assert len(run.out.splitlines()) == 1
        assert spec_from_json(run.out) == load_checkpoint(tiny_model).spec

    def test_of_a_tflite_file(self, coco_tflite: Path) -> None:
        run = ssdcam("weights", "info", coco_tflite, "--json")
        assert (run.code, run.err) == (0, "")
        spec = spec_from_json(run.out)
        assert spec.architecture == "ssd300-mobilenet-v1"
        assert spec.options == {"width": 0.75}
        assert spec.labels == COCO_WITH_GAPS
        assert spec.boxes.num_boxes == 1917
        assert "detect.tflite" in spec.provenance["source"]

    def test_names_from_a_file(self, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("Ameise\nBiene\nKatze 猫\n", "utf-8")
        run = ssdcam("weights", "info", tiny_model, "--json", "--labels", tmp_path / "names.txt")
        assert json.loads(run.out)["labels"] == ["Ameise", "Biene", "Katze 猫"]

    def test_what_a_checkpoint_says_does_not_steer_the_terminal(
        self, tiny_checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        said: dict[str, Any] = spec_to_json(tiny_checkpoint.spec)
        said |= {
            "labels": ["a\x1b[31m", "b\nc", "d"],
            "provenance": {"\x1b[2J": "\r\x1b[1A"},
            "architecture": "\x1b[0m",
        }
        evil = Checkpoint(spec_from_json(json.dumps(said)), tiny_checkpoint.weights)
        save_checkpoint(evil, tmp_path / "evil.safetensors")
        for arguments in (["info", "evil.safetensors"], ["convert", "evil.safetensors", "-o", "copy.safetensors"]):
            run = ssdcam("weights", *arguments, cwd=tmp_path)
            assert (run.code, run.err) == (0, "")
            assert "\x1b" not in run.out
            assert "\r" not in run.out


class TestConvert:
    def test_a_converted_checkpoint_is_the_same_detector(
        self, coco_tflite: Path, cats_photo: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "coco.safetensors"
        run = ssdcam("weights", "convert", coco_tflite, "-o", out)
        assert (run.code, run.err) == (0, "")
        assert run.out == f"{out}: ssd300-mobilenet-v1, 90 labels\n"

        before, after = load_tflite(coco_tflite), load_checkpoint(out)
        assert after.spec == before.spec
        assert after.weights.keys() == before.weights.keys()
        for name, array in before.weights.items():
            np.testing.assert_array_equal(after.weights[name], array)

        seen = [
            ssdcam("image", cats_photo, "-m", model, "--score", ".2", "--json", "--device", "cpu")
            for model in (coco_tflite, out)
        ]
        assert (seen[0].code, seen[0].out) == (seen[1].code, seen[1].out)
        assert len(seen[0].records[0]["detections"]) > 4

    def test_names_are_stored(self, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
        out = tmp_path / "out.safetensors"
        run = ssdcam("weights", "convert", tiny_model, "-o", out, "--labels", tmp_path / "names.txt")
        assert (run.code, run.err) == (0, "")
        assert load_checkpoint(out).spec.labels == ("one", "two", "three")

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            # What exists is not replaced without being told to, nobody being there to be asked.
            (["tiny.safetensors", "-o", "old.safetensors"], 2, "old.safetensors exists: pass -y to overwrite"),
            # Nor is the input, whatever was said.
            (["tiny.safetensors", "-o", "tiny.safetensors", "-y"], 2, "tiny.safetensors: is the input itself"),
            (["tiny.safetensors", "-o", "link.safetensors", "-y"], 2, "link.safetensors: is the input itself"),
            (["link.safetensors", "-o", "tiny.safetensors", "-y"], 2, "tiny.safetensors: is the input itself"),
            (["tiny.safetensors", "-o", "out.pt"], 2, "out.pt: the output's name must end in .safetensors"),
            (["tiny.safetensors", "-o", "gone/out.safetensors"], 2, "gone: no such folder"),
            (["nosuch", "-o", "out.safetensors"], 2, "nosuch: no such checkpoint file"),
            (["text", "-o", "old.safetensors", "-y"], 1, "text: is no checkpoint that ssdcam reads"),
            (["cut.safetensors", "-o", "old.safetensors", "-y"], 1, "cut.safetensors: cannot be read"),
            (["tiny.safetensors", "-o", "folder.safetensors", "-y"], 1, "folder.safetensors: cannot be written"),
            (["tiny.safetensors", "-o", f"{'x' * 250}.safetensors"], 1, "xxx.*: cannot be written: File name too long"),
        ],
    )
    def test_refuses(self, arguments: list[str], code: int, complaint: str, tiny_model: Path, tmp_path: Path) -> None:
        data = tiny_model.read_bytes()
        (tmp_path / "tiny.safetensors").write_bytes(data)
        (tmp_path / "cut.safetensors").write_bytes(data[:-1])
        (tmp_path / "old.safetensors").write_bytes(b"precious")
        (tmp_path / "link.safetensors").symlink_to("tiny.safetensors")
        (tmp_path / "folder.safetensors").mkdir()
        (tmp_path / "text").write_text("no checkpoint, but long enough to look at")
        before = sorted(tmp_path.iterdir())
        run = ssdcam("weights", "convert", *arguments, cwd=tmp_path)
        assert (run.code, run.out) == (code, "")
        assert len(run.complaints) == 1
        assert re.match(f"error: {complaint}", run.err)
        assert sorted(tmp_path.iterdir()) == before
        assert (tmp_path / "tiny.safetensors").read_bytes() == data
        assert (tmp_path / "old.safetensors").read_bytes() == b"precious"

    def test_replaces_when_told_to(self, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "old.safetensors").write_bytes(b"old")
        run = ssdcam("weights", "convert", tiny_model, "-o", tmp_path / "old.safetensors", "-y")
        assert (run.code, run.err) == (0, "")
        assert (tmp_path / "old.safetensors").read_bytes() == tiny_model.read_bytes()

    def test_killed_in_the_middle(self, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
        """The output is the old file or the new one, whole, at whatever moment the process is killed."""
        old, new, out = (tmp_path / f"{name}.safetensors" for name in ("old", "new", "out"))
        # Large enough to take a while to write.
        ballast = {"ballast": np.random.default_rng(0).random(10_000_000, np.float32)}
        save_checkpoint(tiny_checkpoint, old)
        save_checkpoint(Checkpoint(tiny_checkpoint.spec, {**tiny_checkpoint.weights, **ballast}), new)
        contents = {old.read_bytes(), new.read_bytes()}
        seen = set()
        for i in range(10):
            out.write_bytes(old.read_bytes())
            process = start("weights", "convert", new, "-o", out, "-y")
            if i < 9:
                wait_for_part(tmp_path, process)
                time.sleep(0.01 * i)
                process.kill()
            process.communicate()
            content = out.read_bytes()
            assert content in contents
            seen.add(content)
            for part in tmp_path.glob(".*"):
                part.unlink()
        assert seen == contents


def wait_for_part(folder: Path, process: Any) -> None:
    """Wait until a file is being written, or has been."""
    while process.poll() is None and not list(folder.glob(".ssdcam-*")):
        time.sleep(0.001)
