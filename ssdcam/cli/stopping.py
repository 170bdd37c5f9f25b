"""The signals that stop a run, from its first moment to its last; they may come early, so little is imported here."""

from __future__ import annotations

import os
import signal
import time
from _thread import start_new_thread
from types import FrameType
from typing import Any
from weakref import ref

STOPPERS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

# nohup ignores SIGHUP, and is meant to. A shell ignores SIGINT for what runs behind it, and is not.
HEARD = [n for n in STOPPERS if n in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(n) != signal.SIG_IGN]

# How long a stop that was dropped waits to come again, in seconds: until what dropped it has come to its end.
_AGAIN = 0.01

_PATIENCE = 0.1  # seconds; raising a stop takes less by far, as does ending the run for whoever caught it at the end


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; like KeyboardInterrupt, which libraries take it for, nobody's error to catch.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        global _latest, _first
        _latest, _first = ref(self), _first or number


_latest: ref[Stopped] | None = None
_first: int | None = None
_listening = False


def listen() -> None:
    """From now on a signal raises :class:`Stopped` in the main thread."""
    _on_signals(_stop)
    global _listening
    _listening = True


def leave_at_once(code: int | None = None) -> None:
    """From now on a signal ends the process then and there, for nothing is begun yet, or all is let go of.

    Args:
        code: its exit code then; None is the signal's own.
    """
    _on_signals(lambda number, frame: os._exit(128 + number if code is None else code))


def ignore() -> None:
    """From now on nothing happens."""
    _on_signals(signal.SIG_IGN)


def forget() -> None:
    """From now on a signal does what it does to any process."""
    _on_signals(signal.SIG_DFL)


def code() -> int | None:
    """The exit code of a run that was stopped, by the first signal that came; None if none did."""
    return None if _first is None else 128 + _first


def again(dropped: BaseException | None) -> bool:
    """Have a stop that Python dropped, as it drops what is raised in a destructor, come once more.

    Returns:
        Whether it was one.
    """
    if not isinstance(dropped, Stopped):
        return False
    from threading import Timer

    global _latest
    _latest = None
    timer = Timer(_AGAIN, _send, [signal.Signals(dropped.args[0])])
    timer.daemon = True
    timer.start()
    return True


def _send(number: signal.Signals) -> None:
    """Have a signal arrive in the main thread, even if that waits for the system; Windows cannot do the latter."""
    import threading
    from _thread import interrupt_main

    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        interrupt_main(number)


def _on_signals(handler: Any) -> None:
    global _listening
    _listening = False
    for number in HEARD:
        signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the run, once: a second signal must not break into the closing of files, which takes a moment.

    The exception is alive as long as it is on its way. Once it is gone and we are still here, something swallowed it.
    """
    if not _on_its_way():
        start_new_thread(_insist, (signal.Signals(number),))  # threading's own may be locked by what this breaks into
        raise Stopped(number)


def _insist(number: signal.Signals) -> None:
    """Have a stop come again if something swallows it, as libraries do that look for others while they are imported."""
    time.sleep(_PATIENCE)  # until it is raised
    while _listening and _on_its_way():
        time.sleep(_AGAIN)
    time.sleep(_PATIENCE)  # until whoever caught it at the end has said so
    if _listening and not _on_its_way():
        _send(number)


def _on_its_way() -> bool:
    return _latest is not None and _latest() is not None
