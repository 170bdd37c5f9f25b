"""Against torchvision's SSD300-VGG16: the outputs that it publishes for a seeded network, and its own Python."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.torch_engine import load_network
from ssdcam.ssd.architectures import new_spec
from ssdcam.ssd.default_boxes import COCO300, default_boxes
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import BoxCoding, NmsFigures, Selection

from ..torchvision_here import torchvision


def our_name(name):
    """torchvision's parameter names to ours (conv4_3 is layer 21 of its features, the rest lie in 'extra')."""
    features = dict(
        zip(
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21),
            "conv1_1 conv1_2 conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv4_1 conv4_2 conv4_3".split(),
            strict=True,
        )
    )
    fixed = {
        "backbone.scale_weight": "backbone.conv4_3_norm.weight",
        **{f"backbone.extra.0.{i}": f"backbone.conv5_{n}" for n, i in enumerate((1, 3, 5), 1)},
        "backbone.extra.0.7.1": "backbone.fc6",
        "backbone.extra.0.7.3": "backbone.fc7",
        **{f"backbone.extra.{k}.{2 * j}": f"backbone.conv{k + 5}_{j + 1}" for k in (1, 2, 3, 4) for j in (0, 1)},
        **{f"backbone.features.{i}": f"backbone.{layer}" for i, layer in features.items()},
        **{f"head.regression_head.module_list.{k}": f"loc.{k}" for k in range(6)},
        **{f"head.classification_head.module_list.{k}": f"conf.{k}" for k in range(6)},
    }
    if name in fixed:
        return fixed[name]
    layer, kind = re.fullmatch(r"(.+)\.(weight|bias)", name).groups()
    return f"{fixed[layer]}.{kind}"


def ours(model, num_columns):
    """The same network in our code, and its spec: torchvision's boxes, clipping, clamping and means."""
    layout = COCO300.layout("size")
    spec = replace(
        new_spec("ssd300-vgg16", [str(i) for i in range(1, num_columns)]),
        boxes=layout,
        coding=BoxCoding(max_log_size=np.log(1000 / 16)),
    )
    weights = {our_name(name): value.detach().numpy() for name, value in model.state_dict().items()}
    return load_network(Checkpoint(spec, weights)), spec


def detect(network, spec, image, selection):
    """Boxes in pixels, scores and torchvision's labels (background is 0) of a float RGB image ``(3, 300, 300)``."""
    with torch.inference_mode():
        means = torch.tensor([0.48235, 0.45882, 0.40784])[:, None, None]
        raw = network(((image - means) * 255)[None])
        boxes, scores, class_ids, _ = postprocess(*raw, torch.from_numpy(default_boxes(spec.boxes)), spec, selection)
    return boxes.numpy() * 300, scores.numpy(), class_ids.numpy() + 1


def test_seeded_expectation(shared):
    """torchvision's test: seed 0, 50 columns, random pixels; of 200 detections every tenth is kept, to 1 %."""
    package = torchvision()
    expected = torch.load(
        shared / "reference" / "torchvision_expect" / "ModelTester.test_ssd300_vgg16_expect.pkl", weights_only=True
    )[0]
    torch.manual_seed(0)
    model = package.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=50)
    image = torch.rand(3, 300, 300)
    network, spec = ours(model, 50)
    boxes, scores, labels = detect(network, spec, image, Selection(0.01, NmsFigures(0.45, 400, 200)))
    kept = slice(9, None, 10)
    np.testing.assert_allclose(scores[kept], expected["scores"].detach(), atol=0.01, rtol=0.01)
    np.testing.assert_array_equal(labels[kept], expected["labels"])
    np.testing.assert_allclose(boxes[kept], expected["boxes"].detach(), atol=0.01, rtol=0.01)


@pytest.fixture(scope="module")
def theirs():
    """torchvision's network with weights whose scores depend on the picture: He-initialised, heads scaled up."""
    package = torchvision()
    torch.manual_seed(1)
    model = package.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter)
            if "_head" in name and name.endswith("weight"):
                parameter *= 0.02
    return model


@pytest.mark.parametrize("iou", [0.3, 0.45, 0.7])
def test_whole_detections_on_a_photo(theirs, cats_photo, iou):
    photo = cv2.resize(cv2.imread(str(cats_photo)), (300, 300))[:, :, ::-1].astype(np.float32) / 255
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    theirs.nms_thresh = iou
    network, spec = ours(theirs, 21)
    selection = Selection(0.01, NmsFigures(iou, 400, 200))
    with torch.inference_mode():
        expected = theirs([image])[0]
    boxes, scores, labels = detect(network, spec, image, selection)
    assert len(expected["scores"]) > 50
    assert len(set(expected["labels"].tolist())) > 2
    np.testing.assert_array_equal(labels, expected["labels"])
    np.testing.assert_allclose(scores, expected["scores"], atol=1e-4)
    np.testing.assert_allclose(boxes, expected["boxes"], atol=0.02)
    # The comparison must be able to fail: another picture gives something else.
    for other in (torch.zeros_like(image), image.flip(0)):
        _, other_scores, _ = detect(network, spec, other, selection)
        assert len(other_scores) != len(scores) or np.abs(other_scores - scores).max() > 1e-3
