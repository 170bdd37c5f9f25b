"""A long run whose source fails and comes back takes no more memory, threads or open files than a short one."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from ssdcam.detections import Image
from ssdcam.errors import SourceError
from ssdcam.media.crops import CropFolder
from ssdcam.media.sources import FileSource, live
from ssdcam.media.sources.decoder import Decoder
from ssdcam.media.sources.live import Link, LiveSource
from ssdcam.media.video_writer import VideoWriter
from ssdcam.pipeline.run import Result
from ssdcam.pipeline.sinks import CropsSink, RecordsSink, VideoSink
from ssdcam.records import open_records

from ..cli.stubbed import LABELS, stub_detector
from ..media.sources.videos import make_video, packets_of, spoil
from ..pipeline.conftest import ListedSource, run_to_end
from ..waiting import wait_until
from .conftest import Count

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what the process holds as Linux tells it")

FEW, MANY = 2_000, 100_000
PICTURES = 40  # in a connection that is not lost before

# How far a figure may rise above what it was when a tenth of the run was over: what is being opened while another is
# being closed, and what allocators keep.
SLACK = {"files": 4, "threads": 4, "memory": 24 * 2**20}


@dataclass
class Gauge:
    """A sink that looks at what the process holds."""

    frames: int
    drawn: bool = False
    seen: int = 0
    readings: list[dict[str, int]] = field(default_factory=list)

    def write(self, result: Result) -> None:
        self.seen += 1
        if self.seen % (self.frames // 50) == 0:
            self.readings.append(held())

    def check(self) -> None:
        assert len(self.readings) >= 45
        for what, slack in SLACK.items():
            values = [reading[what] for reading in self.readings[5:]]
            assert max(values) - values[0] <= slack, (what, values)


def held() -> dict[str, int]:
    process = psutil.Process()
    return {"files": process.num_fds(), "threads": process.num_threads(), "memory": process.memory_info().rss}


class FlakyLink:
    """A connection to a video that is lost after some pictures, now and then in the midst of being opened."""

    rate, duration, pixel_aspect, colours = Fraction(30), None, Fraction(1), None
    remarks: tuple[str, ...] = ()

    def __init__(self, path: Path, number: int) -> None:
        if number % 7 == 3:
            raise SourceError("camera: nothing answers there")
        self._decoder = Decoder(f"file:{path}", "camera", threads="SLICE")
        self._left = 0 if number % 11 == 5 else PICTURES

    def read(self) -> Image | None:
        frame = self._decoder.read()
        if frame is None or not self._left:
            raise SourceError("camera: it stopped giving pictures (unplugged?)")
        self._left -= 1
        return self._decoder.image(frame)

    def close(self) -> None:
        self._decoder.close()


class Waiting:
    """A source that hands on every picture of a live one: nothing is dropped, so that all of it is counted."""

    def __init__(self, source: LiveSource) -> None:
        self._source, self.live = source, False
        self.read = source.read


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that come back at once."""
    monkeypatch.setattr(live, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(live, "_LONGEST_PAUSE", 0.001)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """All that was opened is closed at the end."""
    threads, files = threading.active_count(), psutil.Process().num_fds()
    yield
    gc.collect()  # ends the threads of detectors that nobody has any more, a moment later
    wait_until(lambda: threading.active_count() <= threads)
    wait_until(lambda: psutil.Process().num_fds() <= files)


def soak(frames: int, folder: Path) -> int:
    """Run so many frames; how often the source was lost."""
    film = make_video(folder / "film.mp4", range(PICTURES + 5), size=(64, 48))
    numbers = itertools.count()
    connect: Callable[[], Link] = lambda: FlakyLink(film, next(numbers))  # noqa: E731
    events: list[str] = []
    gauge = Gauge(frames)
    with (
        LiveSource("camera", connect, reconnect=60.0, patience=5.0, on_event=events.append) as source,
        VideoWriter(folder / "out.mp4", width=64, height=48, rate=Fraction(30), preset="ultrafast") as writer,
        open_records(folder / "r.jsonl", labels=LABELS) as lines,
    ):
        crops = CropsSink("soak", CropFolder(folder / "crops"))
        once = ListedSource(1)
        run_to_end(once, [crops], stub_detector())
        sinks = [RecordsSink("soak", lines.write), VideoSink(writer), gauge]
        pipeline = run_to_end(Waiting(source), sinks, stub_detector(), max_frames=frames, guard=7200)
    assert pipeline.failure is None
    assert (folder / "r.jsonl").read_bytes().count(b"\n") == frames
    gauge.check()
    return sum("trying again" in event for event in events)


@pytest.mark.usefixtures("eager", "nothing_left")
@pytest.mark.parametrize("frames", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_source_that_fails_and_comes_back(frames: int, tmp_path: Path, count: Count) -> None:
    lost = soak(frames, tmp_path)
    assert lost >= frames // PICTURES - 1
    count("frames of soaks", frames)
    count("sources lost and back", lost)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("runs", [15, pytest.param(1_000, marks=pytest.mark.slow)])
def test_many_videos_in_one_process(runs: int, tmp_path: Path, count: Count) -> None:
    film = make_video(tmp_path / "film.mp4", range(8), size=(64, 48))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes())
    spoil(broken, packets_of(broken)[-2][:2])
    readings = []
    for number in range(runs):
        with (
            FileSource(broken if number % 3 == 0 else film) as source,
            VideoWriter(tmp_path / "out.mp4", width=64, height=48, rate=Fraction(30), preset="ultrafast") as writer,
        ):
            run_to_end(source, [VideoSink(writer)], stub_detector())
        gc.collect()  # an error refers to where it happened, and that to the error
        readings.append(held())
    count("videos of soaks", runs)
    early = readings[runs // 5]
    for what, slack in SLACK.items():
        assert max(reading[what] for reading in readings[runs // 5 :]) - early[what] <= slack, what


@pytest.mark.usefixtures("nothing_left")
def test_sources_that_cannot_be_opened_leave_nothing_open(tmp_path: Path, count: Count) -> None:
    (tmp_path / "no.mp4").write_bytes(os.urandom(4096))
    for _ in range(50):
        with pytest.raises(SourceError):
            FileSource(tmp_path / "no.mp4")
    count("sources that do not open", 50)
