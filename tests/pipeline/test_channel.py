"""The queue between threads: order, bounds, policies, and that nobody waits for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdcam.pipeline.channel import Channel

from ..waiting import GUARD, wait_until


def in_thread(work: Callable[[], Any]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def ends(thread: Thread) -> bool:
    thread.join(GUARD)
    return not thread.is_alive()


def test_items_come_out_in_order() -> None:
    channel: Channel[int] = Channel(3, Event())
    assert [channel.put(item) for item in (1, 2, 3)] == [True] * 3
    assert [channel.get(), channel.get(), channel.get()] == [[1], [2], [3]]


@pytest.mark.parametrize(("most", "taken"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (9, [0, 1, 2])])
def test_several_at_once_but_never_waited_for(most: int, taken: list[int]) -> None:
    channel: Channel[int] = Channel(3, Event())
    for item in range(3):
        channel.put(item)
    assert channel.get(most) == taken


def test_a_full_channel_makes_the_producer_wait() -> None:
    channel: Channel[int] = Channel(2, Event())
    passed: list[int] = []

    def produce() -> None:
        for item in range(5):
            channel.put(item)
            passed.append(item)

    thread = in_thread(produce)
    wait_until(lambda: len(passed) >= 2)
    time.sleep(0.3)  # several times as long as it waits at a stretch
    assert passed == [0, 1]
    assert channel.get() == [0]
    wait_until(lambda: len(passed) >= 3)
    time.sleep(0.05)
    assert passed == [0, 1, 2]
    assert [channel.get() for _ in range(4)] == [[1], [2], [3], [4]]
    assert ends(thread)
    assert channel.dropped == 0


def test_the_newest_push_the_oldest_out() -> None:
    channel: Channel[int] = Channel(2, Event(), newest=True)
    assert all(channel.put(item) for item in range(7))
    assert channel.dropped == 5
    assert channel.get(9) == [5, 6]


def test_what_is_in_it_still_comes_out_after_closing() -> None:
    channel: Channel[int] = Channel(2, Event())
    channel.put(1)
    channel.close()
    assert not channel.finished
    assert channel.get() == [1]
    assert channel.finished
    assert channel.get() == []


def test_a_stop_throws_away_what_is_in_it() -> None:
    stop = Event()
    channel: Channel[int] = Channel(2, stop)
    channel.put(1)
    stop.set()
    assert channel.finished
    assert channel.get() == []
    assert not channel.put(2)


def test_a_timeout_ends_the_waiting() -> None:
    channel: Channel[int] = Channel(2, Event())
    assert channel.get(timeout=0.01) == []
    assert not channel.finished


@pytest.mark.parametrize("how", ["stop", "close"])
def test_waiting_consumers_are_let_go(how: str) -> None:
    stop = Event()
    channel: Channel[int] = Channel(2, stop)
    taken: list[list[int]] = []
    thread = in_thread(lambda: taken.append(channel.get()))
    time.sleep(0.02)
    stop.set() if how == "stop" else channel.close()
    assert ends(thread)
    assert taken == [[]]


def test_waiting_producers_are_let_go() -> None:
    stop = Event()
    channel: Channel[int] = Channel(1, stop)
    channel.put(1)
    passed: list[bool] = []
    thread = in_thread(lambda: passed.append(channel.put(2)))
    time.sleep(0.02)
    stop.set()
    assert ends(thread)
    assert passed == [False]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 200), size=st.integers(1, 5), most=st.integers(1, 7), newest=st.booleans(), seed=st.integers()
)
def test_nothing_is_lost_but_what_is_counted(count: int, size: int, most: int, newest: bool, seed: int) -> None:
    """Whatever the threads' turns: order is kept, and what did not come out is counted as dropped."""
    channel: Channel[int] = Channel(size, Event(), newest=newest)
    moods = random.Random(seed)
    pauses = [moods.random() < 0.05 for _ in range(2 * count)]

    def produce() -> None:
        for item in range(count):
            if pauses[item]:
                time.sleep(0.0005)
            assert channel.put(item)
        channel.close()

    thread = in_thread(produce)
    taken: list[int] = []
    while items := channel.get(most):
        assert len(items) <= min(most, size)
        taken += items
        if pauses[count + items[-1]]:
            time.sleep(0.0005)
    assert ends(thread)
    assert taken == sorted(set(taken))
    assert len(taken) + channel.dropped == count
    assert count == 0 or taken[-1] == count - 1, "the newest always comes through"
    if not newest:
        assert taken == list(range(count))
