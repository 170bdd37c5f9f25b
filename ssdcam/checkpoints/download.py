"""Files from the web: whole and checked when they have their name, resumed where a download was cut off.

What has come so far is in ``NAME.part``, and ``NAME.part.json`` says what it is a part of.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ssdcam import __version__
from ssdcam.errors import CheckpointError
from ssdcam.files import write_whole, writing
from ssdcam.notes import note

log = logging.getLogger("ssdcam")

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and how many it will be if the server says so."""

_TIMEOUT = 30.0  # seconds without a byte until a connection counts as broken
_TRIES = 4  # in a row that bring nothing new
_PAUSE = 0.25  # seconds before another try; twice as long after each that brought nothing
_BLOCK = 2**18
_PASSING = (408, 425, 429)  # answers that may be others soon, as those of 500 and more


class _BrokenError(Exception):
    """A try that failed in a way that another may not."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    check: Callable[[Path], None] = lambda part: None,
    progress: Progress | None = None,
) -> str | None:
    """Download a file; whatever happens, ``target`` is the whole file or does not exist.

    One process at a time does it, and others wait. Proxies are taken from the environment.

    Args:
        url: where it is. From https no redirection to http is followed.
        target: where it is to be; its folder is made if need be.
        sha256: its hash, or the beginning of that, in hexadecimal.
        check: looks at the file before it gets its name, and raises a CheckpointError if it is no good.
        progress: is told how far it is.

    Returns:
        The file's SHA-256; None if another process had downloaded it meanwhile.

    Raises:
        CheckpointError: it cannot be fetched or written, or is not what it should be.
    """
    with _alone(target):
        if target.is_file():
            return None
        part = _part(target)
        while True:
            fresh = not part.exists()
            _complete(url, target, sha256 is not None, progress or (lambda done, total: None))
            with writing(target, CheckpointError):
                digest = sha256_of(part)
            if digest.startswith(sha256 or ""):
                break
            _discard(part)
            if fresh:
                raise CheckpointError(
                    f"{url}: what came is not what was published: its SHA-256 is {digest}, not {sha256}; not kept"
                )
        try:
            check(part)
        except CheckpointError as error:
            _discard(part)
            raise CheckpointError(f"{url}: what came is not what was published: {error}; not kept") from error
        with writing(target, CheckpointError):
            part.replace(target)
        _discard(part)
        return digest


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def by_hand(url: str, target: Path) -> str:
    """What to do where ssdcam cannot download."""
    return f"fetch {url} in another way and put it at {target}"


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _origin(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    with suppress(OSError):
        part.unlink(missing_ok=True)
        _origin(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _complete(url: str, target: Path, hashed: bool, progress: Progress) -> None:
    """Have all of the part, however often the connection breaks, as long as it goes forward."""
    most, tries = _size(_part(target)), 0
    while True:
        try:
            _receive(url, target, hashed, progress)
            return
        except _BrokenError as broken:
            size = _size(_part(target))
            tries = 0 if size > most else tries + 1
            most = max(most, size)
            if tries == _TRIES:
                raise CheckpointError(f"{url}: cannot be downloaded: {broken}; {by_hand(url, target)}") from broken
            log.info("%s: %s: trying again", url, broken)
            time.sleep(_PAUSE * 2**tries)


def _receive(url: str, target: Path, hashed: bool, progress: Progress) -> None:
    """One try: what is still missing, or all of it where the part is of another file or the server cannot resume."""
    part = _part(target)
    start, validator = _resume_from(part, url, hashed)
    headers = {"User-Agent": f"ssdcam/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = build_opener(_SafeRedirects).open(Request(url, headers=headers), timeout=_TIMEOUT)  # noqa: S310  # http is tests'
    except HTTPError as error:
        with error:
            if error.code == 416 and start and _range(error.headers)[1] == start:
                return  # the part is the whole file
            if error.code == 416:
                _discard(part)
            elif error.code < 500 and error.code not in _PASSING:
                reason = f"{error.code} {str(error.reason).partition(chr(10))[0]}"
                raise CheckpointError(f"{url}: cannot be downloaded: {reason}; {by_hand(url, target)}") from error
            raise _BrokenError(f"{error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _BrokenError(_reason(error)) from error
    with response:
        if response.status == 206:
            first, total = _range(response.headers)
            if first != start:
                _discard(part)
                raise _BrokenError("the server sent another part than it was asked for")
        else:
            start = 0
            length = response.headers["Content-Length"] or ""
            total = int(length) if length.isdecimal() else None
        with writing(target, CheckpointError), _opened(part, start) as file:
            if start == 0:
                write_whole(_origin(part), json.dumps({"url": url, "validator": _validator(response.headers)}).encode())
            _check_room(target, start, total)
            done = _copy(response, file, start, total, progress)
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done:,} of {total:,} bytes")


def _resume_from(part: Path, url: str, hashed: bool) -> tuple[int, str | None]:
    """How much of the part can be kept, and what tells the server whether its file is still the same.

    Without the latter only a hash can tell in the end.
    """
    try:
        origin = json.loads(_origin(part).read_bytes())
        known, validator = origin["url"], origin["validator"]
    except (OSError, ValueError, LookupError, TypeError):
        return 0, None
    usable = known == url and (hashed or validator)
    return (_size(part) if usable else 0), validator if isinstance(validator, str) else None


def _validator(headers: Message) -> str | None:
    """What If-Range takes: a strong ETag, or a date."""
    tag = headers["ETag"]
    return tag if tag and not tag.startswith("W/") else headers["Last-Modified"]


def _range(headers: Message) -> tuple[int | None, int | None]:
    """The first byte and the number of all of a Content-Range, where it says so."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers["Content-Range"] or "")
    if not match:
        return None, None
    first, total = (None if text is None else int(text) for text in match.groups())
    return first, total


