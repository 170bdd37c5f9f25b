"""``ssdcam export`` from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..faults.running import run_here
from .commands import ssdcam


@pytest.mark.parametrize(
    ("format_name", "name", "needs"),
    [
        ("torchscript", "out.torchscript", []),
        pytest.param("openvino", "out.xml", ["openvino", "onnx"], marks=pytest.mark.slow),
        pytest.param("onnx", "out.onnx", ["onnx", "onnxscript", "onnxruntime"], marks=pytest.mark.slow),
    ],
)
def test_says_what_it_wrote_and_checked(
    format_name: str, name: str, needs: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    for package in needs:
        pytest.importorskip(package, reason="needs a runtime: pip install 'ssdcam[onnx,openvino]'")
    (tmp_path / name).write_text("old")
    arguments = ["-m", tiny_model, "--format", format_name, "--nms", "--max-det", "20", "-o", name, "-y"]
    run = ssdcam("export", *arguments, cwd=tmp_path)
    assert (run.code, run.err) == (0, "")
    line = (
        rf"{re.escape(name)}: ssd300-mobilenet-v1, 3 labels; checked: differs from torch by at most [\de.-]+ "
        r"on batches of 1 and 3, (the same \d+ detections|all but \d+ of \d+ detections the same)\n"
    )
    assert re.fullmatch(line, run.out)
    assert (tmp_path / name).read_bytes() != b"old"
    assert {path.suffix for path in tmp_path.iterdir()} == (
        {".xml", ".bin"} if format_name == "openvino" else {Path(name).suffix}
    )


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--format", "torchscript", "-o", "old.pt"], 2, "old.pt exists: pass -y to overwrite"),
        (["--format", "openvino", "-o", "old.xml"], 2, "old.bin exists: pass -y to overwrite"),
        (
            ["--format", "torchscript", "-o", "out.onnx"],
            2,
            "out.onnx: the name of a file for torchscript must end in .pt",
        ),
        (["--format", "openvino", "-o", "out.bin"], 2, "out.bin: the name of a file for openvino must end in .xml"),
        (["--format", "torchscript", "-o", "link.pt", "-y"], 2, "link.pt: is an input itself"),
        (["--format", "torchscript", "-o", "gone/out.pt"], 2, "gone: no such folder"),
        (["--format", "torchscript", "-o", "folder.pt", "-y"], 1, ".*folder.pt: cannot be written: is no file"),
        (["--format", "torchscript", "-o", f"{'x' * 260}.pt"], 1, "xxx.*: cannot be written: File name too long"),
        (["--format", "torchscript", "-o", "out.pt", "--score", "0.3"], 2, ".*give --nms, too"),
        (["--format", "torchscript", "-o", "out.pt", "--opset", "20"], 2, "opset 20: torchscript has none"),
        (["--format", "onnx", "-o", "out.onnx", "--opset", "3"], 2, "opset 3: ssdcam writes 18 to"),
        (["--format", "openvino", "-o", "out.xml", "--precision", "bf16"], 2, ".*'bf16' is not one of"),
        (
            ["--format", "openvino", "-o", "out.xml", "--precision", "int8"],
            2,
            "precision int8 .*: give --calibrate DIR",
        ),
        (["--format", "torchscript", "-o", "out.pt", "--precision", "int8"], 2, "precision int8: not in torchscript"),
        (["--format", "onnx", "-o", "out.onnx", "--calibrate", "."], 2, "calibration is for precision int8"),
        (["--format", "tensorrt", "-o", "out.engine"], 2, ".*'tensorrt' is not one of"),
        (["--format", "torchscript", "-o", "out.pt", "-m", "nosuch"], 2, "nosuch: no such checkpoint file"),
        (["-o", "out.pt"], 2, ".*--format"),
    ],
)
def test_refuses(
    arguments: list[str], code: int, complaint: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.safetensors").write_bytes(tiny_model.read_bytes())
    (tmp_path / "link.pt").symlink_to("tiny.safetensors")
    (tmp_path / "old.pt").write_text("precious")
    (tmp_path / "old.bin").write_text("precious")
    (tmp_path / "folder.pt").mkdir()
    before = sorted(tmp_path.iterdir())
    run = run_here(["export", "-m", "tiny.safetensors", *arguments])
    assert (run.code, run.out) == (code, "")
    assert run.err.count("\n") == 1
    assert re.match(f"error: {complaint}", run.err)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.pt").read_text() == (tmp_path / "old.bin").read_text() == "precious"
