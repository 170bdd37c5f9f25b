"""Where results go, one sink at a time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from ssdcam.detections import Detections
from ssdcam.media import video_writer
from ssdcam.media.av import av
from ssdcam.media.crops import CropFolder
from ssdcam.media.frame import Frame
from ssdcam.media.video_writer import VideoWriter
from ssdcam.pipeline import sinks as sinks_module
from ssdcam.pipeline.channel import Channel
from ssdcam.pipeline.run import Result
from ssdcam.pipeline.sinks import ClipRecorder, CropsSink, RecordsSink, ScreenSink, VideoSink, new_name, record_of
from ssdcam.records import Record

from ..media.clips import frame_times, frames, image, index_of
from ..waiting import GUARD


def result(index: int, pts: float | None = None) -> Result:
    found = Detections(
        np.array([[10, 5, 40, 60]], np.float32), np.array([0.9], np.float32), np.array([1], np.int64), ("bee",)
    )
    return Result(Frame(index, index / 25 if pts is None else pts, image(index), 0.0), found)


def test_a_record_of_a_frame() -> None:
    record = record_of("a.mp4", result(7))
    assert (record.source, record.width, record.height, record.frame, record.time) == ("a.mp4", 96, 64, 7, 0.28)
    assert record.detections.labels == ("bee",)


def test_records_are_passed_on_in_order() -> None:
    passed: list[Record] = []
    sink = RecordsSink("a.mp4", passed.append)
    for index in range(3):
        sink.write(result(index))
    assert [record.frame for record in passed] == [0, 1, 2]
    assert not sink.drawn


def test_crops_are_cut_from_the_clean_frame(tmp_path: Path) -> None:
    sink = CropsSink("a.mp4", CropFolder(tmp_path / "crops"))
    sink.write(result(3))
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["a_000003_0_bee.jpg"]
    assert not sink.drawn


@pytest.mark.parametrize(("begins", "expected"), [(None, [0, 0.5]), (2.0, [1.0, 1.5]), (3.0, [0, 0.5])])
def test_a_video_begins_where_it_is_told(tmp_path: Path, begins: float | None, expected: list[float]) -> None:
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, rate=Fraction(25)) as writer:
        sink = VideoSink(writer, begins)
        for index, pts in enumerate((3.0, 3.5)):
            sink.write(result(index, pts))
    assert frame_times(tmp_path / "out.mp4") == pytest.approx(expected, abs=1e-4)
    assert sink.drawn


def test_the_screen_gets_the_newest() -> None:
    channel: Channel[Result] = Channel(2, Event(), newest=True)
    sink = ScreenSink(channel)
    for index in range(5):
        sink.write(result(index))
    assert [shown.frame.index for shown in channel.get(9)] == [3, 4]


class Told(list[str]):
    """What a user was told."""

    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def warned() -> Told:
    return Told()


@pytest.fixture
def recorder(tmp_path: Path, told: Told, warned: Told) -> ClipRecorder:
    return ClipRecorder(tmp_path, Fraction(25), told, warned)


def test_nothing_is_recorded_unless_asked_for(recorder: ClipRecorder, tmp_path: Path, told: Told) -> None:
    recorder.write(result(0))
    recorder.close()
    assert list(tmp_path.iterdir()) == told == []


def test_clips_hold_what_comes_between_two_toggles(
    recorder: ClipRecorder, tmp_path: Path, told: Told, warned: Told
) -> None:
    for index in range(40):
        if index in {5, 20, 30}:
            recorder.toggle()
        recorder.write(result(index))
    assert recorder.recording
    recorder.close()
    assert not recorder.recording
    assert len(told) == 2
    assert not warned
    paths = [Path(line.removeprefix("recorded ")) for line in told]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    clips = [frames(path) for path in paths]
    assert [index_of(picture) for _, picture in clips[0]] == list(range(5, 20))
    # The last ten frames, whose wandering column has gone round once.
    assert [index_of(picture) for _, picture in clips[1]] == [index_of(image(index)) for index in range(30, 40)]
    assert [at for at, _ in clips[0]] == pytest.approx([index / 25 for index in range(15)], abs=1e-4)


def test_a_clip_that_is_put_together_holds_nobody_up(
    recorder: ClipRecorder, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who ended it, nor the frames that come meanwhile, nor the next clip."""
    go_on, make_plain = Event(), video_writer.make_plain

    def slow(*arguments: Any) -> None:
        assert go_on.wait(GUARD)
        make_plain(*arguments)

    monkeypatch.setattr(video_writer, "make_plain", slow)
    for index in range(30):
        if index in {5, 15, 20}:
            recorder.toggle()
        recorder.write(result(index))
    assert not told
    go_on.set()
    recorder.close()
    assert [len(frames(Path(line.removeprefix("recorded ")))) for line in told] == [10, 10]


