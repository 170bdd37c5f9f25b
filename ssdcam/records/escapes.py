r"""Characters that a format cannot hold, written as ``\uXXXX`` and read back.

A text that happens to hold such an escape already has its backslash written as ``\u005c``, so that every text comes
back as it was; a backslash that stands for itself, as in a Windows path, stays one.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


def escape(text: str, unfit: re.Pattern[str]) -> str:
    """Write the characters that match ``unfit``, all below U+10000, as escapes."""
    guarded = _ESCAPE.sub(lambda found: f"\\u005cu{found[1]}" if _stands_for(found, unfit) else found[0], text)
    return unfit.sub(lambda found: f"\\u{ord(found[0]):04x}", guarded)


def unescape(text: str, unfit: re.Pattern[str]) -> str:
    """The inverse of :func:`escape`; what only looks like an escape is left alone."""
    return _ESCAPE.sub(lambda found: _stands_for(found, unfit) or found[0], text)


def _stands_for(found: re.Match[str], unfit: re.Pattern[str]) -> str:
    """The character that an escape stands for, or nothing if :func:`escape` would not have written it."""
    character = chr(int(found[1], 16))
    return character if character == "\\" or unfit.fullmatch(character) else ""
