import numpy as np
import pytest
import torch

from ssdcam.detection.torch_engine import load_network
from ssdcam.training.norms import NormedConv, fold_norms, insert_norms
from ssdcam.training.optimizer import freeze

from .scenes import tiny


@pytest.fixture
def inputs():
    return torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1


def normed(inputs, frozen=0):
    torch.manual_seed(0)
    network = load_network(tiny(width=0.25)).requires_grad_(True)
    freeze(network.backbone, frozen)
    return network, insert_norms(network.backbone, [inputs[:5], inputs[5:]])


def test_norms_change_nothing_at_first(inputs):
    plain = load_network(tiny(width=0.25))
    network, names = normed(inputs)
    assert "Conv2d_0" in names
    assert "Conv2d_11_pointwise" in names
    for training in (False, True):  # on the pictures that the statistics are from, the batch's own are the same
        for ours, theirs in zip(network.train(training)(inputs), plain(inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_small_maps_and_frozen_layers_get_none(inputs):
    network, names = normed(inputs, frozen=3)
    with_norms = {name for name, layer in network.backbone.named_modules() if isinstance(layer, NormedConv)}
    assert set(names) == with_norms
    assert not with_norms & {"Conv2d_0", "Conv2d_1_depthwise", "Conv2d_1_pointwise"}
    assert "Conv2d_2_depthwise" in with_norms
    assert "Conv2d_13_pointwise" in with_norms  # 3 cells a side
    assert {name for name in with_norms if name.startswith("extra")} == {"extra_2_1x1"}  # the next has 2 cells a side


def test_what_is_learnt_folds_into_the_plain_network(inputs):
    network, _ = normed(inputs)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = network(inputs)[1].detach()
    for _ in range(4):
        optimizer.zero_grad()
        locations, scores = network(inputs)
        (locations.square().mean() + (scores - 1).square().mean()).backward()
        optimizer.step()
    start = tiny(width=0.25)
    folded = fold_norms(network.state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in folded.items()} == {
        name: array.shape for name, array in start.weights.items()
    }
    plain = load_network(start)
    plain.load_state_dict(folded)
    for ours, theirs in zip(plain(inputs), network.eval()(inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(plain(inputs)[1], before, atol=1e-3)


def test_a_state_without_norms_stays_as_it_is():
    weights = {name: torch.from_numpy(array) for name, array in tiny().weights.items()}
    folded = fold_norms(weights)
    assert folded.keys() == weights.keys()
    for name, tensor in folded.items():
        np.testing.assert_array_equal(tensor, weights[name])
