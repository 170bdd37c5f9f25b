"""C of our own, compiled at run time by the system's compiler and kept in the cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from stat import S_IWGRP, S_IWOTH
from tempfile import TemporaryDirectory

from ssdcam.cache import cache_folder
from ssdcam.detection.checksums import read_checked, write_checked
from ssdcam.errors import UnavailableError

FOLDER = "compiled"
"""The folder of the cache that libraries are kept in."""

_COMPILERS = ("cc", "gcc", "clang")


def library(source: Path, *options: str) -> ctypes.CDLL:
    """A source as a library: the one that is kept, or compiled now.

    Args:
        source: C, in one file.
        options: of the compiler; they say which instructions it may use, so that what is kept runs on every CPU that
            has those.

    Raises:
        UnavailableError: there is no compiler, or what it makes cannot be loaded; or ``$CC`` is no command.
    """
    asked = _asked_for()
    # Options of the user's own, such as for a sanitizer, may make what runs nowhere else: it is kept for these alone.
    facts = [*options, *(word for word in asked if word.startswith("-"))]
    digest = hashlib.sha256(b"\0".join([source.read_bytes(), *map(os.fsencode, facts)])).hexdigest()[:16]
    path = cache_folder() / FOLDER / f"{source.stem}-{digest}.so"
    with suppress(OSError, ValueError):  # not there, damaged, or of another system
        if _is_ours(path.parent) and _is_ours(path):
            read_checked(path)
            return ctypes.CDLL(str(path))
    try:
        with TemporaryDirectory(prefix="ssdcam-") as folder:
            made = Path(folder, path.name)
            _compile(asked, source, made, *options)
            with suppress(OSError):  # a folder that cannot be written, a full disk, or nothing in it may be run
                path.parent.mkdir(0o755, parents=True, exist_ok=True)
                if _is_ours(path.parent):
                    write_checked(path, memoryview(made.read_bytes()))
                    path.chmod(0o644)
                    return ctypes.CDLL(str(path))
            return _loaded(made)
    except OSError as error:  # there is no folder for what is temporary
        raise UnavailableError(f"the C compiler has no place to work in ({error.strerror})") from error


def _is_ours(path: Path) -> bool:
    """Whether nobody but this user, or root, can have put there what would run as this user: a cache may be shared.

    Raises:
        OSError: there is nothing.
    """
    status = path.stat()
    if sys.platform == "win32":
        return True
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & (S_IWGRP | S_IWOTH)


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"{path}: what the C compiler made cannot be loaded ({error})") from error


def _asked_for() -> list[str]:
    try:
        return shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise UnavailableError(f"$CC: is no command ({error})") from error


def _compile(asked: list[str], source: Path, to: Path, *options: str) -> None:
    command = asked or list(filter(None, map(shutil.which, _COMPILERS)))[:1]
    if not command:
        raise UnavailableError(f"there is no C compiler (none of {', '.join(_COMPILERS)}, nor $CC)")
    command = [*command, "-O3", "-shared", "-fPIC", *options, "-o", str(to), str(source)]
    try:
        subprocess.run(  # noqa: S603  # of options of our own
            command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise UnavailableError(f"{command[0]}: the C compiler does not start ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[0]
        raise UnavailableError(f"{command[0]}: the C compiler does not compile {source.name} ({said})") from error
