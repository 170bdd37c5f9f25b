"""What the smaller backbones are made of. Batch norms are folded into the convolutions, which have biases instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    activation: Activation | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution, layer 0, and what comes behind it, layer 1.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side of the kernel.
        stride: of the convolution.
        dilation: of the kernel.
        groups: of channels; as many as ``inputs`` make it depthwise.
        padding: cells on each side; as many as keep the map's size at stride 1 if not given.
        activation: makes the layer behind; None for none.
    """
    padding = dilation * (kernel - 1) // 2 if padding is None else padding
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def separable(
    inputs: int,
    outputs: int,
    stride: int = 1,
    *,
    kernel: int = 3,
    activation: Activation | None = nn.ReLU,
    last: Activation | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution a channel, layer 0, then a 1x1 convolution, layer 1 (MobileNet's, arXiv 1704.04861).

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
        kernel: side of the first convolution's kernel.
        activation: behind the first convolution.
        last: behind the second; None for none.
    """
    return nn.Sequential(
        conv(inputs, inputs, kernel, stride, groups=inputs, activation=activation),
        conv(inputs, outputs, activation=last),
    )


class Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in and out."""
        return x + super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


def each_output(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """The outputs of layers one behind the other."""
    outputs = []
    for layer in layers:
        x = layer(x)
        outputs.append(x)
    return outputs
