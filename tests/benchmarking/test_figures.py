"""The arithmetic of figures, on known numbers."""

from __future__ import annotations

import pytest

from ssdcam.benchmarking.figures import Times, percentiles_ms, possible_fps, ratio


def test_percentiles() -> None:
    assert percentiles_ms([i / 1000 for i in range(101)]) == pytest.approx({"p50": 50.0, "p95": 95.0})
    assert percentiles_ms([0.003]) == pytest.approx({"p50": 3.0, "p95": 3.0})
    assert percentiles_ms([0.004, 0.001]) == pytest.approx({"p50": 2.5, "p95": 3.85})  # order means nothing


def test_times_of_rounds() -> None:
    times = Times()
    times.add([0.1, 0.3], pictures=8, wall_s=0.4, cpu_s=0.8)
    times.add([0.2], pictures=4, wall_s=0.2, cpu_s=0.2)
    assert times.latencies_s == [0.1, 0.3, 0.2]
    assert times.rates == pytest.approx([20, 20])
    assert times.cpu_s == pytest.approx([0.1, 0.05])


def test_a_ratio_is_of_rounds_not_of_means() -> None:
    # In the second round the machine was ten times as slow for both.
    assert ratio([100, 10, 110], [50, 5, 50]) == pytest.approx(2.0)
    assert ratio([100, 10], [50]) == pytest.approx(2.0)  # a round that was not finished counts for neither


@pytest.mark.parametrize(
    ("cpu_s", "cores", "device_s", "expected"),
    [
        ([0.002, 0.010, 0.004], 2, 0.0, 125.0),  # 16 ms of work on two cores
        ([0.002, 0.010, 0.004], 1.5, 0.0, 93.75),  # a container's share
        ([0.002, 0.0, 0.004], 2, 0.005, 200.0),  # a GPU that takes longer than the CPU does
        ([0.002, 0.0, 0.008], 2, 0.004, 200.0),  # and one that waits for it
    ],
)
def test_what_is_possible(cpu_s: list[float], cores: float, device_s: float, expected: float) -> None:
    assert possible_fps(cpu_s, cores, device_s) == pytest.approx(expected)
