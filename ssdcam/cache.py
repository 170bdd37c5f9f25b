"""What the environment says of files that can be had again: where they are kept, and whether to download any.

On the ground floor.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

WEIGHTS = "weights"
"""The folder in it of what is downloaded; beside it each engine has one of its name."""


def cache_folder() -> Path:
    """``$SSDCAM_HOME`` if it is set, else the place that the system has for such things; it may not exist yet.

    Who has no home, as a number that no user has in a container or service, is taken to have the root for one, as
    Docker has it: nothing can be kept there, nor be put there by others.
    """
    home = os.environ.get("SSDCAM_HOME")
    if home:
        return Path(home)
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # older versions of it leave the "~" as it is
        folder = user_cache_path("ssdcam", appauthor=False)
        if folder.is_absolute():
            return folder
    return Path("/.cache/ssdcam")


def is_offline() -> bool:
    """Whether ``SSDCAM_OFFLINE`` forbids downloads; ``0`` is the same as nothing."""
    return os.environ.get("SSDCAM_OFFLINE", "0") not in ("", "0")
