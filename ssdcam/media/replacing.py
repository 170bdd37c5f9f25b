"""Where an output is written that replaces an older one: beside it, where the system lets it take that place."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from stat import S_ISVTX
from tempfile import mkstemp


def file_beside(path: Path) -> Path | None:
    """A new file beside an older one, which it is to replace; None where there is none, or it can only be written over.

    Windows does not rename a file that is open, and nobody a file over one that was mounted or is another's, where the
    folder is sticky.
    """
    if os.name == "nt" or not path.is_file():
        return None
    target = path.resolve()
    if _is_mounted(target) or _is_stuck(target):
        return None
    try:
        handle, name = mkstemp(prefix=".ssdcam-", suffix=".part", dir=target.parent)
    except OSError:  # a folder that is not ours
        return None
    os.close(handle)
    return Path(name)


def _is_mounted(path: Path) -> bool:
    """Whether a file was mounted by itself, as ``docker run -v out.mp4:/out.mp4`` does: it keeps its place."""
    if sys.platform == "linux":  # elsewhere a mount has a device of its own
        with suppress(OSError):  # there is no /proc
            return _mount_of(path) != _mount_of(path.parent)
    return os.path.ismount(path)


def _mount_of(path: Path) -> str:
    """The number of the mount that a file is seen through; a device may be mounted more than once."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next((line for line in lines if line.startswith("mnt_id:")), "")


def _is_stuck(path: Path) -> bool:
    """Whether a file lies in a sticky folder such as ``/tmp``, and neither is ours: then only its owner replaces it."""
    if sys.platform == "win32":
        return False
    folder = path.parent.stat()
    return bool(folder.st_mode & S_ISVTX) and os.geteuid() not in {0, folder.st_uid, path.stat().st_uid}
