"""Convolutions by fewer products compute what torch's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection import fusing, large_convolutions, openvino_networks
from ssdcam.detection.fusing import fused
from ssdcam.detection.int8 import Calibration
from ssdcam.detection.large_convolutions import takes_fewer_products, worthwhile
from ssdcam.detection.openvino_conversion import from_torch
from ssdcam.detection.openvino_engine import OpenVinoEngine
from ssdcam.detection.winograd import WinogradConv2d, fits, transforms
from ssdcam.ssd.architectures import ARCHITECTURES, build_network, new_spec
from ssdcam.ssd.backbones.mobilenet_v1 import SameConv2d

CPU = torch.device("cpu")
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


@pytest.mark.parametrize(("height", "width"), [(18, 18), (19, 24), (38, 21), (20, 43)])
def test_it_computes_the_convolution(height: int, width: int) -> None:
    plain = a_convolution(outputs=272)
    fast = WinogradConv2d(plain, Other())
    with torch.inference_mode():
        for count in (1, 3):
            given = a_map(height, width, count)
            exact, computed = plain(given).relu(), fast(given)
            assert computed.shape == exact.shape
            assert computed.stride(1) == 1  # channels-last
            assert error(computed, exact) < 3e-6


def test_it_is_nearly_as_exact_in_bf16() -> None:
    exact_one, plain = a_convolution(), a_convolution(torch.bfloat16)
    given = a_map(38, 38, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = exact_one(given.float()).relu()
        computed = WinogradConv2d(plain, Other())(given)
        assert computed.dtype == torch.bfloat16
        assert 1e-4 < error(plain(given).relu(), exact) < 5e-3
        assert error(computed, exact) < 2e-2


def test_small_maps_are_computed_directly() -> None:
    fast = WinogradConv2d(a_convolution(), Other())
    small = a_map(17, 19)
    with torch.inference_mode():
        assert torch.equal(fast(small), small + 1000)


def test_empty_batches_stay_empty() -> None:
    with torch.inference_mode():
        assert WinogradConv2d(a_convolution(), Other())(a_map(20, 20, 0)).shape == (0, CHANNELS, 20, 20)


OTHERS: list[dict[str, Any]] = [
    {"stride": 2},
    {"padding": 0},
    {"padding": "same"},
    {"dilation": 2},
    {"groups": 2, "in_channels": 2 * CHANNELS},
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
    assert not fits(SameConv2d(CHANNELS, CHANNELS, 3, padding=1))


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


def test_which_architectures_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_convolutions.platform, "machine", lambda: "AMD64")
    counts = {"ssd300-vgg16": 8, "ssd512-vgg16": 8, "ssd300-resnet50": 6}
    for name in ARCHITECTURES:
        spec = new_spec(name, tuple(f"class {number}" for number in range(80)))  # heads with many channels
        with torch.device("meta"):
            network = build_network(spec).eval().requires_grad_(False)
        assert winograd_convolutions(fusing.by_winograd(network)) == counts.get(name, 0), name
        assert takes_fewer_products(spec, "fp32") == (name in counts)
        assert not takes_fewer_products(spec, "int8")


def winograd_convolutions(network: nn.Module) -> int:
    return sum(isinstance(module, WinogradConv2d) for module in network.modules())


class Several(nn.Module):
    """Convolutions with a ReLU, another one, with another activation and with none; two of them take fewer products."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = a_convolution(), a_convolution(outputs=272)
        self.third = nn.Conv2d(272, 256, 3, padding=1).requires_grad_(False)
        self.last = a_convolution()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.third(F.relu(self.second(F.relu(self.first(x))))))
        result: Tensor = self.last(x)
        return result


@pytest.mark.skipif(not fusing._can_fuse(CPU, torch.float32), reason="this torch or CPU cannot fuse")
@pytest.mark.parametrize("worthwhile", [True, False])
def test_torch_takes_fewer_products_where_it_is_worthwhile(worthwhile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(fusing, "worthwhile", lambda precision: asked.append(precision) or worthwhile)
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        if fusing._can_fuse(CPU, dtype):
            network = Several().eval().to(dtype).to(memory_format=torch.channels_last)
            fast, given = fused(network, CPU, dtype), a_map(23, 30, 2, dtype)
            assert winograd_convolutions(fast) == (2 if worthwhile else 0)
            assert asked.pop() == precision
            with torch.inference_mode():
                assert error(fast(given), network(given)) < (1e-5 if precision == "fp32" else 5e-2)
    assert not asked


def test_openvino_keeps_networks_with_fewer_products_apart(
    tiny_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    asked: list[tuple[str, bool]] = []
    made: list[nn.Module] = []
    convert = openvino_networks.convert

    def recorded(checkpoint: Checkpoint, *, by_winograd: bool) -> Any:
        asked.append((precision, by_winograd))
        return convert(checkpoint, by_winograd=by_winograd)

    def by_winograd(network: nn.Module) -> nn.Module:
        made.append(network)
        return network

    monkeypatch.setattr(openvino_networks, "convert", recorded)
    monkeypatch.setattr(fusing, "by_winograd", by_winograd)
    monkeypatch.setattr(openvino_networks, "takes_fewer_products", lambda spec, precision: precision == "fp32")
    pictures = np.zeros((2, *tiny_checkpoint.spec.input_size, 3), np.uint8)
    for precision in ("fp32", "int8", "fp32", "int8"):
        calibration = Calibration(pictures) if precision == "int8" else None
        OpenVinoEngine(tiny_checkpoint, "cpu", precision, calibration=calibration)
    assert asked == [("fp32", True), ("int8", False)]
    assert len(made) == 1
    kept = [path.stem for path in tmp_path.rglob("*.bin")]
    assert len(kept) == 3
    assert sum(stem.endswith("-winograd1") for stem in kept) == 1


@pytest.mark.parametrize(("height", "products", "convolutions"), [(23, 6, 2), (10, 0, 4)])
def test_openvino_computes_the_same(height: int, products: int, convolutions: int) -> None:
    core = pytest.importorskip("openvino").Core()
    network, given = Several().eval(), a_map(height, 30)
    model = from_torch(fusing.by_winograd(network), given)
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
    model = from_torch(fusing.by_winograd(Several().eval()), given)
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
