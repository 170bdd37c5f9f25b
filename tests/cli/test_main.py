"""How ``ssdcam`` starts, how it is used wrongly, and what it says then."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssdcam as package
from ssdcam.cli import command_line, console

from .. import pictures
from .commands import SCRIPT, Argument, Terminal, ssdcam


@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "ssdcam"]], ids=["script", "module"])
def test_version(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"ssdcam {package.__version__}\n", "")


def test_version_is_one_of_pep_440() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", package.__version__)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option: str) -> None:
    run = ssdcam(option)
    assert (run.code, run.complaints) == (0, [])
    assert run.out.startswith("Usage: ssdcam ")
    for command in ("image", "weights"):
        assert re.search(rf"^  {command} +\w", run.out, re.MULTILINE)


@pytest.mark.parametrize("command", [["image"], ["weights"], ["weights", "info"], ["weights", "convert"]])
def test_help_of_a_command(command: list[str]) -> None:
    run = ssdcam(*command, "--help")
    assert (run.code, run.complaints) == (0, [])
    assert run.out.startswith(f"Usage: ssdcam {' '.join(command)} ")


# What takes long to import, or is not needed to be told how to use a command.
HEAVY = {"torch", "cv2", "av", "numpy", "rich", "safetensors", "tflite"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["image", "--help"], ["boxes", "--help"], ["nosuch"], ["image"]]
)
def test_imports_nothing_to_tell_how_it_is_used(arguments: list[str]) -> None:
    script = """
