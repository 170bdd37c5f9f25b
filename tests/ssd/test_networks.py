"""Networks: sizes, parameters, padding and the order of what comes out, against figures and naive evaluations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssdcam.ssd.architectures import ARCHITECTURES, _boxes, build_network, map_sizes, new_spec
from ssdcam.ssd.backbones.mobilenet_v1 import MobileNetV1, SameConv2d, same_padding
from ssdcam.ssd.backbones.vgg import VGG16, ChannelNorm
from ssdcam.ssd.default_boxes import MOBILENET300, VOC300
from ssdcam.ssd.network import PLAIN_1X1, SSD, SeparableConv2d
from ssdcam.ssd.spec import BoxCoding, NmsFigures, Normalisation


def names(n):
    return [f"label {i}" for i in range(n)]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("columns", "expected"), [(21, 26_285_486), (81, 34_305_206), (91, 35_641_826)])
def test_parameters_of_ssd300(columns, expected):
    with torch.device("meta"):
        assert parameters(build_network(new_spec("ssd300-vgg16", names(columns - 1)))) == expected


def test_parameters_of_mobilenet_v1():
    """4.23 million with a classifier of 1,001 outputs (Howard et al., table 6, without it), BN folded to biases."""
    convolutions = sum(m.weight.numel() for m in MobileNetV1().modules() if isinstance(m, nn.Conv2d))
    extras = sum(p.numel() for name, p in MobileNetV1().named_parameters() if "extra" in name and "weight" in name)
    assert convolutions - extras == 3_185_088


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("ssd300-vgg16", (300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]),
        ("ssd300-vgg16", (300, 400), [(38, 50), (19, 25), (10, 13), (5, 7), (3, 5), (1, 3)]),
        ("ssd300-mobilenet-v1", (300, 300), [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]),
        ("ssd300-mobilenet-v1", (240, 320), [(15, 20), (8, 10), (4, 5), (2, 3), (1, 2), (1, 1)]),
    ],
)
def test_feature_maps(name, size, expected):
    assert map_sizes(name, size, {}) == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [None, (300, 300), (320, 480)])
def test_a_network_predicts_as_many_boxes_as_its_spec_lays_out(name, size):
    spec = new_spec(name, names(3), input_size=size)
    with torch.device("meta"):  # shapes alone
        locations, scores = build_network(spec).eval()(torch.zeros(2, 3, *spec.input_size))
    assert locations.shape == (2, spec.boxes.num_boxes, 4)
    assert scores.shape == (2, spec.boxes.num_boxes, 4)


@pytest.mark.parametrize(
    ("name", "table", "clip"),
    [("ssd300-vgg16", VOC300, "none"), ("ssd300-mobilenet-v1-relu", MOBILENET300, "centre")],
)
def test_default_boxes_are_the_released_ones_or_those_stretched(name, table, clip):
    assert new_spec(name, names(1)).boxes == table.layout(clip)
    # At 300x300 the release's steps do not divide the picture evenly, and elsewhere nothing is known of steps.
    for size in ((300, 400), (400, 300)):
        assert new_spec(name, names(1), input_size=size).boxes == table.stretched(map_sizes(name, size, {}), clip)
    assert table.layout(clip) != table.stretched(map_sizes(name, (300, 300), {}), clip)


def test_a_table_stretches_to_all_inputs_but_its_own():
    """The tables of ``ARCHITECTURES`` are bound when it is imported; here one is bound anew."""
    sizes = map_sizes("ssd300-vgg16", (300, 400), {})
    for boxes, clip in ((_boxes(VOC300), "none"), (_boxes(VOC300, "size"), "size")):
        assert boxes((300, 300), sizes) == VOC300.layout(clip)
        assert boxes((300, 400), sizes) == VOC300.stretched(sizes, clip)


def test_specs_have_the_figures_that_the_networks_were_published_with():
    vgg = new_spec("ssd512-vgg16", names(20), options={"batch_norm": 1})
    assert (vgg.architecture, vgg.labels, vgg.input_size) == ("ssd512-vgg16", tuple(names(20)), (512, 512))
    assert vgg.normalisation == Normalisation("bgr", (104, 117, 123), (1, 1, 1))
    assert (vgg.score_function, vgg.nms, vgg.coding) == ("softmax", NmsFigures(0.45, 400, 200), BoxCoding())
    assert (vgg.boxes.num_boxes, vgg.options) == (24564, {"batch_norm": 1})
    lite = new_spec("ssdlite320-mobilenet-v3-large", names(90))
    assert lite.normalisation == Normalisation("rgb", (127.5,) * 3, (127.5,) * 3)
    assert (lite.nms, lite.coding) == (NmsFigures(0.55, 300, 300), BoxCoding(max_log_size=np.log(1000 / 16)))
    assert (lite.boxes.num_boxes, lite.input_size, lite.options) == (3234, (320, 320), {})
    mobile = new_spec("ssd300-mobilenet-v1", names(90), options={"width": 0.75})
    assert (mobile.score_function, mobile.nms, mobile.boxes.num_boxes) == ("sigmoid", NmsFigures(0.6, 100, 100), 1917)
    assert mobile.options == {"width": 0.75}


@pytest.mark.parametrize(
    ("name", "others", "last"),
    [
        ("ssd300-vgg16", (nn.Conv2d, (3, 3)), (nn.Conv2d, (3, 3))),
        ("ssd300-mobilenet-v1", (nn.Conv2d, (1, 1)), (nn.Conv2d, (1, 1))),
        ("ssdlite320-mobilenet-v3-large", (SeparableConv2d, (1, 1)), (SeparableConv2d, (1, 1))),
        ("ssdlite300-mobilenet-v2", (SeparableConv2d, (1, 1)), (nn.Conv2d, (1, 1))),
        ("ultralight-faces", (SeparableConv2d, (1, 1)), (nn.Conv2d, (3, 3))),
    ],
)
def test_kinds_of_predictors(name, others, last):
    with torch.device("meta"):
        network = build_network(new_spec(name, names(3)))
    for heads in (network.loc, network.conf):
        kinds = [(type(head), head.kernel_size) for head in heads]
        assert kinds == [others] * (len(heads) - 1) + [last]


def test_separable_predictors_against_their_definition():
    """A 3x3 convolution a channel that keeps the map's size, ReLU6 unless another is given, a 1x1 convolution."""
    x = 9 * torch.randn(2, 4, 5, 6)
    for given, limit in (((), 6), ((nn.ReLU,), torch.inf)):
        head = SeparableConv2d(4, 7, *given)
        padded, expected = F.pad(x, (1, 1, 1, 1)), torch.zeros(2, 7, 5, 6)
        for row in range(5):
            for column in range(6):
                window = padded[:, :, row : row + 3, column : column + 3]
                inner = (window * head.depthwise.weight[:, 0]).sum(dim=(2, 3)) + head.depthwise.bias
                expected[:, :, row, column] = inner.clamp(0, limit) @ head.weight[:, :, 0, 0].T + head.bias
        assert (head.depthwise.weight.shape, head.weight.shape) == ((4, 1, 3, 3), (7, 4, 1, 1))
        np.testing.assert_allclose(head(x).detach(), expected.detach(), atol=1e-4)


