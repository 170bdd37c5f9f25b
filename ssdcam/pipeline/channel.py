"""A bounded queue between two threads that stops when the run does."""

from __future__ import annotations

from collections import deque
from threading import Condition, Event
from typing import Generic, TypeVar

T = TypeVar("T")

# Nothing waits longer than this without looking whether the run was stopped.
_LOOK = 0.1


class Channel(Generic[T]):
    """Hands items from one thread to another, in order.

    Args:
        size: items that it holds.
        stop: set when the run is over; whoever waits here then gives up.
        newest: when full, the oldest item is dropped for the new one; otherwise the producer waits.

    Attributes:
        dropped: items that gave way to newer ones.
    """

    def __init__(self, size: int, stop: Event, *, newest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._stop = stop
        self._newest = newest
        self._closed = False
        self._changed = Condition()
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Hand an item over; False if the run was stopped instead."""
        with self._changed:
            while len(self._items) >= self._size and not self._newest and not self._stop.is_set():
                self._changed.wait(_LOOK)
            if self._stop.is_set():
                return False
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def get(self, most: int = 1, timeout: float | None = None) -> list[T]:
        """Take what is there, up to ``most`` items.

        Args:
            most: items to take at the most; fewer are taken rather than waited for.
            timeout: seconds to wait for the first; None waits until there is one.

        Returns:
            At least one item; none when nothing more will come, the run was stopped or the time is over.
        """
        left = timeout
        with self._changed:
            while not self._items and not self._closed and not self._stop.is_set() and (left is None or left > 0):
                wait = _LOOK if left is None else min(left, _LOOK)
                self._changed.wait(wait)
                left = None if left is None else left - wait
            if self._stop.is_set():
                return []
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._changed.notify_all()
        return taken

    @property
    def closed(self) -> bool:
        """Whether nothing more will be put in."""
        return self._closed or self._stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether the run was stopped: then nothing more will come out."""
        return self._stop.is_set()

    @property
    def finished(self) -> bool:
        """Whether nothing more will come out."""
        with self._changed:
            return self._stop.is_set() or (self._closed and not self._items)
