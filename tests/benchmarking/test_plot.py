"""A benchmark as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib")
from ssdcam.benchmarking.plot import draw_bench
from ssdcam.plotting import write_figure


def row(engine: str, **figures: Any) -> dict[str, Any]:
    return {"engine": engine, "precision": "fp32", "device": "cpu", "ratio": 1.5, **figures}


@pytest.mark.parametrize("with_pipeline", [False, True])
def test_bars(with_pipeline: bool, tmp_path: Path) -> None:
    network = [row("torch", batch=batch, per_second=10.0 * batch) for batch in (1, 8)]
    network.append(row("openvino", batch=1, per_second=31.0, ratio=None))
    figures = {
        "network": network,
        "pipeline": [row("torch", fps=20.0)] if with_pipeline else [],
        "settings": {"network": "ssd$"},
        "machine": {"cpu": "a CPU $", "usable_cores": 1.5},
    }
    figure = draw_bench(figures)
    assert [len(axes.patches) for axes in figure.axes] == [2, 1, 1][: 2 + with_pipeline]
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert widths == [10.0, 31.0]
    write_figure(figure, tmp_path / "bars.png")
    image = cv2.imread(str(tmp_path / "bars.png"))
    assert image is not None
    assert image.std() > 10
