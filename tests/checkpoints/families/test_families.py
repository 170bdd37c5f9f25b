"""Every family against its network written down as functions, in its own names and order: the raw outputs agree."""

from functools import partial

import numpy as np
import pytest
import torch

from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.detection.torch_engine import Normalise, load_network
from ssdcam.ssd.default_boxes import default_boxes

from . import networks
from .layers import Layers, caffemodel, priors

MAPS300, STEPS300, RATIOS300 = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
VOC300, COCO300 = (30, 60, 111, 162, 213, 264, 315), (21, 45, 99, 153, 207, 261, 315)
VOC512 = (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6)
MAPS512, STEPS512 = (64, 32, 16, 8, 4, 2, 1), (8, 16, 32, 64, 128, 256, 512)
RATIOS512 = [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]

RATIOS_MOBILE, SIZES_MOBILE = [[2, 3]] * 6, (60, 105, 150, 195, 240, 285, 330)
STEPS_MOBILE = (16, 32, 64, 100, 150, 300)


def face_priors():
    boxes = []
    for rows, columns, sides in (
        (30, 40, (10, 16, 24)),
        (15, 20, (32, 48)),
        (8, 10, (64, 96)),
        (4, 5, (128, 192, 256)),
    ):
        for i in range(rows):
            for j in range(columns):
                boxes += [[(j + 0.5) / columns, (i + 0.5) / rows, side / 320, side / 240] for side in sides]
    return np.clip(boxes, 0, 1)


# Family, network, colour order, mean, std, default boxes, figures of NMS (IoU, before, after where limited).
CAFFE_RGB = ("rgb", (123, 117, 104), (1, 1, 1))
CAFFE_BGR = ("bgr", (104, 117, 123), (1, 1, 1))
MOBILE = ("rgb", (127, 127, 127), (128, 128, 128))
IMAGENET = ("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
VOC300_BOXES = (300, MAPS300, STEPS300, VOC300, RATIOS300)
MOBILE_BOXES = (300, (19, 10, 5, 3, 2, 1), STEPS_MOBILE, SIZES_MOBILE, RATIOS_MOBILE, True)
SQUEEZE_BOXES = (300, (17, 10, 5, 3, 2, 1), STEPS_MOBILE, SIZES_MOBILE, RATIOS_MOBILE, True)
CASES = {
    "amdegroot": (networks.amdegroot, CAFFE_RGB, (*VOC300_BOXES, True), (0.45, 200, None)),
    "amdegroot-bgr": (networks.amdegroot, CAFFE_BGR, (*VOC300_BOXES, True), (0.45, 200, None)),
    "lufficc": (networks.lufficc, CAFFE_RGB, (*VOC300_BOXES, True), (0.45, None, 100)),
    "vgg16-ssd": (networks.qfgaohao_vgg, CAFFE_RGB, (*VOC300_BOXES, True), (0.45, 200, None)),
    "mb1-ssd": (networks.mb1, MOBILE, MOBILE_BOXES, (0.45, 200, None)),
    "mb2-ssd-lite": (networks.mb2_lite, MOBILE, MOBILE_BOXES, (0.45, 200, None)),
    "sq-ssd-lite": (networks.squeezenet_lite, MOBILE, SQUEEZE_BOXES, (0.45, 200, None)),
    "nvidia-resnet50": (
        networks.nvidia, IMAGENET, (300, MAPS300, STEPS300, COCO300, RATIOS300, True), (0.45, 200, 200),
    ),
    "mmdetection": (
        networks.mmdetection, ("rgb", (123.675, 116.28, 103.53), (1, 1, 1)),
        (300, MAPS300, STEPS300, COCO300, RATIOS300, False), (0.45, 1000, 200),
    ),
    "chainercv": (networks.chainercv, CAFFE_RGB, (*VOC300_BOXES, False), (0.45, None, None)),
    "caffe": (networks.caffe, CAFFE_BGR, (*VOC300_BOXES, False), (0.45, 400, 200)),
    "ultralight-faces": (networks.faces, MOBILE, None, (0.3, 1500, 750)),
}  # fmt: skip
CASES |= {
    "mb2-ssd-lite half": (networks.mb2_lite_half, *CASES["mb2-ssd-lite"][1:]),
    "ultralight-faces widened": (networks.faces_widened, *CASES["ultralight-faces"][1:]),
}


def seven_maps(family, sizes, clamp):
    """A family's case as SSD512."""
    function, *figures = CASES[family]
    boxes = (512, MAPS512, STEPS512, sizes, RATIOS512, clamp)
    return (partial(function, extras=networks.EXTRAS512), figures[0], boxes, figures[2])


CASES |= {
    "lufficc 512": seven_maps("lufficc", VOC512, True),
    "amdegroot 512": seven_maps("amdegroot", VOC512, True),
    "mmdetection 512": seven_maps("mmdetection", (20, 51, 133, 215, 296, 378, 460, 542), False),
    "chainercv 512": seven_maps("chainercv", VOC512, False),
    "caffe 512": seven_maps("caffe", VOC512, False),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(layers, path):
    """A checkpoint file of whatever layers were run, wrapped as its authors do."""
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in layers.arrays.items()})
    elif path.suffix == ".caffemodel":
        path.write_bytes(caffemodel(layers.arrays))
    else:
        torch.save({"model": {f"module.{name}": t for name, t in layers.arrays.items()}, "epoch": 3}, path)
    return path


