from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ssdcam.checkpoints import resolve
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.checkpoints.resolve import EMBEDDED, open_checkpoint
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError

from ..conftest import TINY_LABELS


def test_a_file(tiny_model: Path, tiny_checkpoint: Checkpoint) -> None:
    for model in (tiny_model, str(tiny_model)):
        assert open_checkpoint(model).spec == tiny_checkpoint.spec


@pytest.mark.parametrize("name", ["no suffix", "wrong.tflite", "-m", "*.safetensors", "new\nline", "bad\udcff"])
def test_the_family_is_told_by_content_not_by_name(name: str, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(tiny_model.read_bytes())
    assert open_checkpoint(path).spec.labels == TINY_LABELS


def test_a_tflite_file_of_another_name(coco_tflite: Path, tmp_path: Path) -> None:
    path = tmp_path / "coco.safetensors"
    path.symlink_to(coco_tflite)
    assert len(open_checkpoint(path).spec.labels) == 90


def test_a_file_in_the_current_folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model.parent)
    assert open_checkpoint(tiny_model.name).spec.labels == TINY_LABELS


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_detector(name: str) -> None:
    assert open_checkpoint(name).spec.labels


def test_the_default_is_the_first_embedded_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(tiny_model.read_bytes())
    monkeypatch.setattr(resolve, "EMBEDDED", ("tiny", "other"))
    monkeypatch.setattr(resolve.resources, "files", lambda package: tmp_path)
    assert open_checkpoint().spec.labels == open_checkpoint("tiny").spec.labels == TINY_LABELS


@pytest.mark.parametrize("name", ["nosuch", "ssd300", "folder/nosuch.safetensors", "x" * 300, "circle", "dangling"])
def test_no_such_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(WrongUsageError, match=f"{name}: no such checkpoint file"):
        open_checkpoint(name)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"x", "is no checkpoint that ssdcam reads"),
        (b"no checkpoint of any family", "is no checkpoint that ssdcam reads"),
        (b"PK\x03\x04 a zip file as torch saves them", "is damaged, or no file of PyTorch"),
        (b"\x80\x02 a pickle as torch saved them", "is damaged, or no file of PyTorch"),
        (b"\x89PNG\r\n\x1a\n a picture", "is no checkpoint that ssdcam reads"),
        (b"....TFL3", "is damaged, or no SSD|needs the tflite package"),
        (b"\x10\0\0\0\0\0\0\0{", "cannot be read"),
        (b"\xff" * 8 + b"{}", "cannot be read"),
    ],
)
def test_files_of_no_family(content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises((CheckpointError, UnavailableError), match=f"model: ({complaint})"):
        open_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("name", ["voc.onnx", "voc.xml"])
def test_an_export_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x09\x12\x07pytorch")
    with pytest.raises(CheckpointError, match=f"{name}: is for other programs, if ssdcam export wrote it"):
        open_checkpoint(tmp_path / name)


def test_a_program_of_pytorch_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(100, 100), torch.zeros(1, 100)).save(tmp_path / "voc.pt")
    with pytest.raises(CheckpointError, match=r"voc\.pt: is for other programs, if ssdcam export wrote it"):
        open_checkpoint(tmp_path / "voc.pt")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder: name a checkpoint file in it$"):
        open_checkpoint(tmp_path)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"in it, such as .*best\.safetensors$"):
        open_checkpoint(tmp_path)


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="root reads what nobody may")
def test_a_file_closed_to_us(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "closed"
    path.write_bytes(tiny_model.read_bytes())
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        open_checkpoint(path)


class TestLabels:
    def test_names_from_a_file(self, tiny_model: Path, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
        checkpoint = open_checkpoint(tiny_model, tmp_path / "names.txt")
        assert checkpoint.spec.labels == ("one", "two", "three")
        assert checkpoint.weights.keys() == tiny_checkpoint.weights.keys()

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_names_of_another_number(self, count: int, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("name\n" * count)
        with pytest.raises(WrongUsageError, match=f"names.txt names {count} classes, but .* has 3"):
            open_checkpoint(tiny_model, tmp_path / "names.txt")

    @pytest.mark.parametrize("first", ["BACKGROUND", "background", "__background__", "???"])
    def test_a_background_that_stands_first(self, first: str, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text(f"{first}\none\ntwo\nthree\n")
        assert open_checkpoint(tiny_model, tmp_path / "names.txt").spec.labels == ("one", "two", "three")

    def test_a_class_that_is_called_background(self, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("background\none\ntwo\n")
        assert open_checkpoint(tiny_model, tmp_path / "names.txt").spec.labels == ("background", "one", "two")

    def test_a_published_label_map(self, coco_tflite: Path) -> None:
        labels = open_checkpoint(coco_tflite, coco_tflite.parent / "labelmap.txt").spec.labels
        assert (len(labels), labels[0], labels[89]) == (90, "person", "toothbrush")
