"""Figures by matplotlib, an extra: made without a window system, written whole."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ssdcam.errors import ImageError, UnavailableError
from ssdcam.files import write_whole, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plotting() -> None:
    """Complain before the work, not after it.

    Raises:
        UnavailableError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError:
        raise UnavailableError("plots need matplotlib: pip install matplotlib") from None


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, that no window system and no global state knows of; sizes in inches."""
    check_plotting()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        ImageError: it cannot be written.
    """
    data = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks, which show as boxes
        figure.savefig(data, format="png")
    with writing(path, ImageError):
        write_whole(path, data.getvalue())


def plain(text: str) -> str:
    """A text that matplotlib shows as it is: a dollar sign begins a formula otherwise."""
    return text.replace("$", r"\$")