@contextmanager
def _opened(part: Path, start: int) -> Iterator[IO[bytes]]:
    """The part, cut or empty to ``start`` bytes, unbuffered: what was written stays, whatever comes."""
    with part.open("r+b" if start else "wb", buffering=0) as file:
        file.seek(start)
        yield file


def _check_room(target: Path, start: int, total: int | None) -> None:
    free = shutil.disk_usage(target.parent).free
    if total is not None and free < total - start:
        raise CheckpointError(
            f"{target}: there is no room for it: {(total - start) / 1e6:,.1f} MB are missing, {free / 1e6:,.1f} MB free"
        )


def _copy(response: Any, file: IO[bytes], done: int, total: int | None, progress: Progress) -> int:
    """From the net to the disk, whose errors are not to be mistaken for each other."""
    progress(done, total)
    while True:
        try:
            block = memoryview(response.read1(_BLOCK))
        except (OSError, HTTPException) as error:
            raise _BrokenError(_reason(error)) from error
        if not block:
            return done
        while block:  # a disk that is nearly full takes a part first and fails afterwards
            written = file.write(block)
            done += written
            block = block[written:]
        progress(done, total)


def _reason(error: BaseException) -> str:
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__


class _SafeRedirects(HTTPRedirectHandler):
    """Follows as usual, but never from https to what anybody on the way can change."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise CheckpointError(f"{req.full_url}: leads to {newurl}, which is not https: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes that want the same file waiting; where the file system knows no locks, by a mark."""
    from filelock import FileLock, SoftFileLock, Timeout

    with writing(target, CheckpointError):
        target.parent.mkdir(parents=True, exist_ok=True)
        for kind, ending in ((FileLock, "lock"), (SoftFileLock, "mark")):
            lock = kind(target.with_name(f".{target.name}.{ending}"))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that it takes a mark in place of a lock
                    lock.acquire(timeout=0)
                break
            except Timeout:
                note(f"{target}: another process is downloading it: waiting")
                lock.acquire(poll_interval=0.1)
                break
            except (OSError, NotImplementedError):
                if kind is SoftFileLock:
                    raise
    try:
        yield
    finally:
        lock.release()
