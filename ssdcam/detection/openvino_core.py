"""The one OpenVINO of this process, which forked children do without."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ssdcam.detection.no_reports import import_quietly
from ssdcam.errors import UnavailableError

if TYPE_CHECKING:
    import openvino

_one_at_a_time = threading.Lock()  # `cache` may call a function twice when two threads ask at once
_forked = threading.Event()  # in a process that was forked from one that has used OpenVINO
_parents: WeakSet[Any] = WeakSet()


def openvino_core() -> openvino.Core:
    """OpenVINO's root, one for this process, which is never given back.

    Its CPU plugin gives the thread that loads it another stack for signal handlers, and takes it away again when it is
    dropped. Of two that are not dropped in reverse order, the thread is left with a stack that is gone, and the next
    signal, such as Ctrl-C, is a crash.

    Raises:
        UnavailableError: OpenVINO is not installed, or this process was forked from one that has used it.
    """
    check_not_forked()
    try:
        vendor = import_quietly("openvino")
    except ImportError as error:
        raise UnavailableError(
            f"the openvino engine needs OpenVINO: pip install 'ssdcam[openvino]' ({error})"
        ) from error
    with _one_at_a_time:
        return _only_core(vendor)


@cache
def _only_core(vendor: Any) -> openvino.Core:
    made = vendor.Core()
    made.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, before anybody else's is loaded
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    return made


def _after_fork() -> None:
    """In a child OpenVINO's things are neither used nor dropped: both would wait for threads that the parent has."""
    _forked.set()
    keep_for_good(_only_core)
    for thing in _parents:
        keep_for_good(thing)


def keep_in_children(thing: object) -> None:
    """Have a thing of OpenVINO's never dropped in processes that are forked from this one."""
    _parents.add(thing)


def is_forked() -> bool:
    """Whether this process was forked from one that has used OpenVINO, whose threads it lacks."""
    return _forked.is_set()


def keep_for_good(thing: object) -> None:
    """Never drop a thing."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def check_not_forked() -> None:
    """Refuse where OpenVINO would wait for ever: its threads are the parent's.

    Raises:
        UnavailableError: this process was forked from one that has used it.
    """
    if _forked.is_set():
        raise UnavailableError(
            "the openvino engine does not run in a process that was forked from one that has used it: "
            "start the process by spawn (multiprocessing.set_start_method), or use the torch engine"
        )
