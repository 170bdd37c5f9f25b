"""Kinds of values that options take, beyond click's own."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import click

from ssdcam.files import not_a_folder


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A time: seconds, or minutes and hours before them."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From text to seconds."""
        if isinstance(value, float):
            return value
        try:
            parts = [float(part) for part in str(value).split(":")]
            if len(parts) > 3 or not all(0 <= part < inf for part in parts) or any(part >= 60 for part in parts[1:]):
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} is no time such as 12.5, 1:30 or 1:02:03", param, ctx)
        total = 0.0
        for part in parts:
            total = total * 60 + part
        return total


MOST = 1_000_000_000
"""Beyond what anybody counts: a larger number is a slip, and would only fill memory or overflow."""


class Number(click.FloatRange):
    """A number in a range, up to :data:`MOST` where it has no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From text to a number."""
        most = MOST if self.max is None else self.max
        try:
            number = float(value)
            if not number <= most:  # no number at all is in no range, but not below or above one
                raise ValueError
            return float(super().convert(number, param, ctx))
        except (ValueError, click.BadParameter):
            least = f"above {self.min:g} and" if self.min_open else f"from {self.min:g} to"
            upwards = "below " if self.max_open else "up to " if self.min_open else ""
            self.fail(f"{value!r} is no number {least} {upwards}{most:,}", param, ctx)


class Whole(click.IntRange):
    """A whole number in a range; see :data:`MOST`."""

    def __init__(self, least: int, most: int = MOST) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """From text to a number."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is no whole number from {self.min:,} to {self.max:,}", param, ctx)


class Folder(click.Path):
    """A folder, there or to be made; an empty name, as of a variable that is not set, is none."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See :meth:`click.ParamType.convert`."""
        if value == "":
            self.fail("an empty name is no folder", param, ctx)
        folder = Path(super().convert(value, param, ctx))  # type: ignore[arg-type]  # never bytes
        if (above := not_a_folder(folder)) is not None:
            self.fail(f"{folder}: cannot be made, as {above} is no folder", param, ctx)
        return folder