def test_an_input_that_leaves_no_last_map_is_refused():
    complaint = "^ssd300-vgg16 cannot take an input of 320x240 pixels: its last feature map would be empty$"
    with pytest.raises(ValueError, match=complaint):
        new_spec("ssd300-vgg16", names(1), input_size=(240, 320))


def test_unknown_architectures_and_options_are_refused():
    with pytest.raises(ValueError, match="'ssd' is none of ssd300-vgg16, ssd512-vgg16, ssd300-mobilenet-v1"):
        new_spec("ssd", names(1))
    for name, known in (("ssd300-resnet50", "none"), ("ssd300-vgg16", "batch_norm")):
        with pytest.raises(ValueError, match=f"^the architecture has no option 'depth': it has {known}$"):
            new_spec(name, names(1), options={"depth": 2})
    with pytest.raises(ValueError, match="width 0 cannot be built"):
        new_spec("ssd300-mobilenet-v1", names(1), options={"width": 0})


def test_layout_for_another_number_of_maps_is_refused():
    spec = new_spec("ssd300-vgg16", names(1))
    with pytest.raises(ValueError, match="6 feature maps cannot take default boxes for 5"):
        build_network(replace(spec, boxes=replace(spec.boxes, maps=spec.boxes.maps[1:])))


def test_channel_norm_against_its_definition():
    norm = ChannelNorm(3, scale=20.0)
    x = torch.randn(2, 3, 4, 5)
    y = norm(x).detach()
    cell = x[1, :, 2, 3]
    np.testing.assert_allclose(y[1, :, 2, 3], 20 * cell / np.sqrt((cell.numpy() ** 2).sum()), rtol=1e-5)
    assert torch.isfinite(norm(torch.zeros(1, 3, 1, 1))).all()


