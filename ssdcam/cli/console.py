"""What is said on stderr: warnings and errors a line each, and nothing from the libraries below."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import click

from ssdcam.addresses import redact
from ssdcam.cli import stopping
from ssdcam.notes import NOTE

log = logging.getLogger("ssdcam")

_SHOWN_PROBLEMS = 20

_LONGEST_LINE = 2000  # characters; a message may hold what a file of a megabyte calls a class

_LEVELS = {-2: logging.CRITICAL, -1: logging.ERROR, 0: NOTE, 1: logging.INFO, 2: logging.DEBUG}


_hidden: dict[str, str] = {}  # what is shown in place of arguments that hold passwords


def hide_passwords(arguments: Sequence[str]) -> None:
    """Have addresses of cameras shown without their passwords, in whatever line they come to stand.

    Args:
        arguments: of the command line; values behind a ``=`` are looked at, too.
    """
    for typed in (part for argument in arguments for part in (argument, argument.partition("=")[2]) if "://" in part):
        path = Path(typed)  # where an address was taken for a file's name, its slashes have become fewer
        for shown in (typed, *(str(taken).replace(":/", "://", 1) for taken in (path, *path.parents))):
            if redact(shown) != shown:
                _hidden.update({shown: redact(shown), shown.replace("://", ":/", 1): redact(shown)})


def start() -> None:
    """Take stderr for ourselves: libpng, libjpeg, FFmpeg and Qt write straight to file descriptor 2.

    Our own lines go to a copy of it; theirs go nowhere unless -vv asks for them.
    """
    _open_what_is_closed()
    # The buffer is larger than any record: a signal may interrupt the write of a line, and what is in the buffer is
    # written at the end all the same.
    sys.stdout = open(1, "w", buffering=2**24, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    log.propagate = False
    log.setLevel(NOTE)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are for programmers
    ours = open(os.dup(2), "wb", closefd=False)  # noqa: SIM115  # stderr, until the process ends
    sys.stderr = _Stderr(ours, encoding="utf-8", errors="backslashreplace", line_buffering=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.excepthook = _tell_of_thread
    sys.unraisablehook = _tell_of_dropped
    handler = _ToStderr()
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    log.addHandler(handler)


def _tell_of_thread(what: threading.ExceptHookArgs) -> None:
    """A thread of a library's failed, such as TensorBoard's on a full disk: whoever needs it will notice and say so."""
    log.info("a thread failed: %s: %s", what.exc_type.__name__, what.exc_value)


def _tell_of_dropped(what: sys.UnraisableHookArgs) -> None:
    """An exception that cannot go on, such as a destructor's, is for programmers; a stop must be heard all the same."""
    if not stopping.again(what.exc_value):
        log.info("something was not tidied up: %s: %s", what.exc_type.__name__, what.exc_value)


def _open_what_is_closed() -> None:
    """Let nowhere be what whoever started us closed (`>&-`), before some other file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115


def stop() -> None:
    """Write what is left, and give stderr back, for what Python itself may have to say at the end."""
    flush()
    os.dup2(sys.stderr.fileno(), 2)


def flush() -> None:
    """Write what is left; where nobody takes it any more, Python need not try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def abandon_stdout() -> None:
    """Send what is left for stdout nowhere: Python would complain once more when it flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Print what a run has come to, which nobody may be there to read any more.

    Raises:
        OSError: it cannot be written for another reason, such as a full disk.
    """
    try:
        click.echo(text)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal that is gone
            raise
        abandon_stdout()


def set_verbosity(level: int) -> None:
    """From -2 (nothing but the exit code) over -1 (errors), 0 (warnings, notes) and 1 (news) to 2 (all there is)."""
    level = max(-2, min(level, 2))
    log.setLevel(_LEVELS[level])
    if level == 2:
        os.dup2(sys.stderr.fileno(), 2)
        if not sys.warnoptions:
            warnings.simplefilter("default")


def is_quiet() -> bool:
    """Whether the user wants to hear of errors at most."""
    return not log.isEnabledFor(logging.WARNING)


def shows_progress() -> bool:
    """Whether someone sees stderr and has not asked for quiet."""
    return sys.stderr.isatty() and not is_quiet()


def show_tracebacks() -> bool:
    """Whether the user asked for everything."""
    return log.isEnabledFor(logging.DEBUG)


def tell_problems(problems: Sequence[str]) -> None:
    """The first problems, or with -v all of them: a data set may have thousands of the same kind."""
    shown = problems if log.isEnabledFor(logging.INFO) else problems[:_SHOWN_PROBLEMS]
    for problem in shown:
        log.warning("%s", problem)
    if len(shown) < len(problems):
        log.warning("and %d more problems (-v shows them)", len(problems) - len(shown))


class _Stderr(io.TextIOWrapper):
    """What nobody may read any more: a terminal that was closed, or a full disk, is no reason to end a run."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BlockingIOError:  # full for a moment, where who reads it made it so
            return len(text)
        except OSError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BlockingIOError:
            pass
        except OSError:
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


class _ToStderr(logging.Handler):
    """To whatever stderr is at that moment: a progress bar puts itself there and lets lines pass above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


class _OneLine(logging.Formatter):
    """``error: message`` on one line, whatever a file name in it holds."""

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        text = super().format(record)
        for secret, shown in _hidden.items():
            text = text.replace(secret, shown)
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        text = printable(super().formatMessage(record))
        return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."


def printable(text: str) -> str:
    """Control characters as escapes: a name must not move the cursor or end a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
