"""Networks for torch on x86 CPUs and on CUDA: activations computed with a convolution; on CPUs weights laid out once.

An activation behind a convolution goes over all of memory once more, as does a bias on CUDA; and on a CPU torch's own
convolution lays the weights out anew in every call. The operators that are used here are those into which torch's own
compilers turn a network; they are no part of torch's interface, so that a torch without them runs networks as they are.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ssdcam.ssd.backbones.mobilenet_v1 import SameConv2d, same_padding

# oneDNN's names of activations, and their figures.
_Activation = tuple[str, list[float]]
_NONE: _Activation = ("none", [])
_RELU: _Activation = ("relu", [])
_RELU6: _Activation = ("hardtanh", [0.0, 6.0])
_ACTIVATIONS: dict[Any, _Activation] = {F.relu: _RELU, F.relu6: _RELU6, nn.ReLU: _RELU, nn.ReLU6: _RELU6}


class _CpuConvolution(nn.Module):
    """A convolution and the activation behind it, by oneDNN; the first input decides how the weights are laid out."""

    def __init__(self, convolution: nn.Conv2d, activation: _Activation) -> None:
        super().__init__()
        self._weight, self._bias = convolution.weight.detach(), convolution.bias
        self._kernel, self._stride = convolution.kernel_size, convolution.stride
        self._padding = None if isinstance(convolution, SameConv2d) else tuple(map(int, convolution.padding))
        self._rest = convolution.stride, convolution.dilation, convolution.groups
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x, padding = self._pad_same(x) if self._padding is None else (x, self._padding)
        weight = self._weight
        if not weight.is_mkldnn:  # threads that come here at once do the same work, once
            lay_out: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            weight = self._weight = lay_out(weight.to_mkldnn(), padding, *self._rest, list(x.shape))
        convolve = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = convolve(x, weight, self._bias, padding, *self._rest, *self._activation, "")
        return result

    def _pad_same(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        sides = zip(x.shape[-2:], self._kernel, self._stride, strict=True)
        (top, bottom), (left, right) = (same_padding(*side) for side in sides)
        if (top, left) == (bottom, right):
            return x, (top, left)
        return F.pad(x, (left, right, top, bottom)), (0, 0)


class _CudaConvolution(nn.Module):
    """A convolution, its bias and a ReLU, by cuDNN."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = convolution.weight.detach(), convolution.bias
        self._rest = convolution.stride, convolution.padding, convolution.dilation, convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.cudnn_convolution_relu(x, self._weight, self._bias, *self._rest)  # type: ignore[arg-type]
        return result


class _Tracer(fx.Tracer):
    """Sees a convolution as one step, whatever it does about its padding, and looks into slices of a network, too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SameConv2d) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if any(m is module for module in self.root.modules()):
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)


def fused(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network that computes the same, sooner; as it is where that cannot be.

    Args:
        network: in evaluation mode, on the device.
        device: where it runs.
        dtype: of its weights, in which it computes.
    """
    if not _can_fuse(device, dtype):
        return network
    return _Fused(network, device, dtype)


class _Fused(nn.Module):
    """A network and its faster twin. The network stays, so that both can be copied and pickled, as ours can."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._made_of = network, device, dtype
        self.twin = _fuse(network, _FUSED[device.type])

    def forward(self, images: Tensor) -> Any:
        # Called as a module, it would print what it thinks of an error to stderr.
        return self.twin.forward(images)

    def __reduce__(self) -> tuple[Any, ...]:
        return fused, self._made_of


def _on_cpu(convolution: nn.Conv2d, activation: _Activation) -> nn.Module | None:
    return _CpuConvolution(convolution, activation)


def _on_cuda(convolution: nn.Conv2d, activation: _Activation) -> nn.Module | None:
    plain = type(convolution) is nn.Conv2d and convolution.groups == 1 and convolution.bias is not None
    return _CudaConvolution(convolution) if plain and activation == _RELU else None


_FUSED: dict[str, Callable[[nn.Conv2d, _Activation], nn.Module | None]] = {"cpu": _on_cpu, "cuda": _on_cuda}
"""For each kind of device, what computes a convolution and the activation behind it; None where nothing does."""


def _fuse(network: nn.Module, make: Callable[[nn.Conv2d, _Activation], nn.Module | None]) -> fx.GraphModule:
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    fast = fx.GraphModule(network, graph)
    for node in list(graph.nodes):
        convolution = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(convolution, nn.Conv2d) or type(convolution) not in (nn.Conv2d, SameConv2d):
            continue  # a convolution of some other kind is not known
        (behind, *others) = node.users
        activation = _NONE if others else _activation(behind, modules)
        made = make(convolution, activation)
        if made is None:
            continue
        if activation != _NONE:
            behind.replace_all_uses_with(node)
            graph.erase_node(behind)
        fast.set_submodule(node.target, made)
    fast.delete_all_unused_submodules()
    fast.recompile()
    return fast


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> _Activation:
    what = type(modules[str(node.target)]) if node.op == "call_module" else node.target
    return _ACTIVATIONS.get(what, _NONE)


def _can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type == "cuda":
        # AMD's has no such operator.
        return torch.backends.cudnn.is_available() and hasattr(torch, "cudnn_convolution_relu")  # type: ignore[no-untyped-call]
    return (
        device.type == "cpu"
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )
