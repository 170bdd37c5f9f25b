"""Addresses of cameras and streams, as typed and as shown. On the ground floor: standard library only."""

from __future__ import annotations

import re

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# Passwords are typed with "@", ":", "/", "?" and "#" in them, unescaped, and FFmpeg takes many of these. So everything
# from the first ":" to the last "@" goes; a path with both that loses its start is the lesser evil.
_PASSWORD = re.compile(r"(://(?!\[[^]@]*:[^]@]*\])[^:]*:)(.*)@([^&#]*)", re.DOTALL)
_USER_ALONE = re.compile(r"://[^:/?#@]+@")

# A secret may also be a parameter, and some cameras take parameters in the path ("/user=admin&password=x&channel=1").
_PARAMETER = r"((?:pass|pwd|\bpw|secret|token|key|auth|credential|\bsig)[^=&;/?#]*=)[^&#]*"
_SECRET = re.compile(_PARAMETER, re.IGNORECASE)
_SECRET_AT_END = re.compile(_PARAMETER + r"\Z", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether a text names something by URL rather than by file name or device."""
    return _URL.match(text) is not None


def redact(url: str) -> str:
    """A URL without its passwords and tokens.

    Example:
        >>> redact("rtsp://admin:1234@10.0.0.7/live?token=abc&channel=2")
        'rtsp://admin:***@10.0.0.7/live?token=***&channel=2'
    """
    return _USER_ALONE.sub("://***@", _SECRET.sub(r"\1***", _PASSWORD.sub(_hide, url)))


def _hide(match: re.Match[str]) -> str:
    user, hidden, following = match.groups()
    # The last "@" may also be one within a secret parameter, and what follows the rest of it.
    return f"{user}***@{'***' if _SECRET_AT_END.search(hidden) else following}"
