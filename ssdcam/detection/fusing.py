"""Networks for torch on x86 CPUs and on CUDA: activations computed with a convolution; on CPUs weights laid out once.

Large convolutions take fewer products on CPUs, in torch as in OpenVINO.

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

from ssdcam.detection import winograd
from ssdcam.detection.cuda_kernels import CudaConvolution, JointHeads, Norm, Pool, fits, kernels_for
from ssdcam.detection.large_convolutions import worthwhile
from ssdcam.detection.nvrtc import Kernels
from ssdcam.ssd.backbones.mobilenet_v1 import SameConv2d, same_padding
from ssdcam.ssd.backbones.vgg import ChannelNorm

# oneDNN's names of activations, and their figures.
_Activation = tuple[str, list[float]]
_NONE: _Activation = ("none", [])
_RELU: _Activation = ("relu", [])
_RELU6: _Activation = ("hardtanh", [0.0, 6.0])
_ACTIVATIONS: dict[Any, _Activation] = {
    **dict.fromkeys((F.relu, "relu", nn.ReLU), _RELU),
    **dict.fromkeys((F.relu6, nn.ReLU6), _RELU6),
}


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


class _Tracer(fx.Tracer):
    """Sees a convolution, and a norm, as one step, whatever it does in it, and looks into slices of a network, too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SameConv2d | ChannelNorm) or super().is_leaf_module(m, module_qualified_name)

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


def by_winograd(network: nn.Module) -> fx.GraphModule:
    """A network that computes the same by fewer products, where that is faster; to be traced for OpenVINO.

    Args:
        network: in evaluation mode; stays as it is.
    """

    def convolution(plain: nn.Conv2d, activation: _Activation) -> nn.Module | None:
        if activation == _RELU and winograd.fits(plain):
            return winograd.WinogradConv2d(plain, nn.Sequential(plain, nn.ReLU()))
        return None

    return _fuse(network, convolution)


class _Fused(nn.Module):
    """A network and its faster twin. The network stays, so that both can be copied and pickled, as ours can."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self._made_of = network, device, dtype
        self.twin = _fuse_for_cuda(network, device, dtype) if device.type == "cuda" else _fuse_for_cpu(network, dtype)

    def forward(self, images: Tensor) -> Any:
        # Called as a module, it would print what it thinks of an error to stderr.
        return self.twin.forward(images)

    def __reduce__(self) -> tuple[Any, ...]:
        return fused, self._made_of


def _fuse_for_cpu(network: nn.Module, dtype: torch.dtype) -> fx.GraphModule:
    fewer_products = worthwhile("bf16" if dtype == torch.bfloat16 else "fp32")

    def convolution(plain: nn.Conv2d, activation: _Activation) -> nn.Module:
        direct = _CpuConvolution(plain, activation)
        if fewer_products and activation == _RELU and winograd.fits(plain):
            return winograd.WinogradConv2d(plain, direct)
        return direct

    return _fuse(network, convolution)


def _fuse_for_cuda(network: nn.Module, device: torch.device, dtype: torch.dtype) -> fx.GraphModule:
    kernels = kernels_for(device, dtype)

    def convolution(plain: nn.Conv2d, activation: _Activation) -> nn.Module | None:
        known = type(plain) is nn.Conv2d and plain.groups == 1 and plain.bias is not None
        return CudaConvolution(plain) if known and activation == _RELU else None

    def other(node: fx.Node, module: nn.Module | None) -> nn.Module | None:
        if kernels and isinstance(module, ChannelNorm) and fits(module.weight.numel(), dtype):
            return Norm(kernels, module)
        if kernels and isinstance(module, nn.MaxPool2d):
            return _pool(kernels, node.args[0], **{name: getattr(module, name) for name in module.__constants__})
        if kernels and node.op == "call_function" and node.target is F.max_pool2d:
            return _pool(kernels, *node.args, **node.kwargs)
        return None

    return _fuse(JointHeads.of(network), convolution, other)


def _pool(
    kernels: Kernels, _: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, **others: Any
) -> Pool | None:
    plain = dilation == 1 and not others.get("return_indices")
    if plain and all(isinstance(figure, int) for figure in (kernel_size, stride, padding)):
        return Pool(kernels, kernel_size, stride, padding, ceil_mode)
    return None


def _fuse(
    network: nn.Module,
    convolution: Callable[[nn.Conv2d, _Activation], nn.Module | None],
    other: Callable[[fx.Node, nn.Module | None], nn.Module | None] = lambda node, module: None,
) -> fx.GraphModule:
    """Replace steps of a network.

    Args:
        network: stays as it is.
        convolution: what computes one and the activation behind it; None where nothing does.
        other: what computes some other step of one input; None where that is to stay.
    """
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    fast = fx.GraphModule(network, graph)
    for number, node in enumerate(list(graph.nodes)):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        # A convolution of some other kind is not known.
        if isinstance(module, nn.Conv2d) and type(module) in (nn.Conv2d, SameConv2d):
            (behind, *others) = node.users
            activation = _NONE if others else _activation(behind, modules)
            made = convolution(module, activation)
            if made and activation != _NONE:
                behind.replace_all_uses_with(node)
                graph.erase_node(behind)
        else:
            made = other(node, module)
        if made:
            node.op, node.target, node.args, node.kwargs = "call_module", f"step_{number}", node.args[:1], {}
            fast.add_submodule(node.target, made)
    fast.delete_all_unused_submodules()
    fast.recompile()
    return fast


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> _Activation:
    what = type(modules[str(node.target)]) if node.op == "call_module" else node.target
    return _ACTIVATIONS.get(what, _NONE)


def _can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type == "cuda":  # as torch calls AMD's GPUs, too, whose library has no such convolution
        return bool(torch.version.cuda and torch.backends.cudnn.is_available())  # type: ignore[no-untyped-call]
    return (
        device.type == "cpu"
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )
