"""Against torchvision's SSD300-VGG16: the outputs that it publishes for a seeded network, and its own Python."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssdcam.checkpoints.families.family import convert
from ssdcam.checkpoints.families.torchvision import SSD300
from ssdcam.detection.torch_engine import load_network
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import NmsFigures, Selection

from ..torchvision_here import torchvision


def ours(model):
    """The same network in our code, and its spec, converted as a file of torchvision's is."""
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    checkpoint = convert(SSD300, arrays, Path("ssd300.pth"))
    return load_network(checkpoint), checkpoint.spec


def detect(network, spec, image, selection):
    """Boxes in pixels, scores and torchvision's labels (background is 0) of a float RGB image ``(3, 300, 300)``."""
    with torch.inference_mode():
        assert (spec.normalisation.colour, spec.normalisation.std) == ("rgb", (1, 1, 1))
        raw = network((image * 255 - torch.tensor(spec.normalisation.mean)[:, None, None])[None])
        boxes, scores, class_ids, _ = postprocess(*raw, torch.from_numpy(default_boxes(spec.boxes)), spec, selection)
    return boxes * 300, scores, class_ids + 1


def test_seeded_expectation(shared):
    """torchvision's test: seed 0, 50 columns, random pixels; of 200 detections every tenth is kept, to 1 %."""
    package = torchvision()
    expected = torch.load(
        shared / "reference" / "torchvision_expect" / "ModelTester.test_ssd300_vgg16_expect.pkl", weights_only=True
    )[0]
    torch.manual_seed(0)
    model = package.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=50)
    image = torch.rand(3, 300, 300)
    network, spec = ours(model)
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


@pytest.mark.parametrize(
    "iou", [pytest.param(0.3, marks=pytest.mark.slow), 0.45, pytest.param(0.7, marks=pytest.mark.slow)]
)
def test_whole_detections_on_a_photo(theirs, cats_photo, iou):
    photo = cv2.resize(cv2.imread(str(cats_photo)), (300, 300))[:, :, ::-1].astype(np.float32) / 255
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    theirs.nms_thresh = iou
    network, spec = ours(theirs)
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
