"""Evaluations as pictures, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ssdcam.evaluation.confusion import Confusion
from ssdcam.evaluation.evaluate import Evaluation
from ssdcam.plotting import new_figure, plain
from ssdcam.ssd.default_boxes import BoxLayout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = "tab20"
_TOLD_APART = 20  # classes that get a colour and a line in the legend each; of more, all are grey but for the mean
_LONGEST_LABEL = 40  # characters that a plot has room for


def draw_curves(evaluation: Evaluation) -> Figure:
    """Precision over recall of each class at IoU .5."""
    figure = new_figure(8, 6)
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = colormaps[_COLOURS]
    assert isinstance(colours, ListedColormap)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    classes = sorted((one for one in evaluation.classes if one.curve.num_truths), key=lambda one: -one.ap50)
    recalls = np.linspace(0, 1, 101)
    levels = []
    for i, one in enumerate(classes):
        best = np.maximum.accumulate(one.curve.precision[::-1])[::-1]
        levels.append([best[one.curve.recall >= recall].max(initial=0.0) for recall in recalls])
        few = len(classes) <= _TOLD_APART
        label = f"{_plain(one.label)} {one.ap50:.3f}" if few else None
        colour = colours(i) if few else "0.75"
        axes.plot(one.curve.recall, one.curve.precision, label=label, color=colour, linewidth=0.9)
    if levels:
        label = f"all classes {evaluation.figures['map50']:.3f}"
        axes.plot(recalls, np.mean(levels, axis=0), color="black", linewidth=2.5, label=label)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", title="AP at IoU .5")
    axes.set_title("Precision and recall at IoU .5")
    return figure


def draw_confusion(confusion: Confusion) -> Figure:
    """Shares of each class' ground truths that were taken for each class, or missed."""
    names = [*map(_plain, confusion.labels), "background"]
    side = max(6.0, 0.28 * len(names) + 3)
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    shares = confusion.counts / np.maximum(confusion.counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), [*names[:-1], "missed"], rotation=90, fontsize="x-small")
    axes.set_yticks(range(len(names)), names, fontsize="x-small")
    axes.set(xlabel="found", ylabel="is", title=f"What is taken for what, scores from {confusion.score:g}")
    for row, column in zip(*np.nonzero(confusion.counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        count = str(confusion.counts[row, column])
        axes.text(column, row, count, ha="center", va="center", fontsize=5, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row")
    return figure


def draw_box_shapes(shapes: NDArray[np.float64], layouts: Sequence[tuple[str, BoxLayout, float]]) -> Figure:
    """Where a data set's box shapes lie, and default boxes among them, a panel a layout.

    Args:
        shapes: ``(N, 2)``, the ground truths' widths and heights relative to the picture; one at least.
        layouts: name, default boxes, and recall at IoU .5, of each panel.
    """
    figure = new_figure(6.4 * len(layouts), 6)
    from matplotlib import colormaps

    # Logarithms, because a box of half the size is as far from another as one of twice the size.
    sides = np.concatenate([shapes, *([s for m in layout.maps for s in m.shapes] for _, layout, _ in layouts)])
    low, high = sides.min() * 0.8, sides.max() * 1.25
    edges = np.geomspace(low, high, 61)
    colours = colormaps["plasma"]
    panels = figure.subplots(1, len(layouts), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, layout, recall) in zip(panels, layouts, strict=True):
        count = axes.hist2d(shapes[:, 0], shapes[:, 1], bins=[edges, edges], cmap="Greys", cmin=1, norm="log")[3]
        axes.plot((low, high), (low, high), color="0.6", linewidth=0.8, zorder=1)
        for number, m in enumerate(layout.maps):
            widths, heights = zip(*m.shapes, strict=True)
            label = f"{m.columns}x{m.rows} cells, {len(m.shapes)} shape{'s' * (len(m.shapes) > 1)}"
            colour = colours(number / max(len(layout.maps) - 1, 1) * 0.9)
            axes.scatter(widths, heights, s=90, color=colour, edgecolor="white", linewidth=1.2, label=label, zorder=3)
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set(xlabel="width / picture's width", ylabel="height / picture's height")
        axes.set_title(
            f"{_plain(name)}: {layout.num_boxes:,} default boxes, recall {recall:.3f} at IoU .5", fontsize=10
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.legend(loc="lower right", fontsize="small")
    figure.colorbar(count, ax=panels.tolist(), shrink=0.7, label="ground truths")
    return figure


def _plain(label: str) -> str:
    """A label that is drawn as it is, and not the whole page of it."""
    return plain("".join(c if c.isprintable() else "?" for c in label[:_LONGEST_LABEL]))