def test_channel_norm_survives_half_precision():
    """conv4_3 reaches hundreds; the sum of 512 squares passes fp16's largest number."""
    x = torch.full((1, 512, 1, 1), 300.0, dtype=torch.float16)
    np.testing.assert_allclose(ChannelNorm(512).half()(x).detach().float(), 20 / 512**0.5, rtol=2e-3)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (300, 3, 2, (0, 1)),
        (75, 3, 2, (1, 1)),
        (150, 3, 1, (1, 1)),
        (10, 1, 1, (0, 0)),
        (1, 3, 2, (1, 1)),
        (2, 3, 2, (0, 1)),
    ],
)
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 7), (7, 7), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_convolution_against_its_definition(size, stride):
    conv = SameConv2d(2, 3, 3, stride=stride)
    x = torch.randn(1, 2, *size)
    y = conv(x).detach()
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    assert y.shape == (1, 3, rows, columns)
    top, left = same_padding(size[0], 3, stride)[0], same_padding(size[1], 3, stride)[0]
    for i in range(rows):
        for j in range(columns):
            total = conv.bias.detach().clone()
            for di in range(3):
                for dj in range(3):
                    r, c = i * stride + di - top, j * stride + dj - left
                    if 0 <= r < size[0] and 0 <= c < size[1]:
                        total += conv.weight.detach()[:, :, di, dj] @ x[0, :, r, c]
            np.testing.assert_allclose(y[0, :, i, j], total, atol=1e-5)


def test_widths_of_mobilenet():
    assert MobileNetV1(1.0).channels == (512, 1024, 512, 256, 256, 128)
    assert MobileNetV1(0.75).channels == (384, 768, 384, 192, 192, 96)
    assert min(MobileNetV1(0.1).channels) == 16  # no layer is narrower


class OneMap(nn.Module):
    """A backbone whose map is the image itself."""

    channels = (3,)

    def forward(self, x):
        return [x]


def test_a_backbone_that_makes_more_maps_than_it_says_is_refused():
    class TwoMaps(OneMap):
        def forward(self, x):
            return [x, x]

    with pytest.raises(ValueError, match="zip"):
        SSD(TwoMaps(), [2], num_columns=5)(torch.zeros(1, 3, 4, 6))


def test_order_of_the_output():
    """Cells row by row; in a cell its default boxes; of a box its values: what default_boxes writes out."""
    network = SSD(OneMap(), [2], num_columns=5, head=PLAIN_1X1)
    x = torch.randn(1, 3, 4, 6)
    locations, scores = (part.detach() for part in network(x))
    row, column, box = 2, 5, 1
    index = (row * 6 + column) * 2 + box
    cell = x[0, :, row, column]
    for head, values, output in ((network.loc[0], 4, locations), (network.conf[0], 5, scores)):
        weight = head.weight.detach()[box * values : (box + 1) * values, :, 0, 0]
        bias = head.bias.detach()[box * values : (box + 1) * values]
        np.testing.assert_allclose(output[0, index], weight @ cell + bias, atol=1e-5)


def test_vgg_against_a_list_of_layers():
    """The same arithmetic written down as torch's functions, layer after layer, from figure 2 and SSD's release."""
    torch.manual_seed(0)
    net = VGG16().eval()
    layer = dict(net.named_modules())
    with torch.no_grad():
        x = image = torch.randn(1, 3, 300, 300)
        expected = []
        blocks = [["1_1", "1_2"], ["2_1", "2_2"], ["3_1", "3_2", "3_3"], ["4_1", "4_2", "4_3"], ["5_1", "5_2", "5_3"]]
        for i, block in enumerate(blocks):
            for n in block:
                x = F.relu(F.conv2d(x, layer[f"conv{n}"].weight, layer[f"conv{n}"].bias, padding=1))
            if i == 3:
                expected.append(F.normalize(x, dim=1) * net.conv4_3_norm.weight.view(1, -1, 1, 1))
            x = F.max_pool2d(x, 3, 1, 1) if i == 4 else F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = F.relu(F.conv2d(x, net.fc6.weight, net.fc6.bias, padding=6, dilation=6))
        x = F.relu(F.conv2d(x, net.fc7.weight, net.fc7.bias))
        expected.append(x)
        for stage, (stride, padding) in zip("6789", [(2, 1), (2, 1), (1, 0), (1, 0)], strict=True):
            a, b = layer[f"conv{stage}_1"], layer[f"conv{stage}_2"]
            x = F.relu(F.conv2d(F.relu(F.conv2d(x, a.weight, a.bias)), b.weight, b.bias, stride, padding))
            expected.append(x)
        for ours, theirs in zip(net(image), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
