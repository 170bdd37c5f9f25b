"""A benchmark's figures as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from ssdcam.cli import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]

_WIDE = 120  # columns where stdout is no terminal

_NETWORK: tuple[Column, ...] = (
    ("batch", lambda row: f"{row['batch']}"),
    ("p50 ms", lambda row: f"{row['latency_ms']['p50']:.2f}"),
    ("p95 ms", lambda row: f"{row['latency_ms']['p95']:.2f}"),
    ("pictures/s", lambda row: f"{row['per_second']:.1f}"),
    ("ratio", lambda row: _times(row["ratio"])),
    ("CPU ms", lambda row: f"{row['cpu_ms']:.2f}"),
    ("NMS", lambda row: f"{row['postprocess_share']:.1%}" if "postprocess_share" in row else ""),
    ("peak MiB", lambda row: _memory(row)),
)
_DETECTION: tuple[Column, ...] = (
    ("p50 ms", lambda row: f"{row['latency_ms']['p50']:.2f}"),
    ("p95 ms", lambda row: f"{row['latency_ms']['p95']:.2f}"),
)
_STARTUP: tuple[Column, ...] = (
    ("first s", lambda row: f"{row['first_s']:.2f}"),
    ("later s", lambda row: "" if row["start_s"] is None else f"{row['start_s']:.2f}"),
    *((f"{name} s", lambda row, name=name: f"{row['of_which'][name]:.2f}") for name in ("import", "prepare", "detect")),
)
_PIPELINE: tuple[Column, ...] = (
    ("batch", lambda row: f"{row['batch']}"),
    ("frames", lambda row: f"{row['frames']}"),
    ("frames/s", lambda row: f"{row['fps']:.1f}"),
    ("ratio", lambda row: _times(row["ratio"])),
    ("p50 ms", lambda row: f"{row['latency_ms']['p50']:.1f}"),
    ("p95 ms", lambda row: f"{row['latency_ms']['p95']:.1f}"),
    ("possible/s", lambda row: f"{row['possible_fps']:.1f}" if "possible_fps" in row else ""),
    ("reached", lambda row: f"{row['share_of_possible']:.0%}" if "share_of_possible" in row else ""),
)


def show(figures: Mapping[str, Any]) -> None:
    """Print all there is to standard output.

    Args:
        figures: as :meth:`ssdcam.benchmarking.report.Report.to_json` gives them.
    """
    from rich.console import Console

    seen = sys.stdout.isatty()
    text = StringIO()  # rich itself would end the process where nobody reads stdout any more
    _print(figures, Console(file=text, force_terminal=seen, highlight=False, width=None if seen else _WIDE))
    click.echo(text.getvalue(), nl=False)


def _print(figures: Mapping[str, Any], out: Console) -> None:
    settings, machine = figures["settings"], figures["machine"]
    for line in (f"{settings['model']} ({settings['network']})", *_machine_lines(machine)):
        out.print(console.printable(line), markup=False, soft_wrap=True)
    parts = (
        ("The network alone", "network", _NETWORK),
        ("From a picture in memory to its detections, one at a time", "detection", _DETECTION),
        ("From the start of the process to its first detection", "startup", _STARTUP),
        (f"The whole pipeline, video: {settings['video']}", "pipeline", _PIPELINE),
    )
    for title, name, columns in parts:
        if figures[name]:
            out.print()
            out.print(console.printable(title), markup=False, soft_wrap=True)
            out.print(_table(figures[name], columns))
    for name, stage in figures["stages"].items():
        out.print(f"{name} alone: {stage['ms']:.2f} ms a frame, {stage['cpu_ms']:.2f} ms of CPU time")
    out.print()
    for line in _notes(figures):
        out.print(console.printable(line), markup=False, soft_wrap=True)


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("engine", "precision", "device"):
        table.add_column(title, no_wrap=True)
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["engine"], row["precision"], row["device"], *(cell(row) for _, cell in columns))
    return table


def _machine_lines(machine: Row) -> Iterable[str]:
    memory = f", {machine['memory_gb']} GiB" if machine["memory_gb"] else ""
    yield f"{machine['cpu']}, {machine['usable_cores']:g} of {machine['cores']} cores{memory}; {machine['os']}"
    yield from machine["gpu"]
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items())


def _notes(figures: Mapping[str, Any]) -> Iterable[str]:
    if any(row["ratio"] is not None for row in figures["network"]):
        yield "ratio: to the first line of the same device and batch, by the median of the rounds"
    if figures["pipeline"]:
        yield "possible: cores over the CPU time of decoding, network and encoding, each measured alone"
    for row in figures["unavailable"]:
        yield f"not here: {row['engine']} {row['precision']} {row['device']}: {row['reason']}"
    if not figures["settings"]["complete"]:
        yield "stopped early: these are the figures so far"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _memory(row: Row) -> str:
    host = "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"
    return f"{host} + {row['device_memory_mb']:.0f}" if "device_memory_mb" in row else host
