"""What running out of memory looks like in each library, provoked where it can be; and how much there is."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssdcam.cli import command_line, console
from ssdcam.errors import DatasetError, ImageError
from ssdcam.media.images import read_image
from ssdcam.memory import Memory, memory, ran_out

# More than any machine has addresses for, in bytes; OpenCV counts rows and columns in 32 bits.
FAR_TOO_MUCH = 2**50
SIDE = 2**31 - 2


def of_pyav() -> None:
    import av

    raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


PROVOKED: dict[str, Callable[[], object]] = {
    "Python": lambda: bytearray(FAR_TOO_MUCH),
    "NumPy": lambda: np.zeros(FAR_TOO_MUCH, np.uint8),
    "torch": lambda: torch.zeros(FAR_TOO_MUCH, dtype=torch.uint8),
    "OpenCV": lambda: cv2.copyMakeBorder(np.zeros((1, 1, 3)), 0, SIDE // 2, 0, SIDE // 2, cv2.BORDER_REPLICATE),
    "PyAV": of_pyav,
}


@pytest.mark.parametrize("library", PROVOKED)
def test_what_a_library_raises(library: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each has its own
        PROVOKED[library]()
    assert ran_out(caught.value), repr(caught.value)


# As seen where too little was left, or on machines that are not here.
SAID = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB, other allocations: 2.69 GB)"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
    RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"),
    RuntimeError("Caught MemoryError in DataLoader worker process 0.\nnumpy: Unable to ...: out of memory"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("can't start new thread"),
)


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:40])
def test_what_libraries_say(error: Exception) -> None:
    assert ran_out(error)


def test_where_an_error_comes_from_counts() -> None:
    outer = ValueError("in the network")
    outer.__cause__ = MemoryError()
    assert ran_out(outer)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory.jpg: no picture"),
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file", "not enough memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        KeyError("x"),
        None,
    ],
)
def test_what_is_something_else(error: Exception | None) -> None:
    assert not ran_out(error)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("train x", "a smaller --batch, --input-size, --workers or --memory takes less"),
        ("video x", "a smaller --batch takes less"),
        ("video x --threads 9", "a smaller --batch or --threads takes less"),
        ("image x", "smaller pictures or a smaller network take less"),
        ("weights list", "smaller pictures or a smaller network take less"),
    ],
)
def test_a_command_says_what_to_do(
    words: str, advice: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    invoke = command_line.ssdcam.invoke

    def short(context: object) -> None:
        monkeypatch.setattr("click.Command.invoke", fail)
        invoke(context)  # type: ignore[arg-type]

    def fail(self: object, context: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(command_line.ssdcam, "invoke", short)
    monkeypatch.setattr(console.log, "propagate", True)
    assert command_line.run(words.split()) == 1
    assert caplog.messages == [f"too little memory: {advice}"]


def test_an_error_that_names_a_file_stays(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(context: object) -> None:
        raise DatasetError("a.json: is too large") from MemoryError()

    monkeypatch.setattr(command_line.ssdcam, "invoke", fail)
    monkeypatch.setattr(console.log, "propagate", True)
    assert command_line.run(["doctor"]) == 1
    assert caplog.messages == ["a.json: is too large"]


MEMINFO = "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\nSwapTotal: 1048576 kB\n"


def test_a_machine_and_a_container(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    assert memory(info, [tmp_path]) is None
    info.write_text(MEMINFO)
    assert memory(info, [tmp_path]) == Memory(8 << 30, 4 << 30, 1 << 30)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{1 << 29}\n")
    assert memory(info, [tmp_path]) == Memory(8 << 30, 4 << 30, 1 << 30)
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    assert memory(info, [tmp_path]) == Memory(1 << 30, 1 << 29, 1 << 30)
    (tmp_path / "memory.swap.max").write_text("max\n")
    assert memory(info, [tmp_path]) == Memory(1 << 30, 1 << 29, 1 << 30)
    for allowed in (1 << 28, 0):
        (tmp_path / "memory.swap.max").write_text(f"{allowed}\n")
        assert memory(info, [tmp_path]) == Memory(1 << 30, 1 << 29, allowed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says")
def test_this_machine() -> None:
    there = memory()
    assert there
    assert 0 < there.free <= there.total


def test_a_picture_that_memory_does_not_hold_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="is damaged, or no picture that OpenCV can read"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr("ssdcam.memory._LARGEST_PICTURE", FAR_TOO_MUCH)
    with pytest.raises(ImageError, match="or too large for the memory that is left"):
        read_image(tmp_path / "a.png")
