"""A benchmark's figures as bars, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssdcam.plotting import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR = 0.32  # inches


def draw_bench(figures: Mapping[str, Any]) -> Figure:
    """Pictures a second of each combination: the network by batch, then the whole pipeline.

    Args:
        figures: as :meth:`ssdcam.benchmarking.report.Report.to_json` gives them, with at least one network row.
    """
    batches = sorted({row["batch"] for row in figures["network"]})
    panels = [
        (f"network alone, batch {batch}", "pictures a second", "per_second", _of(figures["network"], batch))
        for batch in batches
    ]
    if figures["pipeline"]:
        panels.append(("whole pipeline: decode, detect, draw, encode", "frames a second", "fps", figures["pipeline"]))
    heights = [len(rows) * _BAR + 0.9 for *_, rows in panels]
    figure = new_figure(9, sum(heights) + 0.8)
    settings, machine = figures["settings"], figures["machine"]
    figure.suptitle(plain(f"{settings['network']}\n{machine['cpu']}, {machine['usable_cores']:g} cores"), fontsize=10)
    grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (title, unit, key, rows) in zip(grid[:, 0], panels, strict=True):
        _bars(axes, rows, key)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(unit, fontsize=8)
    return figure


def _of(rows: Sequence[dict[str, Any]], batch: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["batch"] == batch]


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """A bar a row, the first on top, a colour an engine."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    colours = [f"C{engines.index(row['engine'])}" for row in rows]
    places = range(len(rows), 0, -1)
    bars = axes.barh(places, [row[key] for row in rows], color=colours, height=0.7)
    labels = [f"{row[key]:.4g}" + (f"  ({row['ratio']:.2f}x)" if row["ratio"] else "") for row in rows]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(places, [f"{row['engine']} {row['precision']} {row['device']}" for row in rows], fontsize=8)
    axes.margins(x=0.18)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
