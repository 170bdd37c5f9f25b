"""A long run takes no more memory than a short one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from threading import Event

import psutil
import pytest

from ssdcam.media.video_writer import VideoWriter
from ssdcam.pipeline.run import Result
from ssdcam.pipeline.sinks import RecordsSink, VideoSink
from ssdcam.records import open_records

from ..cli.stubbed import LABELS, stub_detector
from ..media.clips import packets
from .conftest import ListedSource, ListSink, run_to_end

FRAMES, WARM = 20_000, 500
FLAT = 20 * 2**20


@pytest.mark.slow
def test_twenty_thousand_frames_take_no_more_memory_than_five_hundred(tmp_path: Path) -> None:
    memory: list[int] = []
    process = psutil.Process()

    def weigh(result: Result) -> None:
        if result.frame.index % 500 == 0 and result.frame.index >= WARM:
            memory.append(process.memory_info().rss)

    out = tmp_path / "out.mp4"
    with (
        VideoWriter(out, width=64, height=48, rate=Fraction(30), preset="ultrafast") as writer,
        open_records(tmp_path / "r.jsonl", labels=LABELS) as lines,
    ):
        sinks = [RecordsSink("soak", lines.write), VideoSink(writer), ListSink(gate=weigh)]
        pipeline = run_to_end(ListedSource(FRAMES, shape=(48, 64)), sinks, stub_detector())
    assert pipeline.failure is None
    assert (tmp_path / "r.jsonl").read_bytes().count(b"\n") == FRAMES
    assert len(packets(out, "video")) == FRAMES
    assert max(memory) - memory[0] < FLAT, [value // 2**20 for value in memory]


def test_a_long_live_run_keeps_up(tmp_path: Path) -> None:
    """A detector much slower than its source: what is dropped is dropped before it takes memory or time."""
    stop = Event()
    source, sink = ListedSource(FRAMES, live=True), ListSink()
    pipeline = run_to_end(source, [sink], stub_detector(sleep=0.002), stop=stop)
    assert pipeline.failure is None
    assert sink.frames[-1] == FRAMES - 1
    assert len(sink.frames) + pipeline.timing.dropped == FRAMES
    assert pipeline.timing.dropped > FRAMES / 2
