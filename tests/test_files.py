from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssdcam.cache import cache_folder
from ssdcam.files import exists, is_file, is_folder, lock, not_a_folder, release, same_file, take, write_whole

from .waiting import wait_until

needs_descriptors = pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this system has no /dev/fd")

OLD, NEW = b"old" * 100, b"new" * 1000


def only(folder: Path, name: str) -> Path:
    """The one file that a folder holds."""
    assert [path.name for path in folder.iterdir()] == [name]
    return folder / name


class TestWriteWhole:
    def test_makes_a_file(self, tmp_path: Path) -> None:
        write_whole(tmp_path / "a", NEW)
        assert only(tmp_path, "a").read_bytes() == NEW

    def test_replaces_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(OLD)
        write_whole(tmp_path / "a", NEW)
        assert only(tmp_path, "a").read_bytes() == NEW

    def test_in_pieces(self, tmp_path: Path) -> None:
        write_whole(tmp_path / "a", (NEW[i : i + 100] for i in range(0, len(NEW), 100)))
        assert only(tmp_path, "a").read_bytes() == NEW

    def test_a_piece_that_cannot_be_had_leaves_the_old(self, tmp_path: Path) -> None:
        def pieces() -> Iterator[bytes]:
            yield NEW
            raise KeyboardInterrupt

        (tmp_path / "a").write_bytes(OLD)
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "a", pieces())
        assert only(tmp_path, "a").read_bytes() == OLD

    def test_in_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_whole(Path("a"), NEW)
        assert only(tmp_path, "a").read_bytes() == NEW

    @pytest.mark.parametrize("name", ["x" * 255, "new\nline", "\udcff\udcfe", "猫", "-rf"])
    def test_any_name(self, name: str, tmp_path: Path) -> None:
        write_whole(tmp_path / name, NEW)
        assert only(tmp_path, name).read_bytes() == NEW

    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_a_new_file_has_the_usual_mode(self, umask: int, tmp_path: Path) -> None:
        before = os.umask(umask)
        try:
            write_whole(tmp_path / "a", NEW)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
    def test_a_replaced_file_keeps_its_mode(self, mode: int, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(OLD)
        (tmp_path / "a").chmod(mode)
        write_whole(tmp_path / "a", NEW)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode

    def test_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_bytes(OLD)
        (tmp_path / "link").symlink_to("target")
        write_whole(tmp_path / "link", NEW)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == NEW

    def test_a_link_to_nothing_makes_what_it_names(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("target")
        write_whole(tmp_path / "link", NEW)
        assert (tmp_path / "target").read_bytes() == NEW

    def test_a_link_in_a_circle_gives_way(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("a")
        write_whole(tmp_path / "a", NEW)
        assert only(tmp_path, "a").read_bytes() == NEW

    def test_another_name_of_the_file_keeps_the_old(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(OLD)
        (tmp_path / "b").hardlink_to(tmp_path / "a")
        write_whole(tmp_path / "a", NEW)
        assert (tmp_path / "b").read_bytes() == OLD

    def test_a_device_stays_a_device(self) -> None:
        write_whole(Path("/dev/null"), NEW)
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    @needs_descriptors
    def test_a_pipe_without_a_name_of_its_own(self) -> None:
        reading, writing = os.pipe()
        try:
            write_whole(Path(f"/dev/fd/{writing}"), NEW)  # what bash makes of >(jq .)
            assert os.read(reading, 2 * len(NEW)) == NEW
        finally:
            os.close(reading)
            os.close(writing)

    @needs_descriptors
    def test_a_pipe_that_nobody_reads_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="is a pipe that nobody reads"):
            write_whole(tmp_path / "pipe", NEW)

    @needs_descriptors
    @pytest.mark.parametrize("name", ["stdout", "stderr"])
    def test_where_a_stream_goes_to_a_file_it_keeps_what_it_holds(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(OLD)
        script = (
            "import pathlib, sys, ssdcam.files\n"
            f"print('before', file=sys.{name})\n"
            f"ssdcam.files.write_whole(pathlib.Path('/dev/{name}'), b'whole\\n')\n"
            f"print('after', file=sys.{name})\n"
        )
        with (tmp_path / "a").open("ab") as file:
            env = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is printed waits to be written
            subprocess.run([sys.executable, "-c", script], check=True, env=env, **{name: file})
        assert only(tmp_path, "a").read_bytes() == OLD + b"before\nwhole\nafter\n"

    @pytest.mark.parametrize(
        ("name", "error"),
        [("gone/a", FileNotFoundError), ("file/a", NotADirectoryError), ("folder", OSError), ("x" * 256, OSError)],
    )
    def test_an_error_leaves_no_trace(self, name: str, error: type[OSError], tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_bytes(OLD)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error):
            write_whole(tmp_path / name, NEW)
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "file").read_bytes() == OLD

    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path) -> None:
        pytest.importorskip("resource")
        (tmp_path / "a").write_bytes(OLD)
        script = (
            "import resource, sys, pathlib, ssdcam.files\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: ssdcam.files.write_whole(pathlib.Path(sys.argv[1]), bytes(2000))\n"
            "except OSError as error: print(error.strerror)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], capture_output=True, check=True)
        assert done.stdout == b"File too large\n"
        assert only(tmp_path, "a").read_bytes() == OLD

    def test_threads_do_not_mix(self, tmp_path: Path) -> None:
        contents = [bytes([i]) * 100_000 for i in range(8)]
        threads = [threading.Thread(target=write_whole, args=(tmp_path / "a", content)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert only(tmp_path, "a").read_bytes() in contents


WRITE_FOR_EVER = """
import itertools, pathlib, signal, sys
from ssdcam.files import write_whole

def stop(*_):
    raise SystemExit(3)

signal.signal(signal.SIGTERM, stop)
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
for i in itertools.count():
    write_whole(path, b"%d\\n" % (i % 10) * 300_000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_file_is_whole_whatever_ends_the_process(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "a"
    for i in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            wait_until(path.exists, process)
            time.sleep(0.05 + 0.007 * i)
            process.send_signal(number)
        content = path.read_bytes()
        assert content == content[:2] * 300_000
        # A process that can tidy up does.
        if number == signal.SIGTERM:
            only(tmp_path, "a")


class TestLookingAtFiles:
    def test_exists(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        (tmp_path / "link").symlink_to("nowhere")
        (tmp_path / "circle").symlink_to("circle")
        assert exists(tmp_path / "a")
        assert exists(tmp_path)
        for name in ("b", "link", "circle", "a/b", "x" * 300):
            assert not exists(tmp_path / name)
            assert not is_file(tmp_path / name)
            assert not is_folder(tmp_path / name)
        assert (is_file(tmp_path / "a"), is_folder(tmp_path / "a")) == (True, False)
        assert (is_file(tmp_path), is_folder(tmp_path)) == (False, True)

    def test_same_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        (tmp_path / "b").touch()
        (tmp_path / "soft").symlink_to("a")
        (tmp_path / "hard").hardlink_to(tmp_path / "a")
        for name in ("a", "soft", "hard", "../" + tmp_path.name + "/a"):
            assert same_file(tmp_path / "a", tmp_path / name)
        for name in ("b", "gone", "x" * 300):
            assert not same_file(tmp_path / "a", tmp_path / name)
            assert not same_file(tmp_path / name, tmp_path / "a")


def test_what_is_in_the_way_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("folder", "folder/a/b", "a/b", "link/a", ".", "../x", "x" * 300):
        assert not_a_folder(Path(name)) is None, name
    for name, above in (("file", "file"), ("file/a/b", "file"), ("nowhere/a", "nowhere"), (f"{tmp_path}/file/a", None)):
        assert not_a_folder(Path(name)) == (Path(above) if above else tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks on Windows")
class TestLock:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with (tmp_path / "a").open("w") as one, (tmp_path / "a").open() as other, (tmp_path / "a").open() as third:
            assert lock(one.fileno())
            assert not lock(other.fileno())
            assert not lock(other.fileno(), shared=True)
            one.close()
            assert lock(other.fileno(), shared=True)
            assert lock(third.fileno(), shared=True)

    def test_where_the_file_system_knows_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", flock)
        with (tmp_path / "a").open("w") as one:
            assert lock(one.fileno())


class TestMarks:
    @pytest.mark.parametrize("system", ["win32", "linux"])
    def test_a_mark_goes_on_every_system(self, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Windows removes no file that is open; elsewhere another run could take one that is about to go."""
        done: list[str] = []
        unlink, close = Path.unlink, os.close
        descriptor = take(tmp_path / "mark")
        monkeypatch.setattr("ssdcam.files.sys", SimpleNamespace(platform=system))
        monkeypatch.setattr(Path, "unlink", lambda path: done.append("removed") or unlink(path))
        monkeypatch.setattr("os.close", lambda number: done.append("closed") or close(number))
        release(tmp_path / "mark", descriptor)
        monkeypatch.undo()
        assert done == (["closed", "removed"] if system == "win32" else ["removed", "closed"])
        assert list(tmp_path.iterdir()) == []

    def test_what_cannot_be_removed_is_let_go_of(self, tmp_path: Path) -> None:
        descriptor = take(tmp_path / "mark")
        (tmp_path / "mark").unlink()
        release(tmp_path / "mark", descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    def test_it_may_stay(self, tmp_path: Path) -> None:
        release(tmp_path / "mark", take(tmp_path / "mark"), remove=False)
        release(only(tmp_path, "mark"), take(tmp_path / "mark"))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("SSDCAM_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "ssdcam"
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "xdg/ssdcam"


@pytest.mark.skipif(sys.platform == "win32", reason="every user has a home there")
def test_a_number_that_no_user_has_has_a_cache_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("SSDCAM_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cache_folder().is_absolute()  # where nothing can be kept, but an engine starts
