"""What Linux lets a container or a service take of a machine: control groups, of both versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(controller: str, membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> Iterator[Path]:
    """The folders of all groups that this process is in, from its own up to the outermost that it sees.

    A limit holds for whatever is further in. In a container the names that the kernel gives may be those of the host:
    what is not there is left out, and the outermost folder is then the container's own.

    Args:
        controller: ``cpu`` or ``memory``; of version 1, where each has a hierarchy of its own.
        membership: where the kernel says which groups they are.
        groups: where the hierarchies are mounted.
    """
    try:
        rows = [line.split(":", 2) for line in membership.read_text(errors="replace").splitlines()]
    except OSError:  # no Linux
        return
    for _, controllers, path in rows:
        if not controllers:  # version 2
            root = groups
        elif controller in controllers.split(","):
            root = groups / controllers
        else:
            continue
        inner = root if ".." in path else root / path.lstrip("/")  # that is outside of what it sees
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root) and folder.is_dir():
                yield folder


def cores(groups: Iterable[Path]) -> float | None:
    """How many cores' time they may take together, in seconds a second; None where nothing is limited."""
    shares = []
    for folder in groups:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            shares.append(float(quota) / float(period))
        except (OSError, ValueError):  # version 1, or no limit
            found, of = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if found is not None and of is not None and found > 0 and of > 0:
                shares.append(found / of)
    return min(shares, default=None)


def memory(groups: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """Each limit of memory and what of it is taken, in bytes; files that the system would forget do not count."""
    for folder in groups:
        for limit, taken, forgettable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _number(folder / limit), _number(folder / taken)
            if most is not None and used is not None:
                yield most, max(0, used - _row(folder / "memory.stat", forgettable))


def swap(groups: Iterable[Path], memory: int) -> int | None:
    """How much swap they may take together, in bytes; None where nothing is limited.

    Args:
        groups: their folders.
        memory: what they may take of memory, in bytes: version 1 limits both in one figure.
    """
    limits = []
    for folder in groups:
        alone, with_memory = _number(folder / "memory.swap.max"), _number(folder / "memory.memsw.limit_in_bytes")
        if alone is not None:
            limits.append(alone)
        if with_memory is not None:
            limits.append(max(0, with_memory - memory))
    return min(limits, default=None)


def _row(file: Path, name: str) -> int:
    try:
        return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{name} ")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _number(file: Path) -> int | None:
    """The only number in a file; None if there is none, as where nothing is limited."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
