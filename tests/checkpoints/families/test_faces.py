"""Linzaer's two published face detectors on a portrait."""

import numpy as np
import pytest

import ssdcam
from ssdcam.checkpoints.resolve import open_checkpoint


@pytest.mark.parametrize("version", ["slim", "RFB"])
def test_finds_the_face_of_a_portrait(version, shared):
    data = pytest.importorskip("skimage.data", reason="the portrait is scikit-image's astronaut")
    portrait = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    path = shared / "weights" / "face_ultralight" / f"version-{version}-320.pth"
    detector = ssdcam.load(path, score=0.7, device="cpu")
    assert detector.labels == ("face",)
    found = detector.detect(portrait)
    assert len(found.scores) == 1
    assert found.scores[0] > 0.95
    # The face of Eileen Collins, from chin to hairline and from ear to ear, as read off the picture.
    x1, y1, x2, y2 = found.boxes[0]
    assert 165 < x1 < 195
    assert 50 < y1 < 85
    assert 255 < x2 < 285
    assert 170 < y2 < 205
    upside_down = detector.detect(np.ascontiguousarray(portrait[::-1]))
    assert not len(upside_down.scores) or upside_down.scores[0] < found.scores[0]


@pytest.mark.parametrize(("version", "branches"), [("slim", 0), ("RFB", 1)])
def test_what_the_files_are(version, branches, shared):
    checkpoint = open_checkpoint(shared / "weights" / "face_ultralight" / f"version-{version}-320.pth")
    spec = checkpoint.spec
    assert (spec.architecture, spec.options) == ("ultralight-faces", {"branches": branches})
    assert spec.input_size == (240, 320)
    assert spec.boxes.num_boxes == 4420
    assert spec.nms.iou == 0.3
