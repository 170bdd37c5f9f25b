"""``kernels.cu`` against torch and the numpy twin: compiled for the CPU if there is g++, and on a GPU if there is one.

On the CPU its threads are threads where they wait for each other, so that what it does in which order is tested, though
not what CUDA makes of it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssdcam.benchmarking.synthetic import detector_like
from ssdcam.detection import cuda_kernels
from ssdcam.detection.cuda_kernels import CudaConvolution, JointHeads, Norm, Pool, Select, kernels_for
from ssdcam.detection.detector import choose
from ssdcam.errors import CheckpointError
from ssdcam.ssd import host, postprocess
from ssdcam.ssd.architectures import ARCHITECTURES, build_network, new_spec
from ssdcam.ssd.backbones.vgg import ChannelNorm
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import NmsFigures, Selection

LABELS = [f"label {i}" for i in range(20)]
SOFTMAX = new_spec("ssd300-vgg16", LABELS)
SIGMOID = new_spec("ssd300-mobilenet-v1", LABELS)


class Emulated:
    """As :class:`ssdcam.detection.nvrtc.Kernels`, on the CPU."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(self, name: str, grid: tuple[int, int, int], threads: int, *arguments: Any) -> None:
        self._library[f"run_{name}"]((ctypes.c_int * 3)(*grid), threads, *map(ctypes.byref, arguments))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Path]:
    """``kernels.cu`` for the CPU, by what it computes in."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("kernels")
    source = Path(cuda_kernels.__file__).with_name("kernels.cu")
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", f'-DKERNELS="{source}"']
    options += ["-x", "c++", str(Path(__file__).with_name("cuda_on_cpu.hpp"))]
    made = {torch.float32: folder / "single.so", torch.float16: folder / "half.so"}
    for dtype, path in made.items():
        command = [compiler, *options, *(["-DHALF"] if dtype == torch.float16 else []), "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if any(sign in done.stderr for sign in ("unrecognized command", "barrier: No such file", "_Float16")):
            pytest.skip("needs a g++ that knows C++20 and _Float16")
        assert done.returncode == 0, done.stderr
    return made


ON_CUDA = ["cuda fp32", "cuda fp16", "cuda bf16"]


@pytest.fixture(params=["emulated fp32", *ON_CUDA])
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, torch.device, torch.dtype]]:
    """Kernels, and the device and dtype that they are for."""
    kind, _, precision = request.param.partition(" ")
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    if kind == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        kernels = kernels_for(torch.device("cuda"), dtype)
        assert kernels
        yield kernels, torch.device("cuda"), dtype
        return
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(cuda_kernels, "_wait", lambda: None)
    monkeypatch.setattr(cuda_kernels, "_THREADS", 64)
    monkeypatch.setattr(cuda_kernels, "_SUPPRESSING", 4)
    yield Emulated(request.getfixturevalue("libraries")[dtype]), torch.device("cpu"), dtype


def agree(ours: host.PackedBoxes, theirs: host.PackedBoxes) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-5)


def both(
    place: tuple[Any, torch.device, torch.dtype], spec: Any, selection: Selection, *outputs: np.ndarray
) -> tuple[host.PackedBoxes, host.PackedBoxes]:
    """What the kernels and what the twin make of a network's output, as the device has it."""
    kernels, device, dtype = place
    locations, raw_scores = (torch.from_numpy(part).to(device, dtype) for part in outputs)
    defaults = torch.from_numpy(default_boxes(spec.boxes)).to(device)
    select = Select(kernels, defaults, spec)
    ours = postprocess.postprocess(locations, raw_scores, defaults, spec, selection, select)
    arrays = (part.float().cpu().numpy() for part in (locations, raw_scores, defaults))
    return ours, host.postprocess(*arrays, spec, selection)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernels leave to torch or to the twin fails."""
    monkeypatch.delattr(postprocess, "_select")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("spec", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("score", "figures"),
    [(0.5, NmsFigures()), (0.05, NmsFigures(0.3, 20, 50)), (0.1, NmsFigures(class_agnostic=True))],
    ids=["some", "many", "agnostic"],
)
def test_selects_what_the_twin_selects(place: Any, spec: Any, figures: NmsFigures, score: float) -> None:
    ours, theirs = both(place, spec, Selection(score, figures), *detector_like(spec, 3))
    assert len(theirs.scores) > 10
    agree(ours, theirs)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("classes", [(3,), (0, 1, 2), (19, 4, 7)])
def test_some_classes(place: Any, classes: tuple[int, ...]) -> None:
    ours, theirs = both(place, SOFTMAX, Selection(0.1, NmsFigures(), classes), *detector_like(SOFTMAX, 2))
    assert set(theirs.class_ids.tolist()) <= set(classes)
    agree(ours, theirs)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("agnostic", [False, True], ids=["by class", "agnostic"])
def test_equal_scores_rank_as_in_the_twin(place: Any, agnostic: bool) -> None:
    locations, raw_scores = detector_like(SIGMOID, 2)
    raw_scores = np.where(raw_scores > -1, 1.0, -9.0).astype(np.float32)
    ours, theirs = both(place, SIGMOID, Selection(0.5, NmsFigures(class_agnostic=agnostic)), locations, raw_scores)
    assert len(theirs.scores) > 10
    agree(ours, theirs)


@pytest.mark.parametrize("place", ["emulated fp32", "emulated fp16", *ON_CUDA], indirect=True)
@pytest.mark.usefixtures("alone")
def test_nothing_found(place: Any) -> None:
    locations, raw_scores = detector_like(SOFTMAX, 2)
    ours, theirs = both(place, SOFTMAX, Selection(0.999999, NmsFigures()), locations, 0 * raw_scores)
    assert len(theirs.scores) == 0
    agree(ours, theirs)


def test_too_many_candidates_are_left_to_others(place: Any) -> None:
    """Of the second image, which has ten times as many as fit; the first one is right, too."""
    locations, raw_scores = detector_like(SOFTMAX, 2)
    raw_scores[1] = 0
    selection = Selection(1 / 22, NmsFigures(after=20))
    ours, theirs = both(place, SOFTMAX, selection, locations, raw_scores)
    agree(ours, theirs)
    kernels, device, dtype = place
    defaults = torch.from_numpy(default_boxes(SOFTMAX.boxes)).to(device)
    parts = (torch.from_numpy(part).to(device, dtype) for part in (locations, raw_scores))
    packed = Select(kernels, defaults, SOFTMAX)(*parts, selection)
    assert packed is not None
    assert packed[:, 0, 1].tolist() == [1, 0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", [0, 1], ids=["locations", "scores"])
def test_what_is_no_number_is_told_of(place: Any, output: int, wrong: float) -> None:
    outputs = detector_like(SOFTMAX, 2)
    best = outputs[1][1, :, 1:].max(axis=1).argmax()
    outputs[output][1, best, 1] = wrong
    with pytest.raises(CheckpointError, match="infinite or no number"):
        both(place, SOFTMAX, Selection(0.5, NmsFigures()), *outputs)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(place: Any, name: str) -> None:
    """Their coders, score functions and figures for NMS."""
    spec = new_spec(name, LABELS)
    ours, theirs = both(place, spec, choose(spec, score=0.3), *detector_like(spec, 1))
    assert len(theirs.scores)
    agree(ours, theirs)


def test_a_call_that_was_interrupted_leaves_nothing_to_the_next(place: Any) -> None:
    kernels, device, dtype = place
    locations, raw_scores = (torch.from_numpy(part).to(device, dtype) for part in detector_like(SOFTMAX, 1))
    selection = Selection(0.5, NmsFigures())
    select = Select(kernels, torch.from_numpy(default_boxes(SOFTMAX.boxes)).to(device), SOFTMAX)
    expected = select(locations, raw_scores, selection)
    assert expected is not None
    assert expected[0, 0, 0] > 3

    class Interrupted:
        def launch(self, name: str, *arguments: Any) -> None:
            if name == "suppress":
                raise KeyboardInterrupt
            kernels.launch(name, *arguments)

    select._kernels = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        select(locations, raw_scores, selection)
    select._kernels = kernels
    nothing = select(locations, torch.zeros_like(raw_scores), selection)
    assert nothing is not None
    assert nothing[0, 0].tolist()[:2] == [0, 1]


@pytest.mark.parametrize("place", ["emulated fp32", "emulated fp16", *ON_CUDA], indirect=True)
@pytest.mark.parametrize(
    ("figures", "height", "width"),
    [
        ((2, 2, 0, False), 12, 14),
        ((2, 2, 0, False), 7, 5),
        ((2, 2, 0, True), 7, 5),
        ((3, 1, 1, False), 6, 3),
        ((3, 2, 1, False), 9, 8),
        ((3, 2, 0, True), 8, 10),
        ((2, 2, 1, True), 5, 6),
    ],
)
def test_pools(place: Any, figures: tuple[int, int, int, bool], height: int, width: int) -> None:
    kernels, device, dtype = place
    generator = torch.Generator().manual_seed(height)
    x = torch.randn(3, 16, height, width, generator=generator).to(device, dtype).to(memory_format=torch.channels_last)
    x[1, 3, 2, 2] = torch.nan
    x[2, :, 0, 0] = -torch.inf
    kernel, stride, padding, ceil_mode = figures
    expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    pooled = Pool(kernels, kernel, stride, padding, ceil_mode)(x)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)


def test_channels_that_do_not_fit_are_pooled_by_torch() -> None:
    x = torch.randn(1, 6, 4, 4).to(torch.float16)
    torch.testing.assert_close(Pool(None, 2, 2, 0, False)(x), F.max_pool2d(x, 2, 2))  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_fused_convolution_reads_no_memory_but_its_own(dtype: torch.dtype) -> None:
    """cuDNN could add what lies where the output goes; and a number that is none goes on as such."""
    plain = torch.nn.Conv2d(64, 128, 3, padding=1).to("cuda", dtype).to(memory_format=torch.channels_last)
    fused = CudaConvolution(plain)
    x = torch.randn(2, 64, 38, 38, device="cuda").to(dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = F.relu(plain(x))
        for _ in range(5):
            poison = torch.full_like(expected, torch.nan)
            del poison
            torch.testing.assert_close(fused(x), expected, rtol=0.02, atol=0.02)
        x[1, 5, 20, 20] = torch.nan
        assert fused(x)[1, :, 20, 20].isnan().all()


def test_a_convolution_that_cannot_be_fused_is_computed_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.nn.Conv2d(8, 8, 3, padding=1)
    asked = []

    def nothing(*arguments: Any) -> Tensor:
        asked.append(1)
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", nothing)
    x = torch.randn(1, 8, 5, 5)
    fused = CudaConvolution(plain)
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(fused(x), F.relu(plain(x)))
    assert len(asked) == 1


@pytest.mark.parametrize("place", ["emulated fp32", "emulated fp16", *ON_CUDA], indirect=True)
def test_norms(place: Any) -> None:
    kernels, device, dtype = place
    norm = ChannelNorm(512).to(device, dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(1, 30, 512))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 512, 5, 3, generator=generator).to(device, dtype).to(memory_format=torch.channels_last)
    x[1, :, 2, 2] = 0
    with torch.no_grad():
        normed, expected = Norm(kernels, norm)(x), norm(x)
    assert normed.dtype == dtype
    torch.testing.assert_close(normed, expected)


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES} - {"ssd512-vgg16"}))
def test_joint_heads_predict_the_same(name: str) -> None:
    spec = new_spec(name, ("a", "b"))
    network = build_network(spec).eval()
    joint = JointHeads.of(network)
    plain = all(type(head) is torch.nn.Conv2d for head in (*network.loc, *network.conf))
    assert (joint is network) != plain
    x = torch.randn(2, 3, *spec.input_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps: list[Tensor] = network.backbone(x)
        network.backbone.forward = lambda _: maps  # type: ignore[assignment]
        for ours, theirs in zip(joint(x), network(x), strict=True):
            torch.testing.assert_close(ours, theirs)
