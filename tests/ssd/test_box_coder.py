"""The coder and IoU, in torch and in numpy, against each other and against arithmetic by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssdcam.ssd import host
from ssdcam.ssd.box_coder import decode, encode, pairwise_iou, to_centres, to_corners
from ssdcam.ssd.default_boxes import VOC300, default_boxes
from ssdcam.ssd.spec import BoxCoding

CODING = BoxCoding()
sides = st.floats(1 / 128, 1, width=32)
centres = st.floats(0, 1, width=32)
boxes_of = st.lists(st.tuples(centres, centres, sides, sides), min_size=1, max_size=20)


def test_equation_2_by_hand():
    default = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    box = torch.tensor([[0.6, 0.4, 0.4, 0.2]])
    expected = [(0.1 / 0.2) / 0.1, (-0.1 / 0.4) / 0.1, np.log(2) / 0.2, np.log(0.5) / 0.2]
    np.testing.assert_allclose(encode(box, default, CODING)[0], expected, rtol=1e-5)


@given(boxes_of)
def test_decoding_what_was_encoded(boxes):
    boxes = torch.tensor(boxes)
    defaults = torch.from_numpy(default_boxes(VOC300.layout()))[:: len(default_boxes(VOC300.layout())) // len(boxes)]
    defaults = defaults[: len(boxes)]
    again = decode(encode(boxes, defaults, CODING), defaults, CODING)
    np.testing.assert_allclose(again, boxes, atol=2e-6, rtol=1e-5)


@given(arrays(np.float32, (5, 4), elements=st.floats(-8, 8, width=32)))
def test_encoding_what_was_decoded(locations):
    defaults = default_boxes(VOC300.layout())[4000:4005]
    boxes = decode(torch.from_numpy(locations), torch.from_numpy(defaults), CODING)
    np.testing.assert_allclose(encode(boxes, torch.from_numpy(defaults), CODING), locations, atol=1e-3)


@given(arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
@pytest.mark.parametrize("coding", [CODING, BoxCoding((0.1, 0.1, 0.2, 0.2), 4.1352), BoxCoding((1, 1, 1, 1))])
def test_numpy_decodes_as_torch_does(coding, locations):
    defaults = default_boxes(VOC300.layout())[:5]
    ours = decode(torch.from_numpy(locations), torch.from_numpy(defaults), coding).numpy()
    with np.errstate(over="ignore", under="ignore"):
        theirs = host.decode(locations, defaults, coding)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)


def test_limit_of_the_exponent():
    """torchvision clamps dw and dh at log(1000 / 16); the others do not."""
    defaults = torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    wild = torch.tensor([[0.0, 0.0, 1000.0, 10.0]])
    clamped = decode(wild, defaults, BoxCoding(max_log_size=np.log(1000 / 16)))[0]
    np.testing.assert_allclose(clamped[2:], [0.1 * 1000 / 16, 0.1 * np.exp(2)], rtol=1e-5)
    assert torch.isinf(decode(wild, defaults, CODING)[0, 2])


@pytest.mark.parametrize("flat", [[0.5, 0.5, 0, 0.1], [0.5, 0.5, 0.1, 0], [0.5, 0.5, -0.1, 0.1], [0.5, 0.5, np.nan, 1]])
def test_boxes_without_area_cannot_be_encoded(flat):
    with pytest.raises(ValueError, match=r"^boxes must have positive width and height to be encoded$"):
        encode(torch.tensor([flat]), torch.tensor([[0.5, 0.5, 0.1, 0.1]]), CODING)


def numpy_of(*tensors):
    return (tensor[1, 2].numpy() for tensor in tensors)


def test_leading_axes_are_kept():
    boxes, defaults = torch.rand(2, 3, 5, 4) + 0.1, torch.rand(2, 3, 5, 4) + 0.1
    for whole, part in [
        (encode(boxes, defaults, CODING), encode(boxes[1, 2], defaults[1, 2], CODING)),
        (decode(boxes, defaults, CODING), decode(boxes[1, 2], defaults[1, 2], CODING)),
        (to_centres(boxes), to_centres(boxes[1, 2])),
        (to_corners(boxes), to_corners(boxes[1, 2])),
        (host.decode(boxes.numpy(), defaults.numpy(), CODING), host.decode(*numpy_of(boxes, defaults), CODING)),
        (host.to_corners(boxes.numpy()), host.to_corners(*numpy_of(boxes))),
    ]:
        np.testing.assert_array_equal(whole[1, 2], part)


@given(boxes_of)
def test_corners_and_back(boxes):
    boxes = torch.tensor(boxes)
    np.testing.assert_allclose(to_centres(to_corners(boxes)), boxes, atol=1e-6)
    np.testing.assert_array_equal(host.to_corners(boxes.numpy()), to_corners(boxes))


def naive_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0


@given(boxes_of, boxes_of)
def test_iou_against_a_naive_loop(a, b):
    a, b = to_corners(torch.tensor(a)), to_corners(torch.tensor(b))
    expected = np.array([[naive_iou(x, y) for y in b.double().tolist()] for x in a.double().tolist()])
    for overlaps in (pairwise_iou(a, b).numpy(), host.pairwise_iou(a.numpy(), b.numpy())):
        assert overlaps.shape == (len(a), len(b))
        np.testing.assert_allclose(overlaps, expected, atol=1e-5)
        assert ((overlaps >= 0) & (overlaps <= 1 + 1e-6)).all()


def test_iou_of_known_boxes():
    a = torch.tensor([[0.0, 0, 2, 2]])
    b = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 1, 1], [5, 5, 6, 6]])
    np.testing.assert_allclose(pairwise_iou(a, b)[0], [1, 1 / 7, 0, 1 / 4, 0])


def test_boxes_without_area_overlap_nothing():
    point = torch.tensor([[1.0, 1, 1, 1]])
    assert pairwise_iou(point, point).item() == 0
    overlaps = host.pairwise_iou(point.numpy(), point.numpy())
    assert (overlaps.item(), overlaps.dtype) == (0, np.float32)


def test_iou_keeps_leading_axes():
    boxes = to_corners(torch.rand(2, 3, 5, 4))
    overlaps = pairwise_iou(boxes, boxes)
    assert overlaps.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(overlaps[1, 2], pairwise_iou(boxes[1, 2], boxes[1, 2]))
    np.testing.assert_allclose(host.pairwise_iou(boxes.numpy(), boxes.numpy()), overlaps, rtol=1e-6)
