"""How a run begins and how its process ends. What takes long to import waits until signals are heard."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ssdcam.cli import stopping


def main() -> NoReturn:
    """Run the command line and leave with its exit code: 0 done, 1 failed, 2 wrong usage, 129, 130 and 143 stopped."""
    stopping.leave_at_once()
    from ssdcam.cli import command_line, completing, console

    if completing.VARIABLE in os.environ:
        sys.exit(completing.answer(command_line.ssdcam))
    console.start()
    try:
        stopping.listen()
        code = command_line.run(sys.argv[1:])
        stopping.ignore()
    except stopping.Stopped:  # just before or after
        stopping.ignore()
        code = stopping.code() or 130
    console.stop()
    if stopping.code() or _threads_work():
        _leave(code)
    stopping.forget()  # the work is done: nothing is left to say about them
    sys.exit(code)


def _threads_work() -> bool:
    """Whether threads still run that nobody waits for, such as one that a camera keeps waiting."""
    import threading

    return any(thread.daemon for thread in threading.enumerate())


def _leave(code: int) -> NoReturn:
    """End the process without tearing down Python and the libraries: while threads work, that aborts now and then."""
    import atexit

    from ssdcam.cli import console

    stopping.leave_at_once(code)
    atexit._run_exitfuncs()  # ends processes, removes temporary folders, saves what coverage has counted
    console.flush()
    os._exit(code)
