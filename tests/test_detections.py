from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam import Detections


def arrays(n: int) -> tuple[Any, Any, Any]:
    """Boxes, scores and class ids of n objects."""
    boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    return boxes, np.linspace(0.1, 0.9, n, dtype=np.float32), np.arange(n) % 3


NAMES = ("ant", "bee", "cat")


def test_empty() -> None:
    nothing = Detections.empty()
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    assert (nothing.scores.shape, nothing.class_ids.shape, nothing.labels) == ((0,), (0,), ())
    assert (nothing.boxes.dtype, nothing.scores.dtype, nothing.class_ids.dtype) == (np.float32, np.float32, np.int64)


def test_named_takes_labels_by_class_id_and_sorts() -> None:
    boxes, scores, class_ids = arrays(5)
    found = Detections.named(boxes, scores, class_ids, NAMES)
    assert len(found) == 5
    np.testing.assert_array_equal(found.scores, scores[::-1])
    np.testing.assert_array_equal(found.boxes, boxes[::-1])
    assert found.labels == ("bee", "ant", "cat", "bee", "ant")
    assert found.class_ids.tolist() == [1, 0, 2, 1, 0]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12))
def test_ties_keep_their_order(values: list[float]) -> None:
    boxes, _, class_ids = arrays(len(values))
    found = Detections.named(boxes, np.array(values, np.float32), class_ids, NAMES)
    order = sorted(range(len(values)), key=lambda i: -values[i])
    np.testing.assert_array_equal(found.boxes, boxes[order])
    np.testing.assert_array_equal(found.class_ids, class_ids[order])


def test_named_of_nothing() -> None:
    assert len(Detections.named(*arrays(0), NAMES)) == 0


@pytest.mark.parametrize("part", range(4))
def test_parts_must_belong_together(part: int) -> None:
    parts: list[Any] = [*arrays(3), NAMES]
    parts[part] = parts[part][:2]
    with pytest.raises(ValueError, match="do not belong together"):
        Detections(*parts)


@pytest.mark.parametrize("shape", [(3, 5), (12,), (3, 4, 1)])
def test_boxes_are_n_by_4(shape: tuple[int, ...]) -> None:
    _, scores, class_ids = arrays(3)
    with pytest.raises(ValueError, match="do not belong together"):
        Detections(np.zeros(shape, np.float32), scores, class_ids, NAMES)


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Detections.empty().labels = ("ant",)  # type: ignore[misc]


def test_imports_numpy_only() -> None:
    script = "import sys, ssdcam.detections; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert {"numpy", "ssdcam"} <= modules
    assert not modules & {"torch", "cv2", "rich", "click", "safetensors"}
