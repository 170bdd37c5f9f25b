"""Where is drawn and in which colours, not what letters look like: OpenCV 4 and 5 draw text differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssdcam.detections import Detections
from ssdcam.media import drawing
from ssdcam.media.drawing import Style, class_colour, draw_detections, drawable, text_colour, text_height
from ssdcam.media.surface import BgrSurface, Tile

Rectangle = tuple[int, int, int, int]

GREY = 127
RIM = 2  # a dark rim may reach this far out of a box, in pixels


@dataclass
class Drawn:
    """A drawn picture, and the rectangles that its labels fill, x1, y1, x2, y2, the last two not included."""

    image: NDArray[np.uint8]
    labels: list[Rectangle] = field(default_factory=list)

    @property
    def changed(self) -> NDArray[np.bool_]:
        return (self.image != GREY).any(axis=2)


def draw(size: tuple[int, int], found: Detections, style: Style | None = None) -> Drawn:
    """Draw on grey; what is pasted is a label."""
    width, height = size
    drawn = Drawn(np.full((height, width, 3), GREY, np.uint8))

    class Noting(BgrSurface):
        def paste(self, x: int, y: int, tile: Tile) -> None:
            height, width = tile.image.shape[:2]
            drawn.labels.append((x, y, x + width, y + height))
            super().paste(x, y, tile)

    draw_detections(Noting(drawn.image), found, style)
    return drawn


def detections(*boxes: tuple[float, float, float, float], labels: tuple[str, ...] = (), first: int = 0) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.linspace(0.99, 0.5, n, dtype=np.float32),
        np.arange(first, first + n),
        labels or tuple(f"class {i}" for i in range(n)),
    )


names = st.text(max_size=20) | st.sampled_from(
    [
        "person",
        "a" * 500,
        "猫" * 40,
        "👍🏽",
        "\x1b[31m",
        "a\nb",
        "\u202eabc",
        "e\u0301" * 9,
        "ﷺ",
        "\ud800",
        "%s {0}",
        "?",
    ]
)


@st.composite
def scenes(draw_from: st.DrawFn) -> tuple[tuple[int, int], Detections]:
    """A picture's size, and boxes in it: at its edges, tiny, as large as the picture."""
    side = st.sampled_from([1, 2, 3, 8, 20, 40, 64, 150, 640, 1280, 4000]) | st.integers(1, 700)
    size = draw_from(side), draw_from(side)
    boxes = []
    for _ in range(draw_from(st.integers(0, 5))):
        ends = []
        for length in size:
            place = st.sampled_from([0.0, length - 0.02, length / 2]) | st.floats(0, length - 0.02)
            low = draw_from(place)
            high = draw_from(st.sampled_from([low + 0.02, min(low + 3, length), float(length)]))
            ends.append((low, high))
        (x1, x2), (y1, y2) = ends
        boxes.append((x1, y1, x2, y2))
    labels = tuple(draw_from(names) for _ in boxes)
    return size, detections(*boxes, labels=labels, first=draw_from(st.integers(0, 1000)))


styles = st.builds(Style, line_width=st.none() | st.integers(1, 1000), labels=st.booleans())


@given(scenes(), styles)
@example(((80, 4000), detections((0, 0, 80, 4000), labels=("wide",))), Style())  # tall text, no room for it
@example(((640, 480), detections((300, 200, 303, 202))), Style(line_width=50))  # a line thicker than its box
def test_draws_only_boxes_and_labels(scene: tuple[tuple[int, int], Detections], style: Style) -> None:
    size, found = scene
    drawn = draw(size, found, style)
    allowed = np.zeros(size[::-1], bool)
    for x1, y1, x2, y2 in np.rint(found.boxes).astype(int).tolist():
        # A box that rounding leaves no pixel still gets one.
        allowed[max(0, y1 - RIM) : max(y2, y1 + 1) + RIM, max(0, x1 - RIM) : max(x2, x1 + 1) + RIM] = True
    for x1, y1, x2, y2 in drawn.labels:
        allowed[y1:y2, x1:x2] = True
    assert not (drawn.changed & ~allowed).any()


@given(scenes())
@example(((1, 1), detections((0, 0, 1, 1))))
@example(((80, 4000), detections((0, 0, 80, 4000), labels=("wide",))))
def test_labels_lie_inside_the_picture(scene: tuple[tuple[int, int], Detections]) -> None:
    (width, height), found = scene
    for x1, y1, x2, y2 in draw((width, height), found).labels:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


@pytest.mark.parametrize("size", [(150, 100), (640, 480), (1280, 720), (3840, 2160), (60, 4000), (4000, 60)])
@pytest.mark.parametrize("label", ["a", "person", "fire hydrant", "x" * 300, "猫" * 50])
def test_every_object_gets_its_label(size: tuple[int, int], label: str) -> None:
    width, height = size
    corner, whole = (0, 0, 3, 3), (0, 0, width, height)
    drawn = draw(size, detections(corner, whole, labels=(label, label)))
    assert len(drawn.labels) == 2


