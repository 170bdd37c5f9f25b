"""Specs of any kind to test with."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import strategies as st

from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes
from ssdcam.ssd.spec import BoxCoding, ModelSpec, NmsFigures, Normalisation

texts = st.text(max_size=10) | st.sampled_from(["", "猫", '"\\\n\0', "\u2028", "\x1b[0m"])
positive = st.floats(1e-6, 1e6)
whole = st.integers(1, 2**53)


def _tuple(values: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[Any]:
    return st.tuples(*[values] * count)


maps = st.builds(
    FeatureMapBoxes,
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    shapes=st.lists(_tuple(positive, 2), min_size=1, max_size=6).map(tuple),
    step=_tuple(positive, 2),
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any spec that can be made."""
    score_function = draw(st.sampled_from(["softmax", "sigmoid"]))
    return ModelSpec(
        architecture=draw(texts),
        labels=tuple(draw(st.lists(texts, min_size=1, max_size=5))),
        input_size=draw(_tuple(st.integers(1, 4096), 2)),
        normalisation=Normalisation(
            draw(st.sampled_from(["rgb", "bgr"])), draw(_tuple(st.floats(-1e6, 1e6), 3)), draw(_tuple(positive, 3))
        ),
        boxes=BoxLayout(
            tuple(draw(st.lists(maps, min_size=1, max_size=3))),
            draw(st.sampled_from(["none", "centre", "size", "corners"])),
        ),
        coding=BoxCoding(draw(_tuple(positive, 4)), draw(st.just(inf) | positive)),
        score_function=score_function,
        background=True if score_function == "softmax" else draw(st.booleans()),
        nms=NmsFigures(draw(st.floats(0, 1)), draw(whole), draw(whole), draw(st.booleans())),
        options=draw(st.dictionaries(texts, st.floats(-1e6, 1e6), max_size=2)),
        provenance=draw(st.dictionaries(texts, texts, max_size=3)),
    )