def test_an_error_while_a_clip_is_put_together_is_raised(
    recorder: ClipRecorder, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the user is not told of otherwise; the other clips become whole."""
    close = VideoWriter.close

    def fail(writer: VideoWriter, **wishes: Any) -> None:
        monkeypatch.setattr(VideoWriter, "close", close)
        writer.close(**wishes)
        raise MemoryError

    monkeypatch.setattr(VideoWriter, "close", fail)
    for _ in range(2):
        recorder.toggle()
        recorder.write(result(0))
        recorder.toggle()
    with pytest.raises(MemoryError):
        recorder.close()
    assert len(told) == 1


def test_clips_are_shown_in_the_shape_of_the_source(tmp_path: Path, told: Told, warned: Told) -> None:
    recorder = ClipRecorder(tmp_path, Fraction(25), told, warned, Fraction(4, 3))
    recorder.toggle()
    recorder.write(result(0))
    recorder.close()
    with av.open(str(next(tmp_path.iterdir()))) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_on_and_off_without_a_frame_leaves_nothing(recorder: ClipRecorder, tmp_path: Path, warned: Told) -> None:
    recorder.toggle()
    recorder.toggle()
    assert list(tmp_path.iterdir()) == warned == []


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_clip_that_fails_is_told_of_once(tmp_path: Path, told: Told, warned: Told, when: str) -> None:
    recorder = ClipRecorder(tmp_path / ("no" if when == "at once" else ""), Fraction(25), told, warned)
    recorder.toggle()
    for index in range(4):
        frame = result(index)
        if when == "later" and index == 2:  # a picture of another size
            frame = Result(Frame(index, index / 25, image(index, 64, 48), 0.0), frame.detections)
        recorder.write(frame)
    assert len(warned) == 1
    assert not recorder.recording
    recorder.close()
    for path in tmp_path.iterdir():
        assert len(frame_times(path)) == 2


def test_toggling_from_another_thread(recorder: ClipRecorder, tmp_path: Path, warned: Told) -> None:
    stop = Event()
    written = [0]

    def write() -> None:
        while not stop.is_set():
            recorder.write(result(written[0]))
            written[0] += 1

    thread = Thread(target=write)
    thread.start()
    for _ in range(10):
        recorder.toggle()
        before = written[0]
        while written[0] < before + 3:
            stop.wait(0.001)
    stop.set()
    thread.join()
    recorder.close()
    assert not warned
    files = list(tmp_path.iterdir())
    assert len(files) == 5
    assert all(frame_times(path) for path in files)


def test_names_that_nothing_has_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Standing(sinks_module.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Standing:
            return cls(2026, 3, 4, 5, 6, 7)

    monkeypatch.setattr(sinks_module, "datetime", Standing)
    names = []
    for _ in range(3):
        path = new_name(tmp_path, ".png")
        path.touch()
        names.append(path.name)
    assert names == ["ssdcam-20260304-050607.png", "ssdcam-20260304-050607-2.png", "ssdcam-20260304-050607-3.png"]