def test_labels_keep_off_each_other_while_there_is_room() -> None:
    boxes = [(100.0, 100.0 + i, 300.0, 300.0 + i) for i in range(3)]
    drawn = draw((640, 480), detections(*boxes))
    assert len(drawn.labels) == 3
    covered = np.zeros((480, 640), int)
    for x1, y1, x2, y2 in drawn.labels:
        covered[y1:y2, x1:x2] += 1
    assert covered.max() == 1


def test_the_best_object_lies_on_top() -> None:
    same = (100.0, 100.0, 300.0, 300.0)
    drawn = draw((640, 480), detections(same, same), Style(labels=False))
    assert tuple(drawn.image[200, 100].tolist()) == class_colour(0)


@pytest.mark.parametrize("width", [1, 4, 9])
def test_line_width(width: int) -> None:
    drawn = draw((640, 480), detections((100, 100, 500, 400)), Style(width, labels=False))
    row = (drawn.image[250] == class_colour(0)).all(axis=1)
    assert row[:320].sum() == width
    assert row[100]
    assert row[499]


def test_no_labels() -> None:
    found = detections((100, 100, 500, 400))
    assert draw((640, 480), found, Style(labels=False)).labels == []
    assert len(draw((640, 480), found).labels) == 1


def test_nothing_found_changes_nothing() -> None:
    assert not draw((64, 48), Detections.empty()).changed.any()


def test_draws_into_a_view() -> None:
    # As where a part of a mosaic is drawn into: not contiguous in memory.
    mosaic = np.full((200, 600, 3), GREY, np.uint8)
    draw_detections(BgrSurface(mosaic[:, 200:400]), detections((0, 0, 200, 200)))
    changed = (mosaic != GREY).any(axis=2)
    assert changed[:, 200:400].any()
    assert not changed[:, :200].any()
    assert not changed[:, 400:].any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("person", "person"),
        ("  tv monitor ", "tv monitor"),
        ("", "object"),
        ("\t\n\x00\x1b", "object"),
        ("\x1b[31mred", "[31mred"),
        ("\ud800", "object"),
    ],
)
def test_drawable(text: str, expected: str) -> None:
    assert drawable(text, "object") == expected


def test_opencv_4_writes_the_nearest_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_ANY_SCRIPT", False)
    assert [drawable(text, "class 3") for text in ("Café ½", "猫", "猫 cat")] == ["Cafe 12", "class 3", "cat"]


class TestColours:
    def test_a_class_keeps_its_colour(self) -> None:
        before = [class_colour(i) for i in range(200)]
        class_colour.cache_clear()
        assert [class_colour(i) for i in range(200)] == before

    def test_the_first_ones_stay_as_they_are(self) -> None:
        # Whoever compares pictures of two versions sees the same colours.
        assert [class_colour(i) for i in range(3)] == [(57, 31, 249), (251, 160, 96), (6, 224, 159)]

    @pytest.mark.parametrize("apart", [1, 2, 3])
    def test_neighbours_differ(self, apart: int) -> None:
        colours = np.array([class_colour(i) for i in range(200)])
        distances = np.linalg.norm(colours[apart:] - colours[:-apart], axis=1)
        assert distances.min() > 75  # of 442 between black and white

    def test_no_two_of_200_are_alike(self) -> None:
        assert len({class_colour(i) for i in range(200)}) == 200

    @pytest.mark.parametrize("class_id", range(200))
    def test_text_stands_out(self, class_id: int) -> None:
        """WCAG 2.1, success criterion 1.4.3: a contrast of 4.5 at least."""
        background = class_colour(class_id)
        assert contrast(background, text_colour(background)) >= 4.5

    @given(st.tuples(*[st.integers(0, 255)] * 3))
    def test_text_takes_the_better_of_black_and_white(self, background: tuple[int, int, int]) -> None:
        best = max(contrast(background, (0, 0, 0)), contrast(background, (255, 255, 255)))
        assert contrast(background, text_colour(background)) == pytest.approx(best, abs=1e-6)


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def luminance(bgr: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in bgr]
    return float(np.dot(linear, (0.0722, 0.7152, 0.2126)))


def test_text_grows_with_the_picture() -> None:
    sides = (1, 200, 640, 1280, 1920, 3840)
    heights = [text_height((side * 9 // 16, side)) for side in sides]
    assert heights[0] == heights[1] == 9
    assert heights[-1] >= 30
    assert text_height((4000, 80)) <= 20  # a strip is narrow, however long
    assert all(small <= large for small, large in pairwise(heights))
