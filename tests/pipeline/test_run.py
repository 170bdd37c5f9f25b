"""The three threads together: order, policies, failures and ends."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssdcam.detections import Detections
from ssdcam.errors import SourceError, UnavailableError
from ssdcam.media.planar import PlanarPicture
from ssdcam.media.sources import FileSource
from ssdcam.memory import Memory
from ssdcam.pipeline import run as run_module
from ssdcam.pipeline.run import Pipeline, Result, batch_that_fits
from ssdcam.pipeline.timing import Timing

from ..cli.stubbed import batches_of, stub_detector
from ..media.sources.videos import make_video
from ..waiting import GUARD, wait_until
from .conftest import ListedSource, ListSink, nothing_drawn, run_to_end

# Frames that may be on their way at once: in the two queues, and one in each thread's hands; of a file, one is in the
# network besides.
IN_FLIGHT_FILE = 4 + 4 + 3 + 1
IN_FLIGHT_LIVE = 1 + 4 + 3


class Waits(Event):
    """An event that counts how often it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += 1
        return super().wait(timeout)


def slow(result: Result) -> None:
    time.sleep(0.005)


# Order and policies.


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
@pytest.mark.parametrize("slow_one", ["nobody", "source", "detector", "sink"])
def test_a_file_loses_nothing_whoever_is_slow(batch: int, slow_one: str) -> None:
    source = ListedSource(30, gate=(lambda index: time.sleep(0.005)) if slow_one == "source" else lambda index: None)
    sink = ListSink(gate=slow if slow_one == "sink" else lambda result: None)
    detector = stub_detector(sleep=0.005 if slow_one == "detector" else 0)
    pipeline = run_to_end(source, [sink], detector, batch=batch)
    assert pipeline.failure is None
    assert sink.frames == list(range(30))
    assert pipeline.timing.frames == 30
    assert pipeline.timing.dropped == 0
    assert max(batches_of(detector)) <= batch
    assert sum(batches_of(detector)) == 30


def test_batches_fill_while_the_detector_works() -> None:
    detector = stub_detector(sleep=0.05)
    run_to_end(ListedSource(40), [ListSink()], detector, batch=4)
    assert max(batches_of(detector)) == 4


def test_the_next_batch_starts_before_the_last_one_is_done() -> None:
    detector, order = stub_detector(), []
    submit, decode = detector.engine.submit, detector.engine.decode

    def begin(batch: Any) -> Any:
        order.append("begin")
        return submit(batch)

    def end(*raw: Any) -> Any:
        order.append("end")
        return decode(*raw)

    detector.engine.submit, detector.engine.decode = begin, end  # type: ignore[method-assign]
    # The source is ahead by as many frames as the queue holds before the first one is looked at.
    source = ListedSource(12, gate=lambda index: None)
    pipeline = Pipeline(source, detector, [ListSink()], nothing_drawn, timing=Timing(), stop=Event(), batch=2)
    pipeline._threads[0][0].start()
    wait_until(lambda: source.given >= 4)
    for thread, _ in pipeline._threads[1:]:
        thread.start()
    pipeline.join()
    assert order[:3] == ["begin", "begin", "end"]
    assert order.count("begin") == order.count("end")
    ahead = [order[: place + 1].count("begin") - order[: place + 1].count("end") for place in range(len(order))]
    assert max(ahead) == 2


@pytest.mark.parametrize("live", [False, True])
def test_a_result_does_not_wait_for_the_next_frame(live: bool) -> None:
    sink = ListSink()
    source = ListedSource(8, live, gate=lambda index: wait_until(lambda: len(sink.frames) == index))
    pipeline = run_to_end(source, [sink], batch=4)
    assert pipeline.failure is None
    assert sink.frames == list(range(8))


def test_a_gpu_is_given_batches_of_one_size() -> None:
    """The last one, and those that the source is too slow for, are filled up; what is found is what a CPU finds."""
    found: dict[str, list[Detections]] = {}
    for device in ("cpu", "cuda"):
        detector = stub_detector(sleep=0.01)
        detector.engine.device = device  # type: ignore[misc]
        results = found[device] = []
        sink = ListSink(gate=lambda result, results=results: results.append(result.detections))  # type: ignore[misc]
        source = ListedSource(30, gate=lambda index: time.sleep(0.02 if index in (9, 10) else 0))
        assert run_to_end(source, [sink], detector, batch=4).failure is None
        assert sink.frames == list(range(30))
        assert (set(batches_of(detector)) == {4}) == (device == "cuda")
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)


def test_live_frames_are_never_batched() -> None:
    detector = stub_detector(sleep=0.002)
    run_to_end(ListedSource(50, live=True), [ListSink()], detector, batch=8)
    assert set(batches_of(detector)) == {1}


