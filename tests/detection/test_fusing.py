"""A fused network computes what the plain one does."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from ssdcam.benchmarking.random_weights import random_checkpoint
from ssdcam.detection import fusing
from ssdcam.detection.fusing import fused
from ssdcam.detection.torch_engine import load_network
from ssdcam.ssd.architectures import ARCHITECTURES, architecture, new_spec

LARGE = frozenset({"ssd300-vgg16", "ssd512-vgg16", "ssd300-resnet50"})
CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

needs_x86 = pytest.mark.skipif(not fusing._can_fuse(CPU, torch.float32), reason="this torch or CPU cannot fuse")


def network_of(name: str, dtype: torch.dtype) -> nn.Module:
    checkpoint = random_checkpoint(new_spec(name, ("a", "b", "c")))
    made: nn.Module = load_network(checkpoint).to(dtype).to(memory_format=torch.channels_last)
    return made


def pictures_for(name: str, dtype: torch.dtype, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    pictures = torch.randn(count, 3, *architecture(name).input_size, generator=generator)
    return pictures.to(dtype).to(memory_format=torch.channels_last)


@needs_x86
@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in ARCHITECTURES]
)
def test_every_architecture_computes_the_same(name: str, precision: str) -> None:
    dtype = TYPES[precision]
    if not fusing._can_fuse(CPU, dtype):
        pytest.skip(f"no {precision} on this CPU")
    plain, fast = network_of(name, dtype), fused(network_of(name, dtype), CPU, dtype)
    assert fast is not plain
    with torch.inference_mode():
        for count in (1, 3, 1):  # the first one decides how weights are laid out
            pictures = pictures_for(name, dtype, count)
            for ours, theirs in zip(fast(pictures), plain(pictures), strict=True):
                assert ours.shape == theirs.shape
                assert ours.dtype == theirs.dtype
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 if precision == "fp32" else 0.05)


@needs_x86
@pytest.mark.parametrize("name", ["ssd300-vgg16", "ssd300-mobilenet-v1", "ssd300-mobilenet-v1-relu"])
def test_no_activation_is_left_behind_a_convolution(name: str) -> None:
    fast = fused(network_of(name, torch.float32), CPU, torch.float32)
    assert isinstance(fast.twin, fx.GraphModule)
    kinds = [type(module) for module in fast.modules()]
    assert not {nn.Conv2d, fusing.SameConv2d, nn.ReLU, nn.ReLU6} & set(kinds)
    assert kinds.count(fusing._CpuConvolution) > 20
    assert not {torch.nn.functional.relu, torch.nn.functional.relu6} & {node.target for node in fast.twin.graph.nodes}


STEPS_ON_CUDA = {
    # 13 convolutions with ReLU of VGG-16, fc6 and fc7, 8 of the extra layers; 5 pools and conv4_3's norm.
    "ssd300-vgg16": {"convolution": 23, "pool": 5, "norm": 1},
    "ssd300-mobilenet-v1": {},  # ReLU6, and padding of TensorFlow's
    "ssd300-resnet50": {"convolution": 37, "pool": 1},  # where a block ends, something is added before the ReLU
    "ssdlite300-squeezenet": {"convolution": 14, "pool": 3},  # of a fire module's three only the first has its own ReLU
}


@pytest.mark.parametrize("name", STEPS_ON_CUDA)
def test_steps_of_several_passes_are_one_on_cuda(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that shows without a GPU: what runs on CUDA only is replaced by what it stands for."""
    count: Counter[str] = Counter()

    def convolve(x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        count["convolution"] += 1
        return torch.relu(nn.functional.conv2d(x, weight, bias, *rest))

    class Pool(nn.Module):
        def __init__(self, _: object, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)

        def forward(self, x: Tensor) -> Tensor:
            count["pool"] += 1
            pooled: Tensor = self.pool(x)
            return pooled

    class Norm(nn.Module):
        def __init__(self, _: object, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            count["norm"] += 1
            normed: Tensor = self.norm(x)
            return normed

    monkeypatch.setattr(torch, "cudnn_convolution_relu", convolve)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(fusing, "kernels_for", lambda device, dtype: "some")
    monkeypatch.setattr(fusing, "Pool", Pool)
    monkeypatch.setattr(fusing, "Norm", Norm)
    plain = network_of(name, torch.float32)
    fast = fused(network_of(name, torch.float32), torch.device("cuda"), torch.float32)
    pictures = pictures_for(name, torch.float32, 1)
    with torch.inference_mode():
        for ours, theirs in zip(fast(pictures), plain(pictures), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert count == STEPS_ON_CUDA[name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_computes_the_same_on_cuda(name: str, precision: str) -> None:
    dtype, device = {"fp32": torch.float32, "fp16": torch.float16}[precision], torch.device("cuda")
    plain = network_of(name, torch.float32)
    fast = fused(network_of(name, dtype).to(device), device, dtype)
    assert fast is not plain
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for count in (1, 3):
            pictures = pictures_for(name, torch.float32, count)
            for ours, theirs in zip(fast(pictures.to(device, dtype)), plain(pictures), strict=True):
                assert ours.dtype == dtype
                torch.testing.assert_close(
                    ours.float().cpu(), theirs, rtol=0, atol=1e-3 if precision == "fp32" else 0.02
                )


@needs_x86
def test_what_others_read_too_keeps_its_activation_apart() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.relu(y) + torch.nn.functional.relu(y) - y

    plain = Fork().eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        expected = plain(x)
        torch.testing.assert_close(fused(plain, CPU, torch.float32)(x), expected)
        assert plain.conv(x).min() < 0  # else a lost activation would not show


@needs_x86
def test_threads_may_come_at_once() -> None:
    name = "ultralight-faces"
    plain, fast = (
        make(network_of(name, torch.float32)) for make in (lambda n: n, lambda n: fused(n, CPU, torch.float32))
    )
    pictures = pictures_for(name, torch.float32, 1)
    results: list[tuple[Tensor, Tensor]] = []

    def work() -> None:
        with torch.inference_mode():
            results.extend(fast(pictures) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    with torch.inference_mode():
        expected = plain(pictures)
    for result in results:
        for ours, theirs in zip(result, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@needs_x86
@pytest.mark.parametrize("how", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_it_can_be_copied(how: Callable[[nn.Module], nn.Module]) -> None:
    fast = fused(network_of("ultralight-faces", torch.float32), CPU, torch.float32)
    pictures = pictures_for("ultralight-faces", torch.float32, 1)
    with torch.inference_mode():
        expected = fast(pictures)
        for ours, theirs in zip(how(fast)(pictures), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@needs_x86
def test_an_error_is_raised_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x.new_empty(2**50)])

    fast = fused(Large(), CPU, torch.float32)
    with pytest.raises(RuntimeError, match="allocate"):
        fast(torch.zeros(1))
    assert capfd.readouterr() == ("", "")


def test_where_it_cannot_be_the_network_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert fused(network, CPU, torch.float16) is network
    monkeypatch.setattr(fusing.platform, "machine", lambda: "aarch64")
    assert fused(network, CPU, torch.float32) is network
