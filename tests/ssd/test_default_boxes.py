"""Default boxes against the figures that the paper, its release and torchvision published."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.ssd.default_boxes import (
    COCO300,
    COCO512,
    VOC300,
    VOC512,
    BoxLayout,
    FeatureMapBoxes,
    default_boxes,
    layout_faces,
    layout_from_scales,
    layout_from_sizes,
    layout_ssdlite,
    layout_tensorflow,
    paper_scales,
    paper_shapes,
)


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        (VOC300, [5776, 2166, 600, 150, 36, 4]),
        (COCO300, [5776, 2166, 600, 150, 36, 4]),
        (VOC512, [16384, 6144, 1536, 384, 96, 16, 4]),
        (COCO512, [16384, 6144, 1536, 384, 96, 16, 4]),
    ],
)
def test_released_layouts_have_the_published_number_of_boxes(table, counts):
    layout = table.layout()
    assert [m.num_boxes for m in layout.maps] == counts
    assert default_boxes(layout).shape == (sum(counts), 4) == (layout.num_boxes, 4)


def test_boxes_per_cell():
    assert VOC300.layout().boxes_per_cell == (4, 6, 6, 6, 4, 4)
    assert VOC512.layout().boxes_per_cell == (4, 6, 6, 6, 6, 4, 4)


def test_first_and_last_rows_of_voc300():
    boxes = default_boxes(VOC300.layout())
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes[:4, :2], 0.0133333, atol=1e-6)
    np.testing.assert_allclose(
        boxes[:4, 2:],
        [[0.1, 0.1], [0.1414214, 0.1414214], [0.1414214, 0.0707107], [0.0707107, 0.1414214]],
        atol=1e-6,
    )
    np.testing.assert_allclose(boxes[-1], [0.5, 0.5, 0.6222540, 1.2445079], atol=1e-6)


def test_cells_go_row_by_row():
    boxes = default_boxes(VOC300.layout()).reshape(-1, 4)[: 38 * 38 * 4].reshape(38, 38, 4, 4)
    np.testing.assert_allclose(boxes[3, 7, :, 0], 7.5 * 8 / 300, atol=1e-6)
    np.testing.assert_allclose(boxes[3, 7, :, 1], 3.5 * 8 / 300, atol=1e-6)


def test_the_rule_as_the_paper_prints_it():
    scales = paper_scales(6)
    np.testing.assert_allclose(scales[:6], [0.2, 0.34, 0.48, 0.62, 0.76, 0.9])
    assert len(scales) == 7
    assert scales[6] == pytest.approx(1.04)


def test_the_release_is_the_rule_over_five_maps_rounded_down():
    """conv4_3 stands apart at 0.1; the step of the others, 17.5 %, is cut to 17."""
    assert [s / 300 for s in VOC300.sizes] == pytest.approx([0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05])
    np.testing.assert_allclose(paper_scales(5)[:5], [0.2, 0.375, 0.55, 0.725, 0.9])


def test_shapes_of_a_cell():
    """Section 2.2: w = s sqrt(a), h = s / sqrt(a), and sqrt(s_k s_k+1) for a further square."""
    shapes = paper_shapes((0.2, 0.2), (0.8, 0.8), [2, 3])
    np.testing.assert_allclose(shapes[:2], [(0.2, 0.2), (0.4, 0.4)])
    areas = [w * h for w, h in shapes]
    np.testing.assert_allclose(areas, [0.04, 0.16, 0.04, 0.04, 0.04, 0.04])
    np.testing.assert_allclose([w / h for w, h in shapes], [1, 1, 2, 1 / 2, 3, 1 / 3])


@pytest.mark.parametrize(
    ("table", "clip", "changed"),
    [(VOC300, "centre", 134), (COCO300, "centre", 116), (VOC300, "none", 0)],
)
def test_how_many_rows_clipping_changes(table, clip, changed):
    free, clipped = default_boxes(table.layout()), default_boxes(table.layout(clip))
    assert int((free != clipped).any(axis=1).sum()) == changed


def test_clipping_sizes_leaves_centres_alone():
    free, clipped = default_boxes(VOC300.layout()), default_boxes(VOC300.layout("size"))
    np.testing.assert_array_equal(free[:, :2], clipped[:, :2])
    np.testing.assert_array_equal(np.minimum(free[:, 2:], 1), clipped[:, 2:])
    assert (free != clipped).any()


def test_clipping_corners_keeps_boxes_in_the_image():
    free, clipped = default_boxes(VOC300.layout()), default_boxes(VOC300.layout("corners"))
    low, high = free[:, :2] - free[:, 2:] / 2, free[:, :2] + free[:, 2:] / 2
    np.testing.assert_allclose(clipped[:, :2] - clipped[:, 2:] / 2, low.clip(0, 1), atol=1e-6)
    np.testing.assert_allclose(clipped[:, :2] + clipped[:, 2:] / 2, high.clip(0, 1), atol=1e-6)


def test_torchvision_golden():
    """Their own test: one 1x1 map on a 15x15 image, ratio 2, scales 0.15 and 0.9."""
    layout = layout_from_scales([(1, 1)], [0.15, 0.9], [[2]], clip="size")
    boxes = default_boxes(layout) * 15
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    expected = [
        [6.375, 6.375, 8.625, 8.625],
        [4.7443, 4.7443, 10.2557, 10.2557],
        [5.9090, 6.7045, 9.0910, 8.2955],
        [6.7045, 5.9090, 8.2955, 9.0910],
    ]
    np.testing.assert_allclose(corners, expected, atol=1e-4)


def test_tensorflow_layout():
    sizes = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    layout = layout_tensorflow(sizes)
    assert layout.boxes_per_cell == (3, 6, 6, 6, 6, 6)
    assert [m.num_boxes for m in layout.maps] == [1083, 600, 150, 54, 24, 6]
    assert layout.num_boxes == 1917
    np.testing.assert_allclose(
        layout.maps[0].shapes, [(0.1, 0.1), (0.2 * 2**0.5, 0.2 / 2**0.5), (0.2 / 2**0.5, 0.2 * 2**0.5)]
    )
    assert layout.maps[-1].shapes[-1] == pytest.approx(((0.95 * 1.0) ** 0.5,) * 2)
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    for m, scale, following in list(zip(layout.maps, scales, scales[1:], strict=False))[1:]:
        w, h = np.array(m.shapes).T
        np.testing.assert_allclose(w / h, [1, 2, 1 / 2, 3, 1 / 3, 1])
        np.testing.assert_allclose(w * h, [*[scale**2] * 5, scale * following])
        assert m.step == (1 / m.columns, 1 / m.rows)
    assert layout.clip == "none"
    assert layout_tensorflow(sizes, clip="size") == replace(layout, clip="size")
    assert layout_tensorflow(sizes, smallest=0.3, largest=0.9).maps[5].shapes[0] == pytest.approx((0.9, 0.9))
    assert layout_tensorflow(sizes, smallest=0.3, largest=0.9).maps[1].shapes[0] == pytest.approx((0.42, 0.42))


def test_ssdlite_layout():
    """torchvision's DefaultBoxGenerator for SSDLite320: scales 0.2 to 0.95 and 1, ratios 2 and 3 everywhere."""
    layout = layout_ssdlite([(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)])
    assert layout.boxes_per_cell == (6,) * 6
    assert (layout.num_boxes, layout.clip) == (3234, "size")
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    for m, scale, following in zip(layout.maps, scales, scales[1:], strict=False):
        w, h = np.array(m.shapes).T
        np.testing.assert_allclose(w / h, [1, 1, 2, 1 / 2, 3, 1 / 3])
        np.testing.assert_allclose(w * h, [scale**2, scale * following, *[scale**2] * 4])


