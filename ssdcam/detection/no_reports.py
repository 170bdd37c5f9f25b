"""OpenVINO, NNCF and ONNX Runtime report to their makers when they are imported and used. Here they do not.

OpenVINO and NNCF do it through a package that they also work without; ONNX Runtime, from 1.31 on, by itself, unless an
environment variable is there when it is imported.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ssdcam.errors import stop_within

REPORTING = ("nncf", "onnxruntime", "openvino")
"""Packages that nothing else of ours imports."""

_REPORTER = "openvino_telemetry"
_alone = threading.RLock()  # as modules are the whole process'


def import_quietly(name: str) -> Any:
    """Import one of :data:`REPORTING`, or a module of theirs.

    Raises:
        ImportError: as ever.
        KeyboardInterrupt: it came while a module in C++ was made, which makes an ImportError of it.
    """
    with no_reports():
        try:
            return import_module(name)
        except ImportError as error:
            if stop := stop_within(error):
                raise stop from None
            raise


@contextmanager
def no_reports() -> Iterator[None]:
    """What is first imported in here finds nothing to report with."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # and stays, for processes that this one starts
    with _alone:
        before = {name: module for name, module in sys.modules.items() if name == _REPORTER}
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # Python's way of saying that there is none
        try:
            yield
        finally:
            del sys.modules[_REPORTER]
            sys.modules.update(before)
