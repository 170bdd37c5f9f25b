"""What a check says. Standard library only, as everything here that runs in the process of ``ssdcam doctor`` itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing, such as ``OpenCV``.
        status: ``ok``; ``warning``: something optional is missing, or slower than it could be; ``problem``: broken.
        text: what is there, in a line.
        remedy: what to do about it; empty where nothing is to be done.
        necessary: whether it is a problem that keeps pictures or videos from being looked at at all.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""
    necessary: bool = False


def ok(name: str, text: str) -> Finding:
    """It works."""
    return Finding(name, "ok", text)


def warning(name: str, text: str, remedy: str) -> Finding:
    """It is optional and missing, or worse than it could be."""
    return Finding(name, "warning", text, remedy)


def problem(name: str, text: str, remedy: str, *, necessary: bool = False) -> Finding:
    """It is broken."""
    return Finding(name, "problem", text, remedy, necessary)


def all_necessary_works(findings: list[Finding]) -> bool:
    """Whether pictures and videos can be looked at."""
    return not any(finding.status == "problem" and finding.necessary for finding in findings)
