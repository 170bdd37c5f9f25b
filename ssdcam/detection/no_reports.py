"""Intel's packages report to their makers when they are imported and used. Ours do not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_REPORTER = "openvino_telemetry"


@contextmanager
def no_reports() -> Iterator[None]:
    """OpenVINO and NNCF, when first imported in here, find nothing to report with, which they are prepared for."""
    before = sys.modules.get(_REPORTER)
    sys.modules[_REPORTER] = None  # type: ignore[assignment]  # Python's way of saying that there is none
    try:
        yield
    finally:
        del sys.modules[_REPORTER]
        if before is not None:
            sys.modules[_REPORTER] = before
