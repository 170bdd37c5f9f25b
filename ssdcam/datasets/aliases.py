"""Labels of one list found in another by name: data sets and detectors spell the same thing differently."""

from __future__ import annotations

import re
from collections.abc import Sequence

# VOC's spelling, COCO's, and what Open Images, Objects365 and LVIS write. Nothing that is merely similar.
_ALIASES = (
    ("aeroplane", "airplane"),
    ("cell phone", "mobile phone"),
    ("dining table", "diningtable", "kitchen & dining room table"),
    ("donut", "doughnut"),
    ("hair drier", "hair dryer"),
    ("microwave", "microwave oven"),
    ("motorbike", "motorcycle"),
    ("person", "people", "human"),
    ("potted plant", "pottedplant", "houseplant"),
    ("refrigerator", "fridge"),
    ("sofa", "couch"),
    ("tv", "tvmonitor", "tv/monitor", "television"),
)


def _folded(name: str) -> str:
    """Case, spaces, hyphens and underscores tell nothing apart."""
    return re.sub(r"[\s_-]+", "", name.casefold())


_SAME = {_folded(name): _folded(names[0]) for names in _ALIASES for name in names}


def canonical(name: str) -> str:
    """One spelling for all names of the same thing."""
    folded = _folded(name)
    return _SAME.get(folded, folded)


def match_labels(names: Sequence[str], among: Sequence[str]) -> tuple[int | None, ...]:
    """Where each name stands in another list; a name spelled the same comes before an alias.

    Returns:
        For each of ``names`` an index into ``among``, or None if it has no counterpart there.
    """
    exact = {name: i for i, name in reversed(list(enumerate(among)))}
    alike = {canonical(name): i for i, name in reversed(list(enumerate(among)))}
    return tuple(exact.get(name, alike.get(canonical(name))) for name in names)
