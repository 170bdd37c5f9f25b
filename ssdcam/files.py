"""Writing files whole. On the ground floor beside ``errors``: standard library only."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: whatever ends the process, ``path`` holds what it held before or ``data``.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=".ssdcam-", suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(_mode(path))  # a temporary file is its owner's alone
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mode(path: Path) -> int:
    """The mode of the file that is replaced, else what a new file gets."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
