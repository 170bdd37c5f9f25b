"""Convolutions by fewer products compute what torch's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssdcam.benchmarking.random_weights import random_checkpoint
from ssdcam.detection import fusing, large_convolutions
from ssdcam.detection.large_convolutions import takes_fewer_products, worthwhile
from ssdcam.detection.openvino_conversion import from_torch
from ssdcam.detection.torch_engine import load_network
from ssdcam.detection.winograd import WinogradConv2d, fits, transforms
from ssdcam.ssd.architectures import new_spec

CHANNELS = 256


def a_convolution(dtype: torch.dtype = torch.float32, outputs: int = CHANNELS) -> nn.Conv2d:
    torch.manual_seed(0)
    made = nn.Conv2d(CHANNELS, outputs, 3, padding=1).requires_grad_(False)
    made.weight.mul_(3)  # values keep their size, as in a trained network
    return made.to(dtype).to(memory_format=torch.channels_last)


def a_map(height: int, width: int, count: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    made = torch.randn(count, CHANNELS, height, width, generator=generator).relu()
    return made.to(dtype).to(memory_format=torch.channels_last)


def error(computed: Tensor, exact: Tensor) -> float:
    return float((computed.double() - exact.double()).norm() / exact.double().norm())


class Other(nn.Module):
    """In place of the convolution for small maps: what comes of it is known."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1000


def test_transforms_compute_a_correlation() -> None:
    windows, kernels, tiles = transforms()
    window, kernel = np.random.default_rng(0).normal(size=(2, 6))
    computed = tiles @ ((windows @ window) * (kernels @ kernel[:3]))
    np.testing.assert_allclose(computed, np.correlate(window, kernel[:3], "valid"), rtol=1e-12)


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize(("height", "width"), [(18, 18), (19, 24), (38, 21), (20, 43)])
def test_it_computes_the_convolution(height: int, width: int, rectify: bool) -> None:
    plain = a_convolution(outputs=272)
    fast = WinogradConv2d(plain, rectify, Other())
    with torch.inference_mode():
        for count in (1, 3):
            given = a_map(height, width, count)
            exact = plain(given).relu() if rectify else plain(given)
            computed = fast(given)
            assert computed.shape == exact.shape
            assert computed.stride(1) == 1  # channels-last
            assert error(computed, exact) < 3e-6


def test_it_is_nearly_as_exact_in_bf16() -> None:
    exact_one, plain = a_convolution(), a_convolution(torch.bfloat16)
    given = a_map(38, 38, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = exact_one(given.float()).relu()
        computed = WinogradConv2d(plain, True, Other())(given)
        assert computed.dtype == torch.bfloat16
        assert 1e-4 < error(plain(given).relu(), exact) < 5e-3
        assert error(computed, exact) < 2e-2


def test_small_maps_are_computed_directly() -> None:
    fast = WinogradConv2d(a_convolution(), True, Other())
    small = a_map(17, 19)
    with torch.inference_mode():
        assert torch.equal(fast(small), small + 1000)


def test_empty_batches_stay_empty() -> None:
    with torch.inference_mode():
        assert WinogradConv2d(a_convolution(), True, Other())(a_map(20, 20, 0)).shape == (0, CHANNELS, 20, 20)


OTHERS: list[dict[str, Any]] = [
    {"stride": 2},
    {"padding": 0},
    {"padding": "same"},
    {"padding": 2, "dilation": 2},
    {"groups": 2},
    {"bias": False},
    {"kernel_size": 1, "padding": 0},
    {"kernel_size": 5},
    {"out_channels": CHANNELS - 1},
]


@pytest.mark.parametrize("figures", OTHERS, ids=str)
def test_other_convolutions_do_not_fit(figures: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"in_channels": CHANNELS, "out_channels": CHANNELS, "kernel_size": 3, "padding": 1}
    assert fits(nn.Conv2d(**usual))
    assert not fits(nn.Conv2d(**{**usual, **figures}))


def test_where_it_is_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, features = "x86_64", frozenset({"avx2"})
    monkeypatch.setattr(large_convolutions.platform, "machine", lambda: machine)
    monkeypatch.setattr(large_convolutions, "cpu_features", lambda: features)
    assert [precision for precision in ("fp32", "bf16", "fp16", "int8") if worthwhile(precision)] == ["fp32", "bf16"]
    features = frozenset({"avx2", "amx_bf16"})
    assert worthwhile("fp32")
    assert not worthwhile("bf16")
    machine = "aarch64"
    assert not worthwhile("fp32")


def test_what_takes_fewer_products_is_known_from_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_convolutions.platform, "machine", lambda: "AMD64")
    large, small = (random_checkpoint(new_spec(name, ("a",))) for name in ("ssd300-vgg16", "ssdlite300-mobilenet-v2"))
    assert takes_fewer_products(large, "fp32")
    assert not takes_fewer_products(large, "int8")
    assert not takes_fewer_products(small, "fp32")


@pytest.mark.parametrize(("name", "count"), [("ssd300-vgg16", 8), ("ssd300-resnet50", 6), ("ssd300-mobilenet-v1", 0)])
def test_networks_have_them(name: str, count: int) -> None:
    network = load_network(random_checkpoint(new_spec(name, ("a",))))
    kinds = [type(module) for module in fusing.by_winograd(network).modules()]
    assert kinds.count(WinogradConv2d) == count


class Two(nn.Module):
    """Two convolutions, the first with a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = a_convolution(), a_convolution(outputs=272)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x).relu())
        return result


@pytest.mark.parametrize(("height", "products", "convolutions"), [(23, 6, 0), (10, 0, 2)])
def test_openvino_computes_the_same(height: int, products: int, convolutions: int) -> None:
    core = pytest.importorskip("openvino").Core()
    network, given = Two().eval(), a_map(height, 30)
    model = from_torch(fusing.by_winograd(network), given, given.shape)
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert (kinds.count("MatMul"), kinds.count("Convolution")) == (products, convolutions)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        assert error(torch.from_numpy(compiled(given.numpy())[0]), network(given)) < 1e-5


def test_openvino_computes_all_products_in_bf16() -> None:
    core = pytest.importorskip("openvino").Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("no bf16 on this CPU")
    given = a_map(23, 30)
    model = from_torch(fusing.by_winograd(Two().eval()), given, given.shape)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    steps = [(_fact(node, "layerType"), node) for node in compiled.get_runtime_model().get_ops()]
    transforms = [_fact(node, "runtimePrecision") for kind, node in steps if kind == "MatMul"]
    products = [_fact(node, "runtimePrecision") for kind, node in steps if kind == "FullyConnected"]
    assert (transforms, products) == (["bf16"] * 4, ["bf16"] * 2)
    # Kernels that have to be turned round would stay in memory twice.
    turned = [list(node.get_output_shape(0)) for kind, node in steps if kind == "Transpose"]
    assert turned
    assert not [shape for shape in turned if shape[0] == 36]


def _fact(node: Any, name: str) -> str:
    fact: str = node.get_rt_info()[name].astype(str)
    return fact
