"""What a ``.prototxt`` beside a ``.caffemodel`` tells: box layouts other than the paper's, input sizes, NMS figures."""

from __future__ import annotations

import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from ssdcam.checkpoints import resolve
from ssdcam.checkpoints.prototxt import find_prototxt, read_prototxt
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.errors import CheckpointError, UnavailableError, WrongUsageError
from ssdcam.notes import NOTE
from ssdcam.ssd.default_boxes import COCO300, VOC300, default_boxes
from ssdcam.ssd.spec import NO_LIMIT

from . import networks
from .layers import priors
from .test_families import MAPS300, MAPS512, RATIOS300, RATIOS512, STEPS300, STEPS512, VOC512

pytest.importorskip("google.protobuf", reason="needs protobuf: pip install 'ssdcam[caffe]'")

SOURCES = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2")
SIZES = {
    "voc": (30, 60, 111, 162, 213, 264, 315),
    "coco": (21, 45, 99, 153, 207, 261, 315),
}


def prior_layer(source, **param):
    """A PriorBox layer as deploy.prototxt has it; lists become repeated fields."""
    lines = [
        f"    {name}: {str(value).lower() if isinstance(value, bool) else value}"
        for name, values in param.items()
        for value in (values if isinstance(values, (list, tuple)) else [values])
    ]
    return "\n".join(
        [
            "layer {", f'  name: "{source}_mbox_priorbox"', '  type: "PriorBox"', f'  bottom: "{source}"',
            '  bottom: "data"', f'  top: "{source}_mbox_priorbox"', "  prior_box_param {", *lines, "  }", "}",
        ]
    )  # fmt: skip


def paper_priors(sizes, steps, ratios):
    """Those of the paper's release: a square, one between it and the next map's, and the ratios with their flips."""
    return [
        prior_layer(
            source, min_size=small, max_size=large, aspect_ratio=list(map_ratios), flip=True, clip=False,
            variance=[0.1, 0.1, 0.2, 0.2], step=step, offset=0.5,
        )
        for source, small, large, map_ratios, step in zip(SOURCES, sizes, sizes[1:], ratios, steps, strict=False)
    ]  # fmt: skip


def detection_output(
    columns, *, more="", nms="nms_threshold: 0.45 top_k: 400", code="CENTER_SIZE", keep=200, shared=True, background=0
):
    return f"""
layer {{
  name: "detection_out"
  type: "DetectionOutput"
  bottom: "mbox_loc"
  include {{ phase: TEST }}
  detection_output_param {{
    num_classes: {columns}
    share_location: {str(shared).lower()}
    background_label_id: {background}
    nms_param {{ {nms} }}
    save_output_param {{ label_map_file: "data/VOC0712/labelmap_voc.prototxt" }}
    code_type: {code}
    keep_top_k: {keep}
    confidence_threshold: 0.01
    {more}
  }}
}}
"""


def write(path: Path, *layers: str, side: int | None = 300) -> Path:
    """A deploy.prototxt with what else stands in one."""
    head = 'name: "VGG_SSD_deploy"  # a comment\ninput: "data"\n'
    shape = f"input_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n" if side else ""
    body = 'layer { name: "conv1_1" type: "Convolution" convolution_param { num_output: 64 } }\n'
    path.write_text(head + shape + body + "\n".join(layers))
    return path


