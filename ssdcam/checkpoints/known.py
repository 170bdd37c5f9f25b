"""The checkpoints that have a name: a list of them, and each of them at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssdcam.checkpoints.published import EMBEDDED_FACTS, PUBLISHED, Facts, Published
from ssdcam.checkpoints.resolve import EMBEDDED, embedded_file, no_such, obtain
from ssdcam.errors import CheckpointError, WrongUsageError

if TYPE_CHECKING:
    from ssdcam.checkpoints.download import Progress


@dataclass(frozen=True)
class Known:
    """A checkpoint that has a name.

    Attributes:
        name: what ``-m`` takes.
        facts: about it.
        megabytes: its size; None if it is not here and nobody stated it.
        path: where it is; None where it is embedded or not here.
        published: whence it can be had; None where it is embedded.
    """

    name: str
    facts: Facts
    megabytes: float | None
    path: Path | None
    published: Published | None


def all_known() -> list[Known]:
    """Embedded checkpoints, then published ones."""
    return [*map(_embedded, EMBEDDED), *map(_published, PUBLISHED.values())]


def _embedded(name: str) -> Known:
    with embedded_file(name) as path:
        return Known(name, EMBEDDED_FACTS[name], path.stat().st_size / 1e6, None, None)


def _published(one: Published) -> Known:
    if not one.path.is_file():
        return Known(one.name, one.facts, one.megabytes, None, one)
    return Known(one.name, one.facts, one.path.stat().st_size / 1e6, one.path, one)


def check_name(name: str) -> None:
    """See that a checkpoint has that name.

    Raises:
        WrongUsageError: none has.
    """
    if name not in EMBEDDED and name not in PUBLISHED:
        raise WrongUsageError(no_such(name))


def have(name: str, *, offline: bool = False, progress: Progress | None = None) -> Path | None:
    """Have a checkpoint here, as it was published.

    Args:
        name: one that exists.
        offline: never touch the network.
        progress: is told how far a download is.

    Returns:
        Where it is; None of an embedded one.

    Raises:
        CheckpointError: it cannot be downloaded, or what is there is not what was published.
    """
    if name in EMBEDDED:
        return None
    published = PUBLISHED[name]
    if published.path.is_file() and published.sha256:
        _compare(published.path, published.sha256)
    return obtain(published, offline=offline, progress=progress)


def _compare(path: Path, sha256: str) -> None:
    from ssdcam.checkpoints.download import sha256_of

    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if not found.startswith(sha256):
        raise CheckpointError(
            f"{path}: is not what was published: its SHA-256 is {found}, not {sha256}; remove it and try again"
        )
