"""Memory that is given back after every layer has to be fetched again, zeroed, for the next."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of mallopt(3)


def keep_memory() -> None:
    """Have glibc hold on to what is freed, rather than return large blocks to the system; elsewhere nothing changes.

    A training step frees and takes hundreds of megabytes, and the system's zeroing of fresh pages took a large part
    of it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
