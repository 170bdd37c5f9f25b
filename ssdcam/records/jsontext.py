"""JSON as text on one line, and back with the line number of what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ssdcam.errors import RecordError
from ssdcam.records.disk import reading

# Halves of surrogate pairs stand for the bytes of a file name that is no UTF-8, and cannot be encoded. The others would
# break the line for some readers, or steer a terminal.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def dump(value: Any) -> str:
    """JSON on one line that every reader takes for one line and that UTF-8 can encode, whatever the texts hold."""
    text = json.dumps(value, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def parse(data: bytes, path: Path, first_line: int = 1) -> Any:
    """The value that UTF-8 text holds; the file and the number of the first line are for the complaint.

    Raises:
        RecordError: it is no JSON, or not all of it.
    """
    try:
        return json.loads(data, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        line, reason = error.lineno, f"is no JSON or cut short: {error.msg} (column {error.colno})"
    except UnicodeDecodeError as error:
        line, reason = 1 + data.count(b"\n", 0, error.start), "is no UTF-8 text"
    except (ValueError, RecursionError) as error:
        line, reason = 1, f"cannot be understood: {error}"
    raise RecordError(f"{path}: line {first_line + line - 1}: {reason}")


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number, from 1, and value of each line that is not blank, one at a time.

    Raises:
        RecordError: the file cannot be read, or a line is no JSON or cut short.
    """
    with reading(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, parse(line, path, number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON has")
