"""What the environment says of files that can be had again: where they are kept, and whether to download any.

On the ground floor.
"""

from __future__ import annotations

import os
from pathlib import Path

WEIGHTS = "weights"
"""The folder in it of what is downloaded; beside it each engine has one of its name."""


def cache_folder() -> Path:
    """``$SSDCAM_HOME`` if it is set, else the place that the system has for such things; it may not exist yet."""
    home = os.environ.get("SSDCAM_HOME")
    if home:
        return Path(home)
    from platformdirs import user_cache_path

    return user_cache_path("ssdcam", appauthor=False)


def is_offline() -> bool:
    """Whether ``SSDCAM_OFFLINE`` forbids downloads; ``0`` is the same as nothing."""
    return os.environ.get("SSDCAM_OFFLINE", "0") not in ("", "0")
