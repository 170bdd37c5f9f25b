"""Figures of a run, with a clock of the test's own."""

from __future__ import annotations

from threading import Thread

import pytest

from ssdcam.pipeline import timing as timing_module
from ssdcam.pipeline.timing import STAGES, Timing


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing_module, "time", clock)
    return clock


def test_before_the_first_frame_all_is_nothing(clock: Clock) -> None:
    clock_free = Timing()
    clock.now += 5
    stats = clock_free.stats()
    assert (stats.frames, stats.dropped, stats.wall_s, stats.fps) == (0, 0, 0.0, 0.0)
    assert stats.latency_ms == {"p50": 0.0, "p95": 0.0}
    assert stats.stages_ms == dict.fromkeys(STAGES, 0.0)
    assert (clock_free.live_fps, clock_free.live_latency_ms) == (0.0, 0.0)


def test_figures_of_a_steady_run(clock: Clock) -> None:
    timing = Timing()
    for index in range(100):
        clock.now += 0.02
        timing.drawn(clock.now - (0.005 if index < 90 else 0.5))
    timing.dropped = 7
    stats = timing.stats()
    assert (stats.frames, stats.dropped) == (100, 7)
    assert stats.wall_s == pytest.approx(2.0)
    assert stats.fps == pytest.approx(50)
    assert stats.latency_ms["p50"] == pytest.approx(5)
    assert stats.latency_ms["p95"] == pytest.approx(500)
    assert timing.live_fps == pytest.approx(50)
    assert timing.live_latency_ms == pytest.approx(500)


def test_a_stage_is_a_mean_a_frame(clock: Clock) -> None:
    timing = Timing()
    for _ in range(4):
        with timing.stage("inference"):
            clock.now += 0.030
        timing.drawn(clock.now)
    with timing.stage("encode"):
        clock.now += 0.010
    stages = timing.stats().stages_ms
    assert list(stages) == list(STAGES)
    assert stages["inference"] == pytest.approx(30)
    assert stages["encode"] == pytest.approx(2.5)
    assert stages["draw"] == 0


def test_a_stage_that_fails_counts_too(clock: Clock) -> None:
    timing = Timing()

    def fail() -> None:
        with timing.stage("decode"):
            clock.now += 1
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    timing.drawn(clock.now)
    assert timing.stats().stages_ms["decode"] == pytest.approx(1000)


def test_the_live_rate_forgets_the_past(clock: Clock) -> None:
    timing = Timing()
    for step in [1.0] * 50 + [0.1] * 50:
        clock.now += step
        timing.drawn(clock.now)
    assert timing.live_fps == pytest.approx(10)
    assert timing.stats().fps == pytest.approx(100 / 55)


def test_percentiles_of_a_long_run_take_no_more_memory(clock: Clock) -> None:
    timing = Timing()
    for index in range(100_000):
        timing.drawn(clock.now - (index % 100) / 1000)
    assert timing.frames == 100_000
    assert len(timing._latencies) <= timing_module._SAMPLES
    latency = timing.stats().latency_ms
    assert latency["p50"] == pytest.approx(50, abs=5)
    assert latency["p95"] == pytest.approx(95, abs=5)


def test_threads_share_it() -> None:
    timing = Timing()

    def work() -> None:
        for _ in range(2000):
            with timing.stage("draw"):
                pass
            timing.drawn(0.0)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timing.frames == 8000


def test_what_is_written_is_rounded(clock: Clock) -> None:
    timing = Timing()
    clock.now += 1 / 3
    timing.drawn(clock.now - 1 / 7)
    written = timing.stats().to_json()
    assert written["wall_s"] == 0.333
    assert written["fps"] == 3.0
    assert written["latency_ms"] == {"p50": 142.86, "p95": 142.86}
