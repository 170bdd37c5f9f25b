"""What a run says of itself: a CSV file, TensorBoard's if that is installed, and curves if matplotlib is."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssdcam.errors import TrainingError, UnavailableError
from ssdcam.files import write_whole, writing
from ssdcam.plotting import new_figure, write_figure
from ssdcam.training.run_folder import LOG

log = logging.getLogger("ssdcam")

COLUMNS = (
    "step", "epoch", "lr", "loss", "location", "classification", "positives", "gradient", "photos_per_second", "map",
)  # fmt: skip


class Log:
    """The log of a run.

    Args:
        folder: the run's.
        step: rows that an interrupted run wrote after this step are dropped; they will come again.
        evaluated: whether the evaluation at that step came to its end; if not, its row is dropped likewise.

    Raises:
        TrainingError: it cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0, *, evaluated: bool = True) -> None:
        self._folder = folder
        self._path = folder / LOG
        last = (step, evaluated)
        self.rows = [row for row in read_log(self._path) if step and (float(row["step"]), bool(row["map"])) <= last]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with writing(self._path, TrainingError):
            write_whole(self._path, text.getvalue().encode())
        self._board = self._open_board(step)

    def _open_board(self, step: int) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:  # not there, or not of a version that torch knows
            log.info("no log for TensorBoard: %s", error)
            return None
        with writing(self._folder / "tensorboard", TrainingError):
            # What an interrupted run wrote after this step comes again here too.
            return SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row; columns that are not given stay empty.

        Raises:
            TrainingError: it cannot be written.
        """
        texts = {name: f"{row[name]:.6g}" if name in row else "" for name in COLUMNS}
        self.rows.append(texts)
        with writing(self._path, TrainingError):
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(texts)
            if self._board:
                for name in row.keys() - {"step", "epoch"}:
                    self._board.add_scalar(name, row[name], int(row["step"]))

    def close(self) -> None:
        """Draw the curves and close what is open.

        Raises:
            ImageError: the curves cannot be written.
        """
        if self._board:
            self._board.close()
        draw_curves(self.rows, self._folder / "curves.png")


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log; a half one that a killed run left, or what a power cut made of some, is not among them."""
    if not path.exists():
        return []
    lines = path.read_bytes().decode("ascii", "replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [row for row in csv.DictReader(whole) if _is_row(row)]


def _is_row(row: Mapping[str, str]) -> bool:
    """Whether there is a step, and a number or nothing in every other column."""
    try:
        return row.keys() == set(COLUMNS) and bool(row["step"]) and bool([float(t) for t in row.values() if t != ""])
    except (TypeError, ValueError):  # a line that is too short has None
        return False


def draw_curves(rows: list[dict[str, str]], path: Path) -> None:
    """Loss and mAP over the steps, where matplotlib is installed and there is something to draw.

    Raises:
        ImageError: they cannot be written.
    """
    if not rows:
        return
    try:
        figure = new_figure(9, 4)
    except UnavailableError:
        return
    left, right = figure.subplots(1, 2)
    for axes, names in ((left, ("loss", "location", "classification")), (right, ("map",))):
        for name in names:
            points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if name == "map" else "")
        axes.set_xlabel("step")
        axes.set_title(names[0])
        axes.grid(visible=True, alpha=0.3)
    left.legend()
    write_figure(figure, path)