# One family shows the arithmetic of seven maps; test_files.py the names and shapes of the others.
SLOW = {"amdegroot 512", "mmdetection 512", "chainercv 512", "caffe 512"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES])
def test_raw_outputs_boxes_and_figures(case, tmp_path, caplog):
    function, (order, mean, std), table, (iou, before, after) = CASES[case]
    family = case.split()[0]
    height, width = (240, 320) if table is None else (table[0], table[0])
    pixels = np.random.default_rng(0).integers(0, 256, (1, height // 20 + 1, width // 20 + 1, 3), np.uint8)
    pixels = pixels.repeat(20, 1).repeat(20, 2)[:, :height, :width]  # BGR, with edges and flat places
    image = (pixels[..., ::-1] if order == "rgb" else pixels) - np.float32(mean)
    chainer = family == "chainercv"
    layers = Layers(kinds=("W", "b"), join="/") if chainer else Layers()
    with torch.inference_mode():
        x = torch.from_numpy((image / np.float32(std)).transpose(0, 3, 1, 2).copy())
        locations, scores = function(layers, x)

    path = write(layers, tmp_path / f"a{ {'chainercv': '.npz', 'caffe': '.caffemodel'}.get(family, '.pth') }")
    # All but amdegroot's, which say nothing of the colour order, are told by their keys.
    checkpoint = open_checkpoint(path, family=family if family.startswith("amdegroot") else None)
    spec = checkpoint.spec
    network, normalise = load_network(checkpoint), Normalise(spec.normalisation)
    with torch.inference_mode():
        ours = network(normalise(torch.from_numpy(pixels)))
    del checkpoint
    path.unlink()
    assert scores.std() > 1e-3
    np.testing.assert_allclose(ours[0], locations, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(ours[1], scores, atol=1e-4, rtol=1e-4)
    expected = face_priors() if table is None else priors(*table)
    np.testing.assert_allclose(default_boxes(spec.boxes), expected, atol=1e-6)
    assert spec.num_columns == scores.shape[2]
    assert (spec.score_function, spec.background) == ("softmax", True)
    assert spec.coding.variances == (0.1, 0.1, 0.2, 0.2)
    assert spec.nms.iou == iou
    for figure, limit in ((spec.nms.before, before), (spec.nms.after, after)):
        assert figure == limit if limit else figure >= len(expected)  # none: no network has more boxes
    assert "like neither VOC nor COCO" in caplog.text if family == "lufficc" else not caplog.records
