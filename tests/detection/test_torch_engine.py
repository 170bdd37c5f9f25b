from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import Normalise, TorchEngine, find_device, load_network
from ssdcam.errors import CheckpointError, SsdcamError, UnavailableError, WrongUsageError
from ssdcam.ssd import host
from ssdcam.ssd.architectures import build_network
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import ColourOrder, Normalisation, Selection

from .. import pictures
from ..waiting import GUARD

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MPS = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple's Metal")


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.stack([pictures.noise(300, 300, seed) for seed in range(3)])


@pytest.mark.parametrize(
    "normalisation",
    [
        Normalisation("rgb", (127.5,) * 3, (127.5,) * 3),
        Normalisation("bgr", (104, 117, 123), (1, 1, 1)),
        Normalisation("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
    ids=["tensorflow", "caffe", "torchvision"],
)
def test_normalises_as_the_checkpoint_says(
    normalisation: Normalisation, tiny_checkpoint: Checkpoint, batch: np.ndarray
) -> None:
    """Colour order, mean and standard deviation are applied once, in this order."""
    checkpoint = Checkpoint(replace(tiny_checkpoint.spec, normalisation=normalisation), tiny_checkpoint.weights)
    network = build_network(checkpoint.spec).eval()
    network.load_state_dict({name: torch.tensor(array) for name, array in checkpoint.weights.items()})
    colours = batch[..., ::-1] if normalisation.colour == "rgb" else batch
    normal = (colours.astype(np.float64) - normalisation.mean) / normalisation.std
    with torch.no_grad():
        expected = network(torch.tensor(normal.transpose(0, 3, 1, 2), dtype=torch.float32))
    for actual, wanted in zip(TorchEngine(checkpoint, "cpu", "fp32").infer(batch), expected, strict=True):
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-3)


def test_says_what_it_is(tiny_checkpoint: Checkpoint) -> None:
    engine = TorchEngine(tiny_checkpoint, "cpu", "fp32")
    assert (engine.name, engine.device, engine.precision) == ("torch", "cpu", "fp32")


def test_auto_takes_the_best_there_is(tiny_checkpoint: Checkpoint) -> None:
    engine = TorchEngine(tiny_checkpoint)
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert engine.device.partition(":")[0] == kind
    bf16 = kind == "cpu" and torch.cpu._is_avx512_bf16_supported()
    assert engine.precision == ("fp16" if kind == "cuda" else "bf16" if bf16 else "fp32")


def differences(checkpoint: Checkpoint, batch: np.ndarray, device: str, precision: str) -> tuple[float, float]:
    """Mean distance of scores and locations from fp32 on the CPU."""
    engines = TorchEngine(checkpoint, "cpu", "fp32"), TorchEngine(checkpoint, device, precision)  # type: ignore[arg-type]
    (locations, raw), (other_locations, other_raw) = (
        [part.float().cpu() for part in engine.infer(batch)] for engine in engines
    )
    scores, other_scores = raw.sigmoid(), other_raw.sigmoid()
    return float((scores - other_scores).abs().mean()), float((locations - other_locations).abs().mean())


@pytest.mark.parametrize(
    ("device", "precision", "far"),
    [
        # fp16 keeps 11 bits of a number, bf16 8; each of thirty layers rounds.
        ("cpu", "fp16", 2**-7),
        ("cpu", "bf16", 2**-4),
        pytest.param("cuda", "fp32", 2**-7, marks=CUDA),
        pytest.param("cuda", "fp16", 2**-7, marks=CUDA),
        pytest.param("cuda", "bf16", 2**-4, marks=CUDA),
        pytest.param("mps", "fp32", 2**-7, marks=MPS),
        pytest.param("mps", "fp16", 2**-7, marks=MPS),
    ],
)
def test_devices_and_precisions_agree(
    device: str, precision: str, far: float, tiny_checkpoint: Checkpoint, batch: np.ndarray
) -> None:
    engine = TorchEngine(tiny_checkpoint, device, precision)  # type: ignore[arg-type]
    assert engine.precision == precision
    scores, locations = differences(tiny_checkpoint, batch, device, precision)
    assert scores < far
    assert locations < 4 * far  # locations reach 4 and more, scores 1
    if precision != "fp32":
        assert scores > 0  # it is another precision


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_decodes_to_float32_whatever_the_precision(
    precision: str, tiny_checkpoint: Checkpoint, batch: np.ndarray
) -> None:
    engine = TorchEngine(tiny_checkpoint, "cpu", precision)  # type: ignore[arg-type]
    packed = engine.decode(*engine.infer(batch), Selection(0.5, tiny_checkpoint.spec.nms))
    assert [part.dtype for part in packed] == [np.float32, np.float32, np.int64, np.int64]
    assert set(packed.images.tolist()) == {0, 1, 2}
    assert ((packed.boxes >= 0) & (packed.boxes <= 1)).all()


@pytest.fixture
def threads() -> Iterator[None]:
    """Put torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads(tiny_checkpoint: Checkpoint, threads: None) -> None:
    TorchEngine(tiny_checkpoint, "cpu", threads=1)
    assert torch.get_num_threads() == 1
    TorchEngine(tiny_checkpoint, "cpu")
    assert torch.get_num_threads() == 1


@CUDA
def test_replays_what_it_recorded(tiny_checkpoint: Checkpoint) -> None:
    """On CUDA each size of batch is recorded once; other pictures, sizes and earlier results are right all the same."""
    engine, reference = TorchEngine(tiny_checkpoint, "cuda", "fp32"), TorchEngine(tiny_checkpoint, "cpu", "fp32")
    batches = [np.stack([pictures.noise(300, 300, 10 * n + k) for k in range(n)]) for n in (1, 3, 1, 3, *range(4, 14))]
    results = [engine.infer(batch) for batch in batches]
    for batch, result in zip(batches, results, strict=True):
        for actual, expected in zip(result, reference.infer(batch), strict=True):
            assert (actual.cpu() - expected).norm() < 0.01 * expected.norm()  # convolutions are in TF32


@CUDA
def test_replays_from_several_threads(tiny_checkpoint: Checkpoint) -> None:
    engine = TorchEngine(tiny_checkpoint, "cuda", "fp32")
    batches = [pictures.noise(300, 300, k)[None] for k in range(40)]
    expected = [engine.infer(batch)[1].cpu() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for result, wanted in zip(pool.map(engine.infer, batches), expected, strict=True):
            torch.testing.assert_close(result[1].cpu(), wanted)


@CUDA
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_selects_on_cuda_what_the_cpu_selects(tiny_checkpoint: Checkpoint, precision: str) -> None:
    """By recordings, of which fewer are kept than there are sizes and thresholds here; outputs change, they stay."""
    engine = TorchEngine(tiny_checkpoint, "cuda", precision)  # type: ignore[arg-type]
    spec, defaults = tiny_checkpoint.spec, default_boxes(tiny_checkpoint.spec.boxes)
    for seed, score in enumerate((0.5, 0.3, 0.9, 0.01, 0.5, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.5)):
        batch = np.stack([pictures.noise(300, 300, 10 * seed + k) for k in range(1 + seed % 3)])
        raw = engine.infer(batch)
        selection = Selection(score, spec.nms, (0,) if seed == 4 else None)
        expected = host.postprocess(*(part.float().cpu().numpy() for part in raw), defaults, spec, selection)
        for actual, wanted in zip(engine.decode(*raw, selection), expected, strict=True):
            assert actual.dtype == wanted.dtype
            np.testing.assert_allclose(actual, wanted, atol=1e-5)
        assert len(expected.scores) or score > 0.5


@CUDA
def test_output_that_is_no_number_is_told_of_on_cuda(tiny_checkpoint: Checkpoint, batch: np.ndarray) -> None:
    engine = TorchEngine(tiny_checkpoint, "cuda", "fp16")
    locations, raw_scores = (part.clone() for part in engine.infer(batch))
    raw_scores[1, 77, 1] = torch.nan
    with pytest.raises(CheckpointError, match="fp32 takes the largest"):
        engine.decode(locations, raw_scores, Selection(0.5, tiny_checkpoint.spec.nms))


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalises_in_one_pass_as_in_several(colour: ColourOrder, dtype: torch.dtype, batch: np.ndarray) -> None:
    normalise = Normalise(Normalisation(colour, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    pixels = torch.from_numpy(batch)
    one, several = normalise.in_one_pass(pixels, dtype), normalise(pixels).to(dtype)
    assert one.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(one, several)


def test_takes_no_gradients(tiny_checkpoint: Checkpoint, batch: np.ndarray) -> None:
    locations, scores = TorchEngine(tiny_checkpoint, "cpu").infer(batch)
    assert not locations.requires_grad
    assert not scores.requires_grad
    assert not any(p.requires_grad for p in load_network(tiny_checkpoint).parameters())


def test_does_not_change_the_checkpoint(tiny_checkpoint: Checkpoint, batch: np.ndarray) -> None:
    before = {name: array.copy() for name, array in tiny_checkpoint.weights.items()}
    TorchEngine(tiny_checkpoint, "cpu", "fp16").infer(batch)
    for name, array in before.items():
        np.testing.assert_array_equal(tiny_checkpoint.weights[name], array)


class TestDevices:
    def test_cpu(self) -> None:
        assert find_device("cpu") == torch.device("cpu")

    @pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "meta", "xla", "猫"])
    def test_that_nobody_has(self, name: str) -> None:
        with pytest.raises(WrongUsageError, match=f"device '{name}' is none of auto, cpu, cuda, cuda:N, mps"):
            find_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
    def test_cuda_that_is_not_there(self, name: str) -> None:
        with pytest.raises(UnavailableError, match=f"device {name}: .*(without CUDA|nvidia-smi)"):
            find_device(name)

    @CUDA
    def test_more_cuda_devices_than_there_are(self) -> None:
        with pytest.raises(UnavailableError, match="torch sees"):
            find_device(f"cuda:{torch.cuda.device_count()}")

    @pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine without Metal")
    def test_mps_that_is_not_there(self) -> None:
        with pytest.raises(UnavailableError, match=r"device mps: .*Metal"):
            find_device("mps")

    @CUDA
    def test_cuda(self) -> None:
        assert find_device("cuda").type == "cuda"
        assert find_device("cuda:0") == torch.device("cuda:0")

    def test_no_such_precision(self, tiny_checkpoint: Checkpoint) -> None:
        with pytest.raises(WrongUsageError, match="precision 'int4' is none of auto, fp32, fp16, bf16"):
            TorchEngine(tiny_checkpoint, "cpu", "int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["conf.0.weight", "backbone.Conv2d_13_pointwise.bias"])
def test_weights_of_another_shape(name: str, tiny_checkpoint: Checkpoint) -> None:
    weights = {**tiny_checkpoint.weights, name: np.zeros((2, 2), np.float32)}
    with pytest.raises(CheckpointError, match=rf"do not fit it: .*{name}") as caught:
        TorchEngine(Checkpoint(tiny_checkpoint.spec, weights), "cpu")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, SsdcamError)


FORKED = """
import os, signal, sys
import numpy as np
import ssdcam

image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
detector = ssdcam.load(sys.argv[1], engine="torch", device="cpu", precision="fp32", score=0.1, threads=4)
found = detector.detect([image] * 4)
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(60)
if sys.argv[2] == "load":
    detector = ssdcam.load(sys.argv[1], engine="torch", device="cpu", precision="fp32", score=0.1, threads=4)
again = detector.detect([image] * 4)
print([len(one) for one in again] == [len(one) for one in found], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("use", ["load", "detect"])
def test_a_forked_process_does_not_wait_for_its_parents_threads(tiny_model: Path, use: str) -> None:
    command = [sys.executable, "-c", FORKED, str(tiny_model), use]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
