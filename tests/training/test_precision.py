import pytest
import torch

from ssdcam.errors import TrainingError
from ssdcam.training.precision import choose_precision, keep_whole, reduced

CPU = torch.device("cpu")


def test_kernels_larger_than_their_map_compute_in_float32():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1)
    )
    seen = []
    for layer in network:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    keep_whole(network, (4, 4))
    seen.clear()
    with reduced(CPU, "bf16"):
        network(torch.zeros(2, 3, 4, 4))
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert network.training


def test_strided_depthwise_kernels_compute_in_float32_unless_frozen():
    def depthwise(stride):
        return torch.nn.Conv2d(8, 8, 3, stride=stride, padding=1, groups=8)

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), depthwise(2).requires_grad_(False), depthwise(1), depthwise(2)
    )
    keep_whole(network, (16, 16))
    with reduced(CPU, "bf16"):
        first, second, third = (layer(torch.zeros(2, 8, 16, 16)) for layer in network[1:])
    assert [first.dtype, second.dtype, third.dtype] == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_frozen_norms_keep_their_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 1))
    network[1].eval()
    keep_whole(network, (4, 4))
    assert [layer.training for layer in network] == [True, False, True]


def test_choices():
    assert choose_precision("auto", CPU) in ("bf16", "fp32")
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(TrainingError, match="CUDA"):
        choose_precision("fp16", CPU)
