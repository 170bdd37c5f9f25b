"""News for whoever waits: lines on stderr that are no warnings. On the ground floor: standard library only."""

from __future__ import annotations

import logging

NOTE = 25
"""Between logging's INFO and WARNING: shown unless the user asks for quiet."""

logging.addLevelName(NOTE, "NOTE")


def note(text: str) -> None:
    """Say why something takes a moment, or what was assumed."""
    logging.getLogger("ssdcam").log(NOTE, "%s", text)
