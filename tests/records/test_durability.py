"""What is on the disk when a process is killed, interrupted, or runs out of room."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ssdcam.errors import RecordError
from ssdcam.records import Record, RecordWriter, open_records, read_records

from .samples import FORMATS, LABELS, TWO, as_json, read, record, targets, write

# Writes without end, and says after each record that it is written. It rests in between because a kill in the very
# moment of a write may cut that write in two where it passes from one page of memory to the next.
ENDLESS = """
import itertools, sys, time
from records.samples import LABELS, TWO, record
from ssdcam.records import open_records

with open_records(sys.argv[1], labels=LABELS) as writer:
    for i in itertools.count():
        writer.write(record("v.mp4", TWO, frame=i, time=i / 25))
        print(i, flush=True)
        time.sleep(0.001)
"""

# Replaces the file without end, each time by one of two hundred records of another generation.
REPLACING = """
import itertools, sys
from records.samples import LABELS, TWO, record
from ssdcam.records import open_records

for generation in itertools.count():
    with open_records(sys.argv[1], labels=LABELS) as writer:
        for i in range(200):
            writer.write(record(f"v{generation}.mp4", TWO, frame=i))
    print(generation, flush=True)
"""


@contextmanager
def running(code: str, target: str, until: int) -> Iterator[None]:
    """A process that runs the code and has counted so far; it is killed at the end."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    command = [sys.executable, "-c", code, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= until:
                break
        assert process.poll() is None
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["jsonl", "csv", "voc", "yolo"])
def test_a_killed_process_leaves_every_record_it_wrote_whole(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    with running(ENDLESS, target, 60):
        pass
    records = read(target)
    assert len(records) > 60
    assert records == as_json(record("v.mp4", TWO, frame=i, time=i / 25) for i in range(len(records)))


def test_a_killed_process_leaves_the_coco_file_that_was_there_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder / "r.json", [record("old.jpg", TWO)])
    with running(ENDLESS, f"{folder}/r.json", 60):
        pass
    assert read(folder / "r.json") == as_json([record("old.jpg", TWO)])
    assert [path.name for path in folder.iterdir()] == ["r.json"]


