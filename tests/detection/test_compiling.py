"""C of our own becomes a library once, whatever the compiler is, and whatever becomes of what is kept."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from ssdcam.detection import compiling
from ssdcam.detection.compiling import library
from ssdcam.errors import UnavailableError

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / compiling.FOLDER


def a_source(folder: Path, answer: str = "ANSWER") -> Path:
    path = folder / "question.c"
    path.write_text(f"int answer(void) {{ return {answer}; }}\n")
    return path


def a_compiler(folder: Path, script: str) -> Path:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_compiler
def test_it_is_compiled_once_for_a_source_and_options(tmp_path, home, monkeypatch):
    source = a_source(tmp_path)
    assert library(source, "-DANSWER=42").answer() == 42
    assert library(source, "-DANSWER=43").answer() == 43
    assert len(list(home.iterdir())) == 2
    monkeypatch.setenv("CC", "/nowhere/cc")  # from now on nobody asks for it
    assert library(source, "-DANSWER=42").answer() == 42
    with pytest.raises(UnavailableError, match=r"^/nowhere/cc: the C compiler does not start"):
        library(a_source(tmp_path, "44"))


@needs_compiler
def test_what_is_damaged_is_compiled_again(tmp_path, home):
    source = a_source(tmp_path, "42")
    library(source)
    (kept,) = home.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1000], whole[:5000] + b"?" + whole[5001:]):
        kept.unlink()  # in place it would change what is loaded
        kept.write_bytes(damaged)
        assert library(source).answer() == 42
        assert kept.read_bytes() == whole


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
@pytest.mark.parametrize(
    ("what", "mode", "owner", "run"),
    [
        ("file", 0o644, None, True),
        ("file", 0o664, None, False),
        ("file", 0o646, None, False),
        ("file", 0o644, 12345, False),
        ("folder", 0o775, None, False),
        ("folder", 0o1777, None, False),
        ("folder", 0o755, 12345, False),
    ],
)
def test_what_others_can_have_put_there_is_not_run(tmp_path, monkeypatch, what, mode, owner, run):
    """As in a cache that several users share."""
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "own"))
    library(a_source(tmp_path, "13"))
    (theirs,) = (tmp_path / "own" / compiling.FOLDER).iterdir()
    library(source := a_source(tmp_path, "42"))
    (ours,) = {*theirs.parent.iterdir()} - {theirs}
    folder = tmp_path / "shared" / compiling.FOLDER
    folder.mkdir(0o755, parents=True)
    kept = Path(shutil.copy(theirs, folder / ours.name))
    place = kept if what == "file" else folder
    place.chmod(mode)
    if owner is not None:
        if os.geteuid() != 0:
            pytest.skip("giving files away takes root")
        os.chown(place, owner, owner)
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "shared"))
    assert library(source).answer() == (13 if run else 42)
    assert kept.read_bytes() == (ours if what == "file" and not run else theirs).read_bytes()


@needs_compiler
def test_what_this_user_made_is_run_whoever_may_write_to_new_files(tmp_path, home, monkeypatch):
    source = a_source(tmp_path, "42")
    before = os.umask(0)
    try:
        library(source)
    finally:
        os.umask(before)
    monkeypatch.setenv("CC", "/nowhere/cc")
    assert library(source).answer() == 42


@needs_compiler
def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "file"))
    assert library(a_source(tmp_path, "42")).answer() == 42


@needs_compiler
def test_nothing_may_run_from_where_temporary_files_are(tmp_path, home, monkeypatch):
    load = ctypes.CDLL

    def refusing(path: str) -> ctypes.CDLL:
        if not path.startswith(str(home)):
            raise OSError("failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(compiling.ctypes, "CDLL", refusing)
    assert library(a_source(tmp_path, "42")).answer() == 42


def test_there_may_be_no_folder_for_temporary_files(tmp_path, home, monkeypatch):
    def none(**_: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(compiling, "TemporaryDirectory", none)
    with pytest.raises(UnavailableError, match=r"no place to work in \(No usable temporary directory found\)"):
        library(a_source(tmp_path))


@needs_compiler
def test_the_compiler_may_have_options(tmp_path, home, monkeypatch):
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    monkeypatch.setenv("CC", f"{compiler} -DANSWER=7")
    assert library(a_source(tmp_path)).answer() == 7
    monkeypatch.setenv("CC", f"{compiler} -DANSWER=8")  # what was made with others is not taken
    assert library(a_source(tmp_path)).answer() == 8
    monkeypatch.setenv("CC", "/nowhere/cc -DANSWER=8")
    assert library(a_source(tmp_path)).answer() == 8


def test_a_command_that_no_shell_would_understand_is_told(tmp_path, home, monkeypatch):
    monkeypatch.setenv("CC", "gcc -DNAME='a")
    with pytest.raises(UnavailableError, match=r"^\$CC: is no command \(No closing quotation\)$"):
        library(a_source(tmp_path))


def test_there_may_be_no_compiler(tmp_path, home, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"^there is no C compiler \(none of cc, gcc, clang, nor \$CC\)$"):
        library(a_source(tmp_path))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'unknown option -m' >&2; echo more >&2; exit 1", r"does not compile question\.c \(unknown option -m\)"),
        ("exit 3", r"does not compile question\.c \(exit code 3\)"),
        ('while [ "$1" != -o ]; do shift; done; echo text > "$2"', "what the C compiler made cannot be loaded"),
    ],
)
def test_the_compiler_may_fail(tmp_path, home, monkeypatch, script, said):
    monkeypatch.setenv("CC", str(a_compiler(tmp_path, script)))
    with pytest.raises(UnavailableError, match=said):
        library(a_source(tmp_path))