def arrays_of(columns, per_cell):
    """Names and shapes of the paper's SSD300 or SSD512 with so many boxes in a cell, all zero."""
    convs = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
    outputs = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [1024] * 2
    extras = networks.EXTRAS512 if len(per_cell) == 7 else networks.EXTRAS300
    layers = [*zip([*convs, "fc6", "fc7"], outputs, [3] * 14 + [1], strict=True)]
    layers += [(f"conv{6 + i // 2}_{1 + i % 2}", n, kernel) for i, (n, kernel, _, _) in enumerate(extras)]
    arrays = {"conv4_3_norm.weight": np.zeros(512, np.float32)}
    inputs = 3
    for name, n, kernel in layers:
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = np.zeros((n, inputs, kernel, kernel), "f"), np.zeros(n, "f")
        inputs = n
    channels = (512, 1024, 512, *[256] * 4)
    for source, inputs, boxes in zip(SOURCES, channels, per_cell, strict=False):
        for kind, values in (("loc", 4), ("conf", columns)):
            arrays[f"{source}_mbox_{kind}.weight"] = np.zeros((values * boxes, inputs, 3, 3), "f")
            arrays[f"{source}_mbox_{kind}.bias"] = np.zeros(values * boxes, "f")
    return arrays


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens ``a.caffemodel`` with given arrays; real files would be of 100 MB."""

    def open_with(columns=21, per_cell=(4, 6, 6, 6, 4, 4), **options):
        path = tmp_path / "a.caffemodel"
        path.write_bytes(b"\x0a" + bytes(40))
        monkeypatch.setattr(resolve, "read_caffemodel", lambda _: arrays_of(columns, per_cell))
        return open_checkpoint(path, **options).spec

    return open_with


@pytest.mark.parametrize("table", ["voc", "coco"])
@pytest.mark.parametrize("columns", [21, 5])
def test_the_papers_own(table, columns, opened, tmp_path, caplog):
    write(tmp_path / "deploy.prototxt", *paper_priors(SIZES[table], STEPS300, RATIOS300), detection_output(columns))
    spec = opened(columns)
    wanted = priors(300, MAPS300, STEPS300, SIZES[table], RATIOS300, clamp=False)
    np.testing.assert_allclose(default_boxes(spec.boxes), wanted, atol=1e-6)
    assert spec.boxes.clip == "none"
    assert spec.coding.variances == (0.1, 0.1, 0.2, 0.2)
    assert (spec.nms.iou, spec.nms.before, spec.nms.after) == (0.45, 400, 200)
    assert spec.num_columns == columns
    assert not caplog.records  # nothing had to be assumed


def test_the_papers_512(opened, tmp_path):
    write(tmp_path / "a.prototxt", *paper_priors(VOC512, STEPS512, RATIOS512), detection_output(21), side=512)
    spec = opened(per_cell=networks.PER_CELL[7])
    assert (spec.architecture, spec.input_size) == ("ssd512-vgg16", (512, 512))
    wanted = priors(512, MAPS512, STEPS512, VOC512, RATIOS512, clamp=False)
    np.testing.assert_allclose(default_boxes(spec.boxes), wanted, atol=1e-6)


def test_another_size_and_layout(opened, tmp_path):
    """Several sizes a map, no steps, no flips, a clip, a variance, other figures of NMS: what Caffe's layer makes."""
    sides = [(20, 35), (50,), (90,), (140,), (200,), (250,)]
    layers = [
        prior_layer(
            source, min_size=list(small), max_size=[2 * side for side in small], aspect_ratio=[1, 2, 2, 0.3],
            flip=False, clip=True, variance=[0.1],
        )
        for source, small in zip(SOURCES, sides, strict=False)
    ]  # fmt: skip
    output = detection_output(5, nms="nms_threshold: 0.6 top_k: -1", keep=-1)
    write(tmp_path / "deploy.prototxt", *layers, output, side=412)
    spec = opened(5, tuple(4 * len(small) for small in sides))
    assert spec.input_size == (412, 412)
    assert (spec.nms.iou, spec.nms.before, spec.nms.after) == (0.6, NO_LIMIT, NO_LIMIT)
    assert spec.coding.variances == (0.1,) * 4

    wanted = []
    for cells, small in zip((52, 26, 13, 7, 5, 3), sides, strict=True):
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) / cells, (row + 0.5) / cells
                for side in small:
                    shapes = [(side, side), (side * sqrt(2),) * 2]
                    shapes += [(side * sqrt(ratio), side / sqrt(ratio)) for ratio in (2, 0.3)]
                    for w, h in shapes:
                        low = np.clip([x - w / 824, y - h / 824], 0, 1)
                        high = np.clip([x + w / 824, y + h / 824], 0, 1)
                        wanted.append([*(low + high) / 2, *(high - low)])
    np.testing.assert_allclose(default_boxes(spec.boxes), wanted, atol=1e-6)


def test_steps_and_sizes_of_their_own(opened, tmp_path):
    layers = [
        prior_layer(source, min_size=30, step_w=8 * 2**k, step_h=9 * 2**k, img_w=400, img_h=200)
        for k, source in enumerate(SOURCES[:6])
    ]
    write(tmp_path / "deploy.prototxt", *layers, side=None)
    spec = opened(per_cell=(1,) * 6)
    assert spec.input_size == (300, 300)  # nothing says another one
    boxes = default_boxes(spec.boxes)
    np.testing.assert_allclose(boxes[1], [12 / 400, 4.5 / 200, 30 / 400, 30 / 200], atol=1e-7)
    assert spec.nms.iou == 0.45  # the family's


@pytest.mark.parametrize(
    "head",
    [
        "input_dim: 1 input_dim: 3 input_dim: 240 input_dim: 330",
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 240, 330] } } }',
        'layer { type: "AnnotatedData" transform_param { mirror: true mean_value: 104 resize_param { prob: 1 '
        "resize_mode: WARP height: 240 width: 330 } } }",
    ],
)
def test_where_the_input_size_stands(head, tmp_path):
    path = write(tmp_path / "a.prototxt", head, *paper_priors(SIZES["voc"], STEPS300, RATIOS300), side=None)
    assert read_prototxt(path).input_size == (240, 330)