def test_a_coco_file_is_whole_at_every_moment_and_when_the_process_is_killed(tmp_path: Path) -> None:
    def generations() -> set[str]:
        records = list(read_records(tmp_path / "r.json"))
        assert len(records) == 200
        return {one.source for one in records}

    with running(REPLACING, f"{tmp_path}/r.json", 0):
        seen = [generations() for _ in range(20)]
        while seen[-1] == seen[0]:  # the writer may have had no turn yet
            seen.append(generations())
    seen.append(generations())
    assert all(len(sources) == 1 for sources in seen)
    assert len(set.union(*seen)) > 1


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupt_leaves_a_complete_file_of_what_was_seen(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    seen = [record(f"{i}.jpg", TWO) for i in range(3)]

    def interrupted() -> Iterator[Record]:
        yield from seen
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(target, interrupted())
    assert read(target) == as_json(seen)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_each_record_is_on_the_disk_before_the_next(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    with open_records(target, labels=LABELS) as writer:
        for i in range(3):
            writer.write(record(f"{i}.jpg", TWO))
            assert len(read(target)) == i + 1


def complaint(action: Callable[..., None], *arguments: Any) -> str:
    with pytest.raises(RecordError) as caught:
        action(*arguments)
    return str(caught.value)


def write_many(writer: RecordWriter, count: int) -> None:
    for i in range(count):
        writer.write(record(f"{i}.jpg", TWO))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond a size in bytes; like a full disk, this lets a write through in part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@pytest.mark.parametrize("size", range(1000, 1300, 37))
def test_a_record_that_fits_only_in_part_is_taken_back(name: str, size: int, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    with open_records(target, labels=LABELS) as writer:
        with files_up_to(size):
            message = complaint(write_many, writer, 100)
        assert message == f"{target}: cannot be written: File too large"
        writer.write(record("there is room again.jpg", TWO))
    records = read(target)
    assert len(records) > 2
    assert records == as_json(record(f"{i}.jpg", TWO) for i in range(len(records) - 1)) + as_json(
        [record("there is room again.jpg", TWO)]
    )


def test_a_coco_file_holds_what_came_before_and_after_a_record_that_did_not_fit(tmp_path: Path) -> None:
    with open_records(tmp_path / "r.json", labels=LABELS) as writer:
        writer.write(record("before.jpg", TWO))
        with files_up_to(300), pytest.raises(RecordError):
            writer.write(record("too much.jpg", TWO))
        writer.write(record("after.jpg", TWO))
    assert [one["source"] for one in read(tmp_path / "r.json")] == ["before.jpg", "after.jpg"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk takes rights that this user does not have")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("name", ["jsonl", "csv", "voc", "yolo"])
def test_a_full_disk_is_one_clear_line_and_what_was_written_can_be_read(name: str, small_disk: Path) -> None:
    target = targets(small_disk)[name]
    message = complaint(write, target, (record(f"{i}.jpg", TWO) for i in range(1000)))
    assert message.startswith(f"{small_disk}/")
    assert message.endswith(": cannot be written: No space left on device")
    records = read(target)
    assert len(records) > 10
    assert records == as_json(record(f"{i}.jpg", TWO) for i in range(len(records)))
    assert not list(small_disk.rglob("*.part"))


@pytest.mark.parametrize("count", [150, 1000])
def test_a_disk_too_full_for_a_coco_file_keeps_the_old_one(count: int, small_disk: Path) -> None:
    """150 records fit while they wait and not when they are written; 1000 do not even fit while they wait."""
    path = small_disk / "r.json"
    write(path, [record("old.jpg", TWO)])
    message = complaint(write, path, (record(f"{i}.jpg", TWO) for i in range(count)))
    assert message == f"{path}: cannot be written: No space left on device"
    assert [one["source"] for one in read(path)] == ["old.jpg"]
    assert [one.name for one in small_disk.iterdir()] == ["r.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_full_device_is_one_clear_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(RecordError, match=f"{name}: cannot be written: No space left on device"):
        write(tmp_path / name, [record("a.jpg", TWO)])


@pytest.mark.parametrize("name", FORMATS)
def test_a_place_that_cannot_be_written_fails_before_any_work_is_done(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    target = targets(tmp_path / "file" / "folder")[name]
    with pytest.raises(RecordError, match=r"file/folder.*: cannot be written: Not a directory"):
        open_records(target, labels=LABELS)


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_a_folder_in_the_way_or_a_missing_one_fails_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / f"r.{name}").mkdir()
    with pytest.raises(RecordError, match=r"(?i)cannot be written: is a (directory|folder)"):
        open_records(tmp_path / f"r.{name}", labels=LABELS)
    with pytest.raises(RecordError, match="cannot be written: No such file"):
        open_records(tmp_path / "missing" / f"r.{name}", labels=LABELS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_without_the_right_to_write(name: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RecordError, match="cannot be written: Permission denied"):
        open_records(targets(tmp_path)[name], labels=LABELS)


@pytest.mark.parametrize(("name", "blocked"), [("voc", "a.xml"), ("yolo", "a.txt"), ("yolo", "classes.txt")])
def test_a_file_of_a_folder_that_cannot_be_written_is_named(name: str, blocked: str, tmp_path: Path) -> None:
    (tmp_path / name / blocked).mkdir(parents=True)
    with pytest.raises(RecordError, match=f"{name}/{blocked}: cannot be written: Is a directory"):
        write(targets(tmp_path)[name], [record("a.jpg", TWO)])


def test_a_coco_file_has_the_mode_of_the_one_it_replaces_or_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    (tmp_path / "old.json").chmod(0o640)
    (tmp_path / "any").touch()
    for name in ("old.json", "new.json"):
        write(tmp_path / name, [record("a.jpg", TWO)])
    assert (tmp_path / "old.json").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "new.json").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_pipe_can_be_written_and_one_nobody_reads_any_more_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open_records(path, labels=LABELS) as writer:
        writer.write(record("a.jpg", TWO))
        assert os.read(reader, 10_000).endswith(b"]}]}\n")
        os.close(reader)
        with pytest.raises(RecordError, match="cannot be written: Broken pipe"):
            writer.write(record("b.jpg", TWO))


def test_a_pipe_that_nobody_reads_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    os.mkfifo(path)
    with pytest.raises(RecordError, match=r"r\.jsonl: cannot be written: is a pipe that nobody reads"):
        open_records(path, labels=LABELS)


OLD = {"jsonl": "r.jsonl", "csv": "r.csv", "json": "r.json", "yolo": "yolo/index.jsonl"}


@pytest.mark.parametrize("name", OLD)
def test_what_is_there_stays_until_there_is_something_instead(name: str, tmp_path: Path) -> None:
    path = tmp_path / OLD[name]
    path.parent.mkdir(exist_ok=True)
    path.write_text("old")
    with suppress(KeyboardInterrupt), open_records(targets(tmp_path)[name], labels=LABELS):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with suppress(KeyboardInterrupt), open_records(targets(tmp_path)[name], labels=LABELS) as writer:
        writer.write(record("a.jpg", TWO))
        raise KeyboardInterrupt
    assert [one.source for one in read_records(targets(tmp_path)[name])] == ["a.jpg"]


@pytest.mark.parametrize("name", OLD)
def test_no_record_at_all_makes_an_empty_file(name: str, tmp_path: Path) -> None:
    for _ in range(2):  # where there is nothing, and over an older one
        with open_records(targets(tmp_path)[name], labels=LABELS):
            assert name == "yolo" or not list(tmp_path.glob("r.*")) or list(read_records(targets(tmp_path)[name]))
        assert list(read_records(targets(tmp_path)[name])) == []
        write(targets(tmp_path)[name], [record("a.jpg", TWO)])


def test_a_long_coco_file_is_not_held_in_memory(tmp_path: Path) -> None:
    frame = record("v.mp4", TWO * 20, frame=1)
    tracemalloc.start()
    try:
        write(tmp_path / "r.json", (frame for _ in range(200)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "r.json").stat().st_size > 1_000_000
    assert peak < 250_000


def open_files() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that the listing itself used
            found.add(str(link.readlink()))
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not say which files are open")
@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_leaving_a_generator_of_records_half_way_closes_its_file(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    write(target, [record(f"{i}.jpg", TWO) for i in range(3)])
    with closing(read_records(target)) as records:  # type: ignore[type-var]
        next(records)
        assert target in open_files()
    assert target not in open_files()
