"""One check in a process of its own: findings to stdout, a line of JSON each, as they come."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module

from ssdcam.diagnosis.finding import Finding


def main() -> None:
    """Run the check that the arguments name: ``module:function``, what it needs, its arguments."""
    function, needs, *arguments = sys.argv[1:]
    told = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print is no finding
    missing = [package for package in needs.split(",") if package and not _loads(package)]
    if missing:
        _tell(told, {"raised": f"not checked, for {' and '.join(missing)} does not load: see above"})
        return
    module, _, attribute = function.partition(":")
    try:
        findings: Iterable[Finding] = getattr(import_module(f"ssdcam.diagnosis.{module}"), attribute)(*arguments)
        for finding in findings:
            _tell(told, asdict(finding))
    except Exception as error:
        _tell(told, {"raised": f"cannot be checked: {type(error).__name__}: {_first_line(error)}"})


def _loads(package: str) -> bool:
    try:
        import_module(package)
    except Exception:  # broken libraries raise anything
        return False
    return True


def _tell(handle: int, fields: dict[str, object]) -> None:
    os.write(handle, json.dumps(fields).encode() + b"\n")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