import atexit, os, sys
atexit.register(lambda: os.write(1, repr(sorted(m for m in sys.modules if "." not in m)).encode()))
from ssdcam.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    modules = done.stdout[done.stdout.rindex("[") :]
    assert "'click'" in modules
    assert not {name for name in HEAVY if f"'{name}'" in modules}


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a picture and a detector."""
    monkeypatch.chdir(tmp_path)
    pictures.photo(tmp_path / "a.jpg")
    (tmp_path / "tiny.safetensors").write_bytes(tiny_model.read_bytes())
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9\n" * 3)
    return tmp_path


TINY = ["-m", "tiny.safetensors"]

WRONG_USAGE: list[tuple[list[Argument], str]] = [
    (["nosuch"], "No such command 'nosuch'"),
    (["imgae"], r"No such command 'imgae'\. Did you mean 'image'\?"),
    (["--nosuch"], "No such option:? '?--nosuch"),
    (["a.JPG"], r"No such command 'a\.JPG'\. Did you mean 'image a\.JPG'\?"),
    (["in.mp4"], r"No such command 'in\.mp4'\. Did you mean 'video in\.mp4'\?"),
    (["weights"], r"Missing command: one of convert, download, info, list\."),
    (["weights", "nosuch"], "No such command 'nosuch'"),
    (["image"], "Missing argument 'PATH...'"),
    (["completion"], "Choose from: bash, zsh, fish \\(see"),
    (["image", "a.jpg", "--nosuch"], "No such option:? '?--nosuch"),
    (["image", "a.jpg", "-m"], "'-m' requires an argument"),
    # No model is called that.
    (["image", "a.jpg", "-m", "nosuch"], "nosuch: no such checkpoint file"),
    (["image", "a.jpg", "-m", "x" * 300], "xxx: no such checkpoint file"),
    (["image", "a.jpg", "-m", "two.txt/x"], "no such checkpoint file"),
    # Figures out of range.
    *((["image", "a.jpg", *TINY, "--score", value], "score") for value in ("1.01", "-0.1", "nan", "half", "")),
    *((["image", "a.jpg", *TINY, "--iou", value], "[iI]o[uU]") for value in ("1.01", "-0.1", "nan")),
    *((["image", "a.jpg", *TINY, "--max-det", value], "--max-det") for value in ("0", "-1", "9" * 30, "1.5")),
    *((["image", "a.jpg", *TINY, "--threads", value], "--threads") for value in ("0", "100000")),
    *((["image", "a.jpg", *TINY, "--line-width", value], "--line-width") for value in ("0", "40000")),
    # Names.
    (["image", "a.jpg", *TINY, "--classes", "aunt"], "no class 'aunt'; did you mean ant"),
    (["image", "a.jpg", *TINY, "--classes", "bee, Katze"], "no class 'Katze'; .*cat"),
    (["image", "a.jpg", *TINY, "--classes", "zzz"], "no class 'zzz'; it knows ant, bee, cat"),
    (["image", "a.jpg", *TINY, "--classes", " , "], "--classes names no class"),
    (["image", "a.jpg", *TINY, "--labels", "nosuch.txt"], "nosuch.txt"),
    (["image", "a.jpg", *TINY, "--labels", "two.txt"], "two.txt names 2 classes, but tiny.safetensors has 3"),
    (["image", "a.jpg", "--labels", "two.txt"], "two.txt names 2 classes, but voc has 20"),
    (["image", "a.jpg", *TINY, "--engine", "caffe"], "'caffe' is not one of"),
    (["image", "a.jpg", *TINY, "--precision", "fp8"], "'fp8' is not one of"),
    (["image", "a.jpg", *TINY, "-o", "a.jpg"], "a.jpg"),
]


@pytest.mark.parametrize(("arguments", "complaint"), WRONG_USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], complaint: str, folder: Path) -> None:
    run = ssdcam(*arguments)
    assert (run.code, run.out) == (2, "")
    assert len(run.complaints) == 1
    assert re.match(f"error: .*{complaint}", run.err)


def test_no_command_shows_the_help_and_exit_code_2() -> None:
    run = ssdcam()
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("Usage: ssdcam ")


def test_no_model_is_the_embedded_one(folder: Path) -> None:
    run = ssdcam("image", "a.jpg", "--json")
    assert (run.code, run.complaints) == (0, [])
    assert len(run.records) == 1


@pytest.mark.parametrize("device", ["gpu", "\x1b[31m"])
def test_no_such_device(device: str, folder: Path) -> None:
    run = ssdcam("image", "a.jpg", *TINY, "--device", device)
    assert (run.code, run.out) == (2, "")
    assert len(run.complaints) == 1
    assert "is none of auto, cpu, cuda, cuda:N, mps" in run.err
    assert "\x1b" not in run.err


@pytest.mark.parametrize(
    ("device", "there"),
    [("cuda", torch.cuda.is_available()), ("cuda:63", False), ("mps", torch.backends.mps.is_available())],
)
def test_a_device_that_is_not_there(device: str, there: bool, folder: Path) -> None:
    run = ssdcam("image", "a.jpg", *TINY, "--device", device, "--json")
    if there:
        assert (run.code, run.complaints) == (0, [])
    else:
        assert (run.code, run.out) == (1, "")
        assert len(run.complaints) == 1
        assert run.err.startswith(f"error: device {device}: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["image", "a.jpg", "-m", "a.jpg"], "a.jpg: is no checkpoint that ssdcam reads"),
        (["image", "a.jpg", "-m", "."], ".: is a folder: name a checkpoint file in it"),
        (["image", "a.jpg", *TINY, "--labels", "latin1.txt"], "latin1.txt: is no UTF-8 text"),
        (["weights", "info", "a.jpg"], "a.jpg: is no checkpoint that ssdcam reads"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_exit_code_1(arguments: list[str], complaint: str, folder: Path) -> None:
    run = ssdcam(*arguments)
    assert (run.code, run.out) == (1, "")
    assert len(run.complaints) == 1
    assert run.err.startswith(f"error: {complaint}")


@pytest.mark.parametrize("verbosity", ["-v", "-vv"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["image", "{}"],
        ["image", "a.jpg", "-m", "{}"],
        ["image", "a.jpg", "--records={}"],
        ["video", "{}", "-o", "x.mp4"],
        ["eval", "{}"],
        ["boxes", "{}"],
        ["bench", "{}", "--no-pipeline"],
        ["weights", "info", "{}"],
        ["weights", "list", "{}"],
    ],
)
def test_no_complaint_holds_a_password(arguments: list[str], verbosity: str, folder: Path) -> None:
    run = ssdcam(*(argument.format("rtsp://me:s3cret@10.0.0.7/live") for argument in arguments), verbosity)
    assert run.code in (1, 2)
    assert "s3cret" not in run.out + run.err
    assert "rtsp://me:***@10.0.0.7/live" in run.complaints[0]


def test_an_address_is_no_picture(folder: Path) -> None:
    run = ssdcam("image", "https://example.org/a.jpg", "a.jpg")
    assert (run.code, run.out) == (2, "")
    assert run.complaints == ["error: https://example.org/a.jpg: is an address, not a file: save the picture first"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("video v.mp4 --stride 1e99", "'--stride': '1e99' is no whole number from 1 to 1,000,000,000"),
        ("video v.mp4 --max-frames 9999999999", "'9999999999' is no whole number from 1 to 1,000,000,000"),
        ("video v.mp4 --batch 0", "'0' is no whole number from 1 to 256"),
        ("image a.jpg --max-det x", "'x' is no whole number from 1 to 100,000"),
        ("image a.jpg --score x", "'--score': 'x' is no number from 0 to 1"),
        ("export --format onnx -o x.onnx --score nan", "'--score': 'nan' is no number from 0 to 1"),
        ("webcam --size 99999999x1", "'99999999x1' is no size such as 1280x720, of 99999 a side at most"),
    ],
)
def test_what_is_no_number_is_told_what_would_be_one(
    line: str, complaint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console.log, "propagate", True)
    assert command_line.run(line.split()) == 2
    (said,) = caplog.messages
    assert complaint in said


class TestVerbosity:
    """-q leaves errors, -qq nothing; -vv shows where an error comes from."""

    @pytest.mark.parametrize(("option", "lines"), [("-v", 1), ("-q", 1), ("-qq", 0), ("--quiet", 1)])
    def test_an_error(self, option: str, lines: int, folder: Path) -> None:
        run = ssdcam("image", option, "-m", "nosuch", "a.jpg")
        assert run.code == 2
        assert len(run.complaints) == lines

    def test_traceback(self, folder: Path) -> None:
        run = ssdcam("image", "-vv", "-m", "nosuch", "a.jpg")
        assert run.code == 2
        assert run.complaints[0].startswith("error: nosuch: no such checkpoint file")
        assert "Traceback (most recent call last):" in run.complaints


class TestClosedStreams:
    """What starts a program may leave it without stdin, stdout or stderr."""

    @pytest.mark.parametrize(
        ("closed", "shown"), [("<&-", True), (">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False)]
    )
    def test_version(self, closed: str, shown: bool) -> None:
        done = subprocess.run(
            ["bash", "-c", f'"$0" --version {closed}', SCRIPT], capture_output=True, text=True, check=True
        )
        assert done.stdout == (f"ssdcam {package.__version__}\n" if shown else "")
        assert done.stderr == ""

    def test_paths_from_nowhere(self, folder: Path) -> None:
        done = subprocess.run(
            ["bash", "-c", '"$0" image - -m tiny.safetensors <&-', SCRIPT], capture_output=True, text=True, check=True
        )
        assert done.stdout == ""
        assert done.stderr == "warning: standard input named no picture\n"

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    @pytest.mark.parametrize("arguments", ["--version", "--help", "weights info tiny.safetensors"])
    def test_a_full_disk_behind_stdout(self, arguments: str, folder: Path) -> None:
        done = subprocess.run(
            ["bash", "-c", f'"$0" {arguments} >/dev/full', SCRIPT], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == "error: standard output: cannot be written: No space left on device\n"

    def test_stderr_that_nobody_reads(self, folder: Path) -> None:
        done = subprocess.run(
            ["bash", "-c", '"$0" image -m nosuch a.jpg 2>&1 >&- | true; exit ${PIPESTATUS[0]}', SCRIPT], check=False
        )
        assert done.returncode == 2


def test_what_the_system_refuses_is_not_laid_at_the_door_of_stdout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(context: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(command_line.ssdcam, "invoke", refused)
    monkeypatch.setattr(console.log, "propagate", True)
    assert command_line.run(["doctor"]) == 1
    assert caplog.messages == ["Too many open files"]


def test_a_question_is_asked_on_stderr(folder: Path) -> None:
    (folder / "copy.safetensors").write_bytes(b"precious")
    out = folder / "out.txt"
    terminal = Terminal("weights", "convert", "tiny.safetensors", "-o", "copy.safetensors", stdout=out)
    terminal.read_until(b"copy.safetensors exists. Overwrite? [y/N]:")
    terminal.type(b"y\n")
    assert terminal.end() == 0
    assert (folder / "copy.safetensors").read_bytes() == (folder / "tiny.safetensors").read_bytes()
    assert out.read_text().strip() == "copy.safetensors: ssd300-mobilenet-v1, 3 labels"


FAILS_BESIDE = """
import sys, threading
from ssdcam.cli import console

class Untidy:
    def __del__(self):
        raise RuntimeError("left behind")

def fail():
    raise ValueError("on the side")

console.start()
console.set_verbosity(int(sys.argv[1]))
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Untidy()
console.stop()
"""


@pytest.mark.parametrize(
    ("verbosity", "said"),
    [
        ("0", []),
        (
            "1",
            [
                "info: a thread failed: ValueError: on the side",
                "info: something was not tidied up: RuntimeError: left behind",
            ],
        ),
    ],
)
def test_what_fails_beside_the_work_is_for_those_who_ask(verbosity: str, said: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", FAILS_BESIDE, verbosity], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == said