def test_faces_layout():
    """Squares of fixed sides in pixels of the input, whatever its shape, clipped to it."""
    layout = layout_faces((240, 320), [(30, 40), (15, 20), (8, 10), (4, 5)])
    assert (layout.num_boxes, layout.clip) == (4420, "centre")
    for m, sides in zip(layout.maps, [(10, 16, 24), (32, 48), (64, 96), (128, 192, 256)], strict=True):
        np.testing.assert_allclose(np.array(m.shapes) * (320, 240), np.array([sides, sides]).T)
        assert m.step == (1 / m.columns, 1 / m.rows)
    assert (layout.maps[2].rows, layout.maps[2].columns) == (8, 10)
    with pytest.raises(ValueError, match="zip"):
        layout_faces((240, 320), [(30, 40), (15, 20), (8, 10)])


def test_sizes_in_pixels_stay_square_on_an_input_that_is_not():
    layout = layout_from_sizes((240, 320), [(30, 40)], [8], [24, 48], [[2]])
    (w, h), (extra_w, extra_h), *_ = layout.maps[0].shapes
    assert (w * 320, h * 240) == pytest.approx((24, 24))
    assert (extra_w * 320, extra_h * 240) == pytest.approx((24 * 2**0.5, 24 * 2**0.5))
    boxes = default_boxes(layout)
    np.testing.assert_allclose(boxes[0, :2], [4 / 320, 4 / 240])
    np.testing.assert_allclose(boxes[-1, :2], [(39.5 * 8) / 320, (29.5 * 8) / 240])


