"""Characters that do not fit, there and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.records.escapes import escape, unescape

UNFIT = re.compile("[\x00-\x08\ud800-\udfff]")


@given(st.text(st.sampled_from("\\u005c1d8fxU\x01\x05\udcff"), max_size=24) | st.text())
def test_every_text_comes_back(text: str) -> None:
    written = escape(text, UNFIT)
    assert not UNFIT.search(written)
    assert unescape(written, UNFIT) == text


@pytest.mark.parametrize("text", ["plain", r"C:\users\a.jpg", r"C:\u0041\uface", r"\\server", "\\", r"\U0001", "\n\t"])
def test_what_fits_is_left_as_it_is(text: str) -> None:
    assert escape(text, UNFIT) == text
    assert unescape(text, UNFIT) == text


def test_what_does_not_fit_is_written_readably() -> None:
    assert escape("a\x01b\udcff", UNFIT) == r"a\u0001b\udcff"
    assert escape(r"a\u0001", UNFIT) == r"a\u005cu0001"
