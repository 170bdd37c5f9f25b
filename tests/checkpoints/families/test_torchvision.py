"""torchvision's checkpoints: its own seeded expectations, and its own Python on a photo."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ssdcam.checkpoints.families.family import convert
from ssdcam.checkpoints.families.torchvision import SSD300, SSDLITE320
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.postprocess import postprocess
from ssdcam.ssd.spec import Selection

from ...torchvision_here import torchvision


def converted(family, model, path):
    """Our network and spec of a model of theirs, without a file."""
    arrays = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return convert(family, arrays, path)


def detect(checkpoint, image, score, nms=None):
    """Boxes in pixels, scores and torchvision's labels of a float RGB image ``(3, H, W)`` of the input's size."""
    spec = checkpoint.spec
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.normalisation.mean, spec.normalisation.std))
    assert spec.normalisation.colour == "rgb"
    network = load_network(checkpoint)
    with torch.inference_mode():
        raw = network(((image * 255 - mean) / std)[None])
        defaults = torch.from_numpy(default_boxes(spec.boxes))
        boxes, scores, class_ids, _ = postprocess(*raw, defaults, spec, Selection(score, nms or spec.nms))
    return boxes * image.shape[1], scores, class_ids + 1


def test_the_seeded_expectation_of_ssdlite(shared, tmp_path):
    """torchvision's test: seed 0, 50 columns, random pixels; of 300 detections every fifteenth is kept, to 1 %."""
    package = torchvision()
    name = "ModelTester.test_ssdlite320_mobilenet_v3_large_expect.pkl"
    expected = torch.load(shared / "reference" / "torchvision_expect" / name, weights_only=True)[0]
    torch.manual_seed(0)
    model = package.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=50)
    image = torch.rand(3, 300, 300)
    checkpoint = converted(SSDLITE320, model.eval(), tmp_path)
    enlarged = torch.nn.functional.interpolate(image[None], (320, 320), mode="bilinear", align_corners=False)[0]
    boxes, scores, labels = detect(checkpoint, enlarged, 0.001)
    assert len(scores) == 300
    kept = slice(14, None, 15)
    np.testing.assert_allclose(scores[kept], expected["scores"].detach(), atol=0.01, rtol=0.01)
    np.testing.assert_array_equal(labels[kept], expected["labels"])
    np.testing.assert_allclose(boxes[kept] * 300 / 320, expected["boxes"].detach(), atol=0.01, rtol=0.01)


@pytest.fixture(scope="module")
def ssdlite():
    """torchvision's network with weights whose scores depend on the picture: He's, and norms measured on noise."""
    package = torchvision()
    torch.manual_seed(1)
    model = package.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter)
            if "_head" in name and name.endswith(".1.weight") and parameter.dim() == 4:
                parameter *= 0.3
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        model.train()
        photos = torch.nn.functional.interpolate(torch.rand(8, 3, 20, 20), 320, mode="bicubic") * 2 - 1
        features = list(model.backbone(photos).values())
        model.head(features)
    return model.eval()


@pytest.mark.parametrize("iou", [0.3, 0.55, 0.7])
def test_whole_detections_of_ssdlite_on_a_photo(ssdlite, cats_photo, iou, tmp_path):
    photo = cv2.resize(cv2.imread(str(cats_photo)), (320, 320))[:, :, ::-1].astype(np.float32) / 255
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    torch.save(ssdlite.state_dict(), tmp_path / "a.pth")
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    ssdlite.nms_thresh, ssdlite.score_thresh = iou, 0.01
    with torch.inference_mode():
        expected = ssdlite([image])[0]
    nms = replace(checkpoint.spec.nms, iou=iou)
    assert checkpoint.spec.architecture == "ssdlite320-mobilenet-v3-large"
    assert (nms.before, nms.after, checkpoint.spec.nms.iou) == (300, 300, 0.55)
    boxes, scores, labels = detect(checkpoint, image, 0.01, nms)
    assert len(expected["scores"]) > 50
    assert len(set(expected["labels"].tolist())) > 2
    np.testing.assert_allclose(scores, expected["scores"], atol=1e-4)
    left = set(range(len(scores)))  # scores that rounding tells apart change places from CPU to CPU
    for box, score, label in zip(*(expected[name].numpy() for name in ("boxes", "scores", "labels")), strict=True):
        same = [
            place
            for place in left
            if labels[place] == label and abs(scores[place] - score) < 1e-4 and np.abs(boxes[place] - box).max() < 0.02
        ]
        assert same, f"{label} at {box} with {score}"
        left.remove(same[0])
    # The comparison must be able to fail: another picture gives something else.
    for other in (torch.zeros_like(image), image.flip(0)):
        _, other_scores, _ = detect(checkpoint, other, 0.01, nms)
        assert len(other_scores) != len(scores) or np.abs(other_scores - scores).max() > 1e-3


@pytest.mark.parametrize("tail", [0.5, 1])
def test_both_tails_of_ssdlite(tail, tmp_path, monkeypatch):
    package = torchvision()
    detection = package.models.detection
    whole = package.models.mobilenetv3.mobilenet_v3_large
    monkeypatch.setattr(
        detection.ssdlite, "mobilenet_v3_large", lambda **k: whole(**{**k, "reduced_tail": tail == 0.5})
    )
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=91).eval()
    checkpoint = converted(SSDLITE320, model, tmp_path)
    assert checkpoint.spec.options == {"tail": tail}
    assert len(checkpoint.spec.labels) == 90
    if tail == 0.5:
        assert sum(p.numel() for p in model.parameters()) == 3_440_060


def test_ssd300(tmp_path):
    package = torchvision()
    torch.manual_seed(2)
    model = package.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5).eval()
    with torch.no_grad():
        for head in model.head.classification_head.module_list:
            head.weight *= 0.1  # scores of one or so, where 1e-4 is far above rounding
    checkpoint = converted(SSD300, model, tmp_path)
    spec = checkpoint.spec
    assert (spec.architecture, spec.boxes.clip) == ("ssd300-vgg16", "size")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    image = torch.from_numpy(pixels[0, :, :, ::-1].copy()).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        prepared, _ = model.transform([image])
        # In double precision: on some CPUs oneDNN's algorithms for the two differ by more than 1e-4 in single.
        theirs = model.double().head(list(model.backbone(prepared.tensors.double()).values()))
        network = load_network(checkpoint).double()
        locations, scores = network(Normalise(spec.normalisation)(torch.from_numpy(pixels)).double())
        anchors = model.anchor_generator(prepared, [torch.empty(1, 1, n, n) for n in (38, 19, 10, 5, 3, 1)])[0]
    np.testing.assert_allclose(locations, theirs["bbox_regression"], atol=1e-4)
    np.testing.assert_allclose(scores, theirs["cls_logits"], atol=1e-4)
    boxes = default_boxes(spec.boxes) * 300
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    np.testing.assert_allclose(corners, anchors, atol=1e-3)