def test_live_frames_give_way_to_newer_ones() -> None:
    """The source is read on and on while the detector stands still; then the newest frame is the next."""
    detector = stub_detector()
    held, at_work = Event(), Event()
    infer = detector.engine.infer

    def hold(batch: Any) -> Any:
        at_work.set()
        held.wait(GUARD)
        return infer(batch)

    detector.engine.infer = hold  # type: ignore[method-assign]
    source = ListedSource(1000, live=True, gate=lambda index: at_work.wait(GUARD) and None if index == 1 else None)
    sink = ListSink()
    pipeline = Pipeline(source, detector, [sink], nothing_drawn, timing=Timing(), stop=Event())
    pipeline.start()
    wait_until(lambda: source.given == 1000)
    held.set()
    pipeline.join()
    assert sink.frames == [0, 999]
    assert pipeline.timing.dropped == 998


def test_dropped_and_kept_make_the_whole() -> None:
    source = ListedSource(300, live=True, gate=lambda index: time.sleep(0.0005))
    sink = ListSink(gate=slow)
    pipeline = run_to_end(source, [sink], stub_detector(sleep=0.002))
    assert sink.frames == sorted(set(sink.frames))
    assert sink.frames[-1] == 299
    assert pipeline.timing.dropped > 0
    assert len(sink.frames) + pipeline.timing.dropped == 300


def test_two_runs_add_their_drops_up() -> None:
    timing, kept = Timing(), 0
    for _ in range(2):
        sink = ListSink()
        source = ListedSource(100, live=True, gate=lambda index: time.sleep(0.0005))
        run_to_end(source, [sink], stub_detector(sleep=0.004), timing=timing)
        kept += len(sink.frames)
    assert timing.frames == kept
    assert timing.frames + timing.dropped == 200


@pytest.mark.parametrize(("live", "most"), [(False, IN_FLIGHT_FILE), (True, IN_FLIGHT_LIVE)])
@pytest.mark.parametrize("slow_one", ["detector", "sink"])
def test_few_frames_are_on_their_way(live: bool, most: int, slow_one: str) -> None:
    """Memory, and what is shown of a live source: never older than so many frames that were looked at."""
    sink = ListSink(gate=slow if slow_one == "sink" else lambda result: None)
    flying: list[int] = []
    timing = Timing()

    def count(index: int) -> None:
        flying.append(index - timing.dropped - len(sink.frames))
        if live:
            time.sleep(0.001)

    detector = stub_detector(sleep=0.004 if slow_one == "detector" else 0)
    run_to_end(ListedSource(150, live, gate=count), [sink], detector, timing=timing)
    assert 2 <= max(flying) <= most + 1  # drops are counted a moment after they happen


def test_a_slow_detector_on_a_live_source_stays_up_to_date() -> None:
    """While the detector works, the source gives twenty frames; the last of them is the one to be looked at next."""
    detector, stop, held_back = stub_detector(), Event(), Event()
    allowed = 1

    def hold_back(index: int) -> None:
        if index == allowed:  # all frames before this one have been handed over
            held_back.set()
            wait_until(lambda: index < allowed or stop.is_set())

    infer = detector.engine.infer

    def work(batch: Any) -> Any:
        nonlocal allowed
        wait_until(lambda: held_back.is_set() or stop.is_set())
        held_back.clear()
        allowed += 20
        wait_until(lambda: held_back.is_set() or stop.is_set())
        return infer(batch)

    detector.engine.infer = work  # type: ignore[method-assign]
    sink = ListSink()
    source = ListedSource(None, live=True, gate=hold_back)
    run_to_end(source, [sink], detector, stop=stop, max_frames=70)
    assert sink.frames == list(range(0, 70 * 20, 20))


# Failures.


def test_a_source_that_fails_gives_what_it_had() -> None:
    failure = SourceError("the tape tore")
    sinks = [ListSink(gate=slow), ListSink(drawn=True)]
    pipeline = run_to_end(ListedSource(25, failure=failure), sinks, stub_detector(sleep=0.002), batch=4)
    assert pipeline.failure is failure
    assert [sink.frames for sink in sinks] == [list(range(25))] * 2


def test_a_detector_that_fails_ends_the_run() -> None:
    sink, source, ended = ListSink(), ListedSource(None), Event()
    pipeline = run_to_end(source, [sink], stub_detector(fail_at=10), on_end=ended.set)
    assert isinstance(pipeline.failure, UnavailableError)
    assert sink.frames == list(range(len(sink.frames)))
    assert len(sink.frames) <= 10
    assert ended.is_set()


