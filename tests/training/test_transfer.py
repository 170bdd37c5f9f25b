from dataclasses import replace

import numpy as np
import pytest
import torch

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import load_network
from ssdcam.errors import CheckpointError
from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.spec import NmsFigures
from ssdcam.training.transfer import PRIOR, fresh, retarget, transfer

from .scenes import tiny

PIXELS = torch.linspace(-1, 1, 3 * 96 * 96).reshape(1, 3, 96, 96)


def scores(checkpoint):
    with torch.inference_mode():
        locations, raw = load_network(checkpoint)(PIXELS)
    return locations, raw[..., int(checkpoint.spec.background) :]


@pytest.fixture(scope="module")
def start():
    checkpoint = tiny(("dog", "aeroplane", "cat"), seed=5)
    rng = np.random.default_rng(0)
    return Checkpoint(
        checkpoint.spec, {k: rng.normal(0, 0.2, v.shape).astype(np.float32) for k, v in checkpoint.weights.items()}
    )


def test_matching_labels_keep_their_rows(start):
    spec = retarget(start.spec, ("cat", "zebra", "airplane"), background=False)
    new = transfer(start, spec)
    locations, raw = scores(start)
    new_locations, new_raw = scores(new)
    torch.testing.assert_close(new_locations, locations)
    torch.testing.assert_close(new_raw[..., 0], raw[..., 2])
    torch.testing.assert_close(new_raw[..., 2], raw[..., 1])
    biases = new.weights["conf.0.bias"].reshape(-1, 3)
    np.testing.assert_allclose(1 / (1 + np.exp(-biases[:, 1])), PRIOR, rtol=1e-5)


def test_other_classes_have_the_papers_nms(start):
    assert start.spec.nms.iou == 0.6
    assert retarget(start.spec, ("dog",)).nms == NmsFigures(iou=0.45, before=400, after=200)


def test_the_same_classes_are_the_same_network(start):
    again = transfer(start, start.spec)
    for name, array in start.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_softmax_keeps_the_background(start):
    spec = retarget(start.spec, ("zebra", "dog"), score_function="softmax")
    old, new = (c.weights["conf.1.weight"] for c in (start, transfer(start, spec)))
    np.testing.assert_array_equal(new.reshape(6, 3, -1)[:, [0, 2]], old.reshape(6, 4, -1)[:, :2])


def test_maps_with_other_boxes_start_afresh(start):
    maps = list(start.spec.boxes.maps)
    maps[1] = replace(maps[1], shapes=maps[1].shapes[:4])
    new = transfer(start, replace(start.spec, boxes=replace(start.spec.boxes, maps=tuple(maps))))
    assert new.weights["loc.1.weight"].shape[0] == 16
    assert new.weights["conf.1.bias"].shape[0] == 16
    np.testing.assert_array_equal(new.weights["conf.0.weight"], start.weights["conf.0.weight"])
    load_network(new)


def test_other_networks_are_refused(start):
    other = new_spec("ssd300-mobilenet-v1", ("dog",), input_size=(96, 96), options={"width": 0.2})
    with pytest.raises(CheckpointError, match=r"width 0\.2 cannot start from .*width 0\.1"):
        transfer(start, other)
    with pytest.raises(CheckpointError, match="lack"):
        transfer(Checkpoint(start.spec, {}), start.spec)


def test_fresh_networks_let_the_picture_through():
    with torch.inference_mode():
        network = load_network(fresh(new_spec("ssd300-mobilenet-v1", ("a",), options={"width": 0.25})))
        pixels = torch.randn(4, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        for one in network.backbone(pixels):
            assert 0.005 < one.std(dim=0).mean() < 3
    twice = [fresh(new_spec("ssd300-mobilenet-v1", ("a",)), seed=s).weights["conf.0.weight"] for s in (1, 1, 2)]
    np.testing.assert_array_equal(twice[0], twice[1])
    assert not np.array_equal(twice[0], twice[2])


def test_new_sigmoid_classes_are_not_seen_at_first():
    checkpoint = tiny()
    _, raw = scores(checkpoint)
    assert raw.sigmoid().median() < 0.05