def test_variances_in_the_target(tmp_path):
    layers = paper_priors(SIZES["voc"], STEPS300, RATIOS300)
    output = detection_output(21, more="variance_encoded_in_target: true")
    assert read_prototxt(write(tmp_path / "a.prototxt", *layers, output)).coding.variances == (1, 1, 1, 1)


def test_which_file_is_taken(opened, tmp_path, caplog):
    caplog.set_level(NOTE, "ssdcam")
    assert find_prototxt(tmp_path / "a.caffemodel") is None
    assert opened(81).boxes == COCO300.layout("none")
    (tmp_path / "deploy.prototxt").write_text('name: "a classifier" layer { name: "fc8" type: "InnerProduct" }')
    assert opened(81).boxes == COCO300.layout("none")  # it is about another network
    assert not caplog.text

    write(tmp_path / "deploy.prototxt", *paper_priors(SIZES["voc"], STEPS300, RATIOS300))
    assert opened(81).boxes.maps[0].shapes[0] == VOC300.layout("none").maps[0].shapes[0]
    assert "a.caffemodel: default boxes and NMS figures are those of" in caplog.text
    assert opened(81, boxes="coco").boxes == COCO300.layout("none")  # the user knows better

    write(tmp_path / "a.prototxt", *paper_priors((10, *SIZES["voc"][1:]), STEPS300, RATIOS300))
    assert opened(81).boxes.maps[0].shapes[0] == pytest.approx((10 / 300, 10 / 300))
    with pytest.raises(WrongUsageError, match="--family nosuch"):
        opened(81, family="nosuch")


PAPER = paper_priors(SIZES["voc"], STEPS300, RATIOS300)


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ([*PAPER, detection_output(21, code="CORNER")], "not coded by centre and size"),
        ([*PAPER, detection_output(21, shared=False)], "predicts boxes for each class"),
        ([*PAPER, detection_output(21, background=20)], "background is class 20"),
        ([*PAPER, detection_output(21, nms="eta: 0.9")], "NMS is adaptive"),
        ([*PAPER, detection_output(21, nms="nms_threshold: 7")], "NMS IoU of 7"),
        ([*PAPER, detection_output(81)], "is for 81 classes with background, but a.caffemodel has 21"),
        (PAPER[:5], "has PriorBox layers on 5 feature maps"),
        ([*PAPER[:5], prior_layer("conv10_2", min_size=30)], "does not suit conv10_2"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=30, offset=0)], "not centred in their cells"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=30, clip=True)], "of some feature maps only"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=30, variance=[0.5])], "different variances"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=30, variance=[1, 2])], "2 variances"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=[30, 40], max_size=50)], "2 min_size for 1 max_size"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=-30)], "must be positive"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size="nan")], "must be positive"),
        ([*PAPER[:5], prior_layer("conv9_2", max_size=[])], "has no boxes"),
        ([*PAPER[:5], prior_layer("conv9_2", min_size=30, aspect_ratio=0)], "aspect_ratio is not positive"),
        ([*PAPER[:5], 'layer { name: "p" type: "PriorBox" }'], "its layer p has no bottom"),
        ([*PAPER, "input_dim: [1, 3, 99999, 9]"], "input of 9x99999 pixels is no picture"),
        ([prior_layer("conv4_3_norm", min_size=[1] * 99_999), *PAPER[1:]], "default boxes are more than"),
        ([*PAPER, "}"], "is no .prototxt: "),
        (["layer { " * 20_000], "is no .prototxt: "),
        (["layer { x { " + "y { " * 20_000], "is no .prototxt: "),
        (["layer { name: 3 }"], "is no .prototxt: "),
        (["# " + "x" * 4_000_000], "too large"),
    ],
)
def test_what_it_refuses(layers, complaint, opened, tmp_path):
    side = None if any("input_dim" in layer for layer in layers) else 300
    write(tmp_path / "deploy.prototxt", *layers, side=side)
    with pytest.raises(CheckpointError, match=rf"deploy\.prototxt: .*{complaint}") as told:
        opened()
    assert "\n" not in str(told.value)


def test_other_boxes_than_the_weights_have(opened, tmp_path):
    write(tmp_path / "deploy.prototxt", *PAPER[:5], prior_layer("conv9_2", min_size=264, variance=[0.1, 0.1, 0.2, 0.2]))
    with pytest.raises(CheckpointError, match=r"a\.caffemodel: .*loc\.5\.\w+ is \(16,.*where \(4,.*is needed"):
        opened()


def test_no_text(opened, tmp_path):
    (tmp_path / "a.prototxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"a\.prototxt: is no text"):
        opened()


def test_without_protobuf(tmp_path, monkeypatch):
    (tmp_path / "a.caffemodel").write_bytes(b"\x0a" + bytes(40))
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(UnavailableError, match=r"a\.caffemodel: .*pip install 'ssdcam\[caffe\]'"):
        open_checkpoint(tmp_path / "a.caffemodel")