@pytest.mark.parametrize("drawn", [False, True])
def test_a_sink_that_fails_ends_the_run(drawn: bool) -> None:
    failure = OSError("the disk is full")

    def fail(result: Result) -> None:
        if result.frame.index == 7:
            raise failure

    sink, other, ended = ListSink(drawn, gate=fail), ListSink(drawn), Event()
    pipeline = run_to_end(ListedSource(None), [sink, other], on_end=ended.set)
    assert pipeline.failure is failure
    assert sink.frames == other.frames == list(range(7))
    assert ended.is_set()


def test_a_drawing_that_fails_ends_the_run() -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("no paint")

    pipeline = run_to_end(ListedSource(None), [ListSink(drawn=True)], draw=fail)
    assert str(pipeline.failure) == "no paint"


def test_the_first_failure_is_told() -> None:
    """The source's, though the sink fails over what was on its way."""
    told = Event()

    def late(result: Result) -> None:
        told.wait(GUARD)
        raise OSError("later")

    class Failing(ListedSource):
        def read(self) -> Any:
            try:
                return super().read()
            except SourceError:
                threading.Timer(0.2, told.set).start()
                raise

    pipeline = run_to_end(Failing(3, failure=SourceError("first")), [ListSink(gate=late)])
    assert str(pipeline.failure) == "first"


# Ends.


@pytest.mark.parametrize("count", [0, 1])
def test_short_sources(count: int) -> None:
    sink, ended = ListSink(), Event()
    pipeline = run_to_end(ListedSource(count), [sink], batch=4, on_end=ended.set)
    assert pipeline.failure is None
    assert sink.frames == list(range(count))
    assert ended.is_set()


@pytest.mark.parametrize("live", [False, True])
def test_max_frames_counts_results(live: bool) -> None:
    sink = ListSink()
    pipeline = run_to_end(ListedSource(None, live), [sink], stub_detector(sleep=0.001), max_frames=9, batch=4)
    assert len(sink.frames) == pipeline.timing.frames == 9


def test_duration_counts_from_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own: a hundred seconds pass before the first frame, then a tenth with each."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    sink, stop = ListSink(), Event()

    def pass_time(index: int) -> None:
        wait_until(lambda: len(sink.frames) == index or stop.is_set())
        clock.now += 0.1 if index else 100.0
        if not index:
            time.sleep(0.3)  # a few looks at the clock

    monkeypatch.setattr(run_module, "time", clock)
    source = ListedSource(None, live=True, gate=pass_time)
    run_to_end(source, [sink], stop=stop, duration=0.3)
    assert len(sink.frames) >= 3, "the wait for the first frame is no part of it"


def test_a_stop_from_outside() -> None:
    source, sink = ListedSource(None), ListSink()
    pipeline = Pipeline(source, stub_detector(), [sink], nothing_drawn, timing=Timing(), stop=Event())
    pipeline.start()
    wait_until(lambda: len(sink.frames) > 5)
    pipeline.stop()
    assert pipeline.failure is None
    assert sink.frames == list(range(len(sink.frames)))
    count = source.given
    time.sleep(0.05)
    assert source.given == count


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_a_stop_that_is_interrupted_ends_all_the_same() -> None:
    source = ListedSource(None, gate=lambda index: time.sleep(0.3))
    pipeline = Pipeline(source, stub_detector(), [ListSink()], nothing_drawn, timing=Timing(), stop=Event())
    pipeline.start()
    wait_until(lambda: source.given > 0)
    interrupt = threading.Timer(0.05, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])

    def stop_and_interrupt() -> None:
        interrupt.start()
        pipeline.stop()
        interrupt.join()

    with pytest.raises(KeyboardInterrupt):
        stop_and_interrupt()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ssdcam-")]


def test_a_stop_while_everyone_waits() -> None:
    """A sink that is stuck until the end, and full queues before it."""
    stop = Event()
    sink = ListSink(gate=lambda result: stop.wait(GUARD) and None)
    source = ListedSource(None)
    pipeline = Pipeline(source, stub_detector(), [sink], nothing_drawn, timing=Timing(), stop=stop)
    pipeline.start()
    wait_until(lambda: source.given >= 9)
    time.sleep(0.1)
    assert source.given <= IN_FLIGHT_FILE + 1
    pipeline.stop()
    assert sink.frames == [0]


def test_the_caller_is_woken() -> None:
    """Also while no frame comes: the source waits for it."""
    ticks: list[int] = []
    source = ListedSource(3, gate=lambda index: wait_until(lambda: len(ticks) >= 3))
    pipeline = Pipeline(source, stub_detector(), [ListSink()], nothing_drawn, timing=Timing(), stop=Event())
    pipeline.start()
    pipeline.join(lambda: ticks.append(1))
    assert source.given == 3
    assert pipeline.failure is None