def test_stretched_layout_keeps_shapes_and_spreads_centres():
    sizes = [(38, 50), (19, 25), (10, 13), (5, 7), (3, 5), (1, 3)]
    layout = VOC300.stretched(sizes)
    assert [m.shapes for m in layout.maps] == [m.shapes for m in VOC300.layout().maps]
    assert layout.clip == "none"
    assert VOC300.stretched(sizes, "size") == replace(layout, clip="size")
    boxes = default_boxes(layout)
    assert boxes[:, 0].min() == pytest.approx(0.5 / 50)
    assert boxes[:, 0].max() == pytest.approx(49.5 / 50)
    assert boxes[:, 1].min() == pytest.approx(0.5 / 38)
    assert boxes[:, 1].max() == pytest.approx(37.5 / 38)
    for m, (rows, columns) in zip(layout.maps, sizes, strict=True):
        assert (m.rows, m.columns, m.step) == (rows, columns, pytest.approx((1 / columns, 1 / rows)))


ONE_CELL = FeatureMapBoxes(1, 1, ((0.1, 0.1),), (1, 1))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(ONE_CELL, rows=0), "a 0x1 feature map with 1 shapes has no boxes"),
        (lambda: replace(ONE_CELL, columns=0), "a 1x0 feature map with 1 shapes has no boxes"),
        (lambda: replace(ONE_CELL, shapes=()), "a 1x1 feature map with 0 shapes has no boxes"),
        (lambda: replace(ONE_CELL, shapes=((0.1, 0.0),)), "shapes and steps of default boxes must be positive"),
        (lambda: replace(ONE_CELL, shapes=((0.1, nan),)), "shapes and steps of default boxes must be positive"),
        (lambda: replace(ONE_CELL, step=(0.1, inf)), "shapes and steps of default boxes must be positive"),
        (lambda: BoxLayout(()), "a box layout needs a feature map"),
        (lambda: BoxLayout((ONE_CELL,), "edges"), "clip 'edges' is none of none, centre, size, corners"),
        (
            lambda: BoxLayout((replace(ONE_CELL, rows=1000, columns=1000), ONE_CELL)),
            "1000001 default boxes are more than any network has",
        ),
        (lambda: layout_from_scales([(1, 1)], [0.2], [[2]]), "1 feature maps need 2 scales, not 1"),
        (lambda: layout_from_scales([(1, 1)], [0.2, 0.3], []), r"zip\(\) argument 3 is shorter than arguments 1-2"),
        (lambda: layout_from_sizes((9, 9), [(1, 1)], [9], [3], [[2]]), "1 feature maps need 2 sizes, not 1"),
        (
            lambda: layout_from_sizes((9, 9), [(1, 1)], [], [3, 4], [[2]]),
            r"zip\(\) argument 2 is shorter than argument 1",
        ),
        (lambda: paper_scales(1), "the paper's rule spreads scales over two feature maps or more"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(make, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        make()


def test_nothing_is_clipped_unless_that_is_asked_for():
    assert layout_from_scales([(1, 1)], [0.9, 1.8], [[2]]) == layout_from_scales(
        [(1, 1)], [0.9, 1.8], [[2]], clip="none"
    )
    assert layout_from_sizes((9, 9), [(1, 1)], [9], [9, 18], [[2]]).clip == "none"


def test_the_edges_are_allowed():
    assert BoxLayout((replace(ONE_CELL, rows=1000, columns=1000),)).num_boxes == 1_000_000
    assert paper_scales(2) == pytest.approx((0.2, 0.9, 1.6))


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    shapes=st.lists(st.tuples(st.floats(0.01, 2), st.floats(0.01, 2)), min_size=1, max_size=4),
    spread=st.sampled_from([0.9, 1, 1.5]),
    clip=st.sampled_from(["none", "centre", "size", "corners"]),
)
def test_any_layout_against_a_naive_loop(rows, columns, shapes, spread, clip):
    """Cells that leave a margin, fill the image, and go beyond it."""
    step = (spread / columns, spread / rows)
    layout = BoxLayout((FeatureMapBoxes(rows, columns, tuple(shapes), step),), clip)
    expected = []
    for i in range(rows):
        for j in range(columns):
            for w, h in shapes:
                cx, cy = (j + 0.5) * step[0], (i + 0.5) * step[1]
                if clip == "centre":
                    cx, cy, w, h = min(cx, 1), min(cy, 1), min(w, 1), min(h, 1)
                if clip == "size":
                    w, h = min(w, 1), min(h, 1)
                if clip == "corners":
                    x1, x2 = min(max(cx - w / 2, 0), 1), min(cx + w / 2, 1)
                    y1, y2 = min(max(cy - h / 2, 0), 1), min(cy + h / 2, 1)
                    cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
                expected.append([cx, cy, w, h])
    np.testing.assert_allclose(default_boxes(layout), expected, atol=1e-6)
