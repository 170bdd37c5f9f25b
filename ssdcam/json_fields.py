"""Values of a JSON object by key and kind. A complaint is a ``ValueError`` that says which key and what is wrong.

On the ground floor: numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)  # what the arrays can hold
_LARGEST_WHOLE = 2**53


def mapping(value: object) -> Mapping[str, Any]:
    """The value itself, which must be a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"is {_shown(value)}, not a JSON object")
    return value


def text(values: Mapping[str, Any], key: str) -> str:
    """A text."""
    value = _present(values, key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_shown(value)}, not a text")
    return value


def whole(values: Mapping[str, Any], key: str, least: int) -> int:
    """A whole number from ``least`` up."""
    value = _present(values, key)
    if not _is_number(value) or value != value // 1 or not least <= value <= _LARGEST_WHOLE:
        raise ValueError(f"{key} is {_shown(value)}, not a whole number from {least} up")
    return int(value)


def number(values: Mapping[str, Any], key: str) -> float:
    """A finite number."""
    value = _present(values, key)
    if not _is_number(value):
        raise ValueError(f"{key} is {_shown(value)}, not a number")
    return float(value)


def numbers(values: Mapping[str, Any], key: str, count: int) -> Any:
    """A list of ``count`` finite numbers, as a tuple; Any, because types cannot say of what length."""
    value = _present(values, key)
    if not isinstance(value, list) or len(value) != count or not all(_is_number(v) for v in value):
        raise ValueError(f"{key} is {_shown(value)}, not {count} numbers")
    return tuple(float(v) for v in value)


def flag(values: Mapping[str, Any], key: str) -> bool:
    """True or false."""
    value = _present(values, key)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {_shown(value)}, not true or false")
    return value


def items(values: Mapping[str, Any], key: str) -> list[Any]:
    """A list."""
    value = _present(values, key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {_shown(value)}, not a list")
    return value


def identity(values: Mapping[str, Any], key: str) -> int | str:
    """What COCO tells things apart by: a number, and in some data sets a text."""
    value = _present(values, key)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise ValueError(f"{key} is {_shown(value)}, not an id")
    return value


def _present(values: Mapping[str, Any], key: str) -> Any:
    if key not in values:
        raise ValueError(f"{key} is missing")
    return values[key]


def _is_number(value: object) -> bool:
    # The comparison also turns away NaN, the infinities and whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