# Steering.


def test_a_paused_file_waits() -> None:
    source, sink, stop = ListedSource(None), ListSink(), Waits()
    pipeline = Pipeline(source, stub_detector(), [sink], nothing_drawn, timing=Timing(), stop=stop)
    pipeline.start()
    wait_until(lambda: len(sink.frames) > 3)
    pipeline.paused.set()
    wait_until(lambda: stop.waited)  # the reader rests
    wait_until(lambda: source.given == len(sink.frames))
    count, rests = source.given, stop.waited
    wait_until(lambda: stop.waited > rests + 3)
    assert source.given == len(sink.frames) == count
    pipeline.paused.clear()
    wait_until(lambda: len(sink.frames) > count + 3)
    pipeline.stop()
    assert sink.frames == list(range(len(sink.frames)))


def test_a_paused_camera_runs_on() -> None:
    source = ListedSource(None, live=True, gate=lambda index: time.sleep(0.001))
    pipeline = Pipeline(source, stub_detector(), [ListSink()], nothing_drawn, timing=Timing(), stop=Event())
    pipeline.paused.set()
    pipeline.start()
    wait_until(lambda: source.given > 20)
    pipeline.stop()


def test_the_detector_may_be_replaced_on_the_way() -> None:
    counts: list[int] = []
    sink = ListSink(gate=lambda result: counts.append(len(result.detections)))
    pipeline = Pipeline(
        ListedSource(None), stub_detector(score=0.2), [sink], nothing_drawn, timing=Timing(), stop=Event()
    )
    pipeline.start()
    wait_until(lambda: max(counts, default=0) >= 2)
    pipeline.detector = pipeline.detector.with_score(0.95)
    seen = len(counts)
    wait_until(lambda: len(counts) > seen + IN_FLIGHT_FILE + 10)
    pipeline.stop()
    assert set(counts[seen + IN_FLIGHT_FILE :]) == {0}


# Who sees what.


def test_plain_sinks_see_frames_before_anything_is_drawn() -> None:
    order: list[str] = []

    class Looking(ListSink):
        def write(self, result: Result) -> None:
            order.append(f"{'drawn' if self.drawn else 'plain'} {result.frame.image.max()}")

    def draw(surface: Any, detections: Any, timing: Any) -> None:
        surface.fill(0, 0, 1, 1, (255, 255, 255))

    run_to_end(ListedSource(2), [Looking(drawn=True), Looking(drawn=False)], draw=draw)
    assert order == ["plain 0", "drawn 255", "plain 1", "drawn 255"]


@pytest.mark.parametrize(("in_bgr", "kind"), [(False, PlanarPicture), (True, np.ndarray)])
def test_a_video_is_drawn_on_in_bgr_only_where_that_is_wanted(in_bgr: bool, kind: type, tmp_path: Path) -> None:
    kinds: list[type] = []

    class Looking(ListSink):
        def write(self, result: Result) -> None:
            kinds.append(type(result.frame.picture))

    with FileSource(make_video(tmp_path / "v.mp4", range(5))) as source:
        run_to_end(source, [Looking(drawn=True)], in_bgr=in_bgr)
    assert kinds == [kind] * 5


def test_nothing_is_drawn_for_nobody() -> None:
    calls: list[int] = []
    run_to_end(ListedSource(5), [ListSink()], draw=lambda *arguments: calls.append(1))
    assert not calls


def test_every_stage_has_its_time() -> None:
    pipeline = run_to_end(ListedSource(5), [ListSink(drawn=True)], stub_detector(sleep=0.01))
    stages = pipeline.timing.stats().stages_ms
    assert all(value > 0 for value in stages.values())


@pytest.mark.parametrize(
    ("batch", "size", "fits"),
    [
        (4, (1920, 1080), 4),
        (256, (1920, 1080), 160),
        (256, (3840, 2160), 39),
        (8, (8192, 8192), 4),
        (8, (10**5, 10**5), 1),
    ],
)
def test_frames_on_their_way_take_half_of_the_memory(
    batch: int, size: tuple[int, int], fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssdcam.pipeline.run.memory", lambda: Memory(8 * 10**9, 10**9, 10**9))
    assert batch_that_fits(batch, *size) == fits
    assert fits == 1 or (4 * fits + 2) * 3 * size[0] * size[1] <= 4 * 10**9
    monkeypatch.setattr("ssdcam.pipeline.run.memory", lambda: None)
    assert batch_that_fits(batch, *size) == batch
