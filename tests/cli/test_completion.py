"""Completion as shells show it: real ones, at a terminal, with the tab key pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ssdcam.checkpoints.resolve import EMBEDDED
from ssdcam.cli import completing
from ssdcam.cli.command_line import ssdcam as group
from ssdcam.ssd.architectures import ARCHITECTURES

from .commands import SCRIPT, TIMEOUT, ssdcam

# How each is started without anybody's settings, and made to read our script.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'PS1="ready> "; eval "$(ssdcam completion bash)"; echo lo""aded'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'PS1="ready> "; autoload -Uz compinit; compinit -u -D; eval "$(ssdcam completion zsh)"; echo lo""aded',
    ),
}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r|\x07|\x08")


class Shell:
    """An interactive shell at a terminal of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        command, prepare = SHELLS[name]
        self.master, slave = pty.openpty()
        env = {
            **os.environ,
            "PATH": f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm",
            "HOME": str(folder),
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=env, start_new_session=True
        )
        os.close(slave)
        self.seen = ""
        self.type(prepare + "\n")
        self.wait_for("loaded")

    def type(self, keys: str) -> None:
        self.seen = ""
        os.write(self.master, keys.encode())

    def wait_for(self, text: str) -> str:
        while text not in _ESCAPES.sub("", self.seen):
            assert select.select([self.master], [], [], TIMEOUT)[0], f"nothing more came after {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.seen

    def complete(self, line: str, until: str) -> None:
        """Type a beginning, press tab, wait for what only one completion gives, and take the line away again."""
        self.type(line + "\t")
        self.wait_for(until)
        self.type("\x15echo ta''ken\n")
        self.wait_for("taken")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "holiday.mp4").touch()
    shell = Shell(request.param, tmp_path)
    yield shell
    shell.close()


def test_at_a_terminal(shell: Shell) -> None:
    shell.complete("ssdcam doct", "ssdcam doctor ")
    shell.complete("ssdcam video holi", "holiday.mp4")
    shell.complete("ssdcam image --engine openv", "openvino ")
    shell.complete(f"ssdcam image -m {EMBEDDED[0][:2]}", EMBEDDED[0])
    shell.complete("ssdcam weights con", "ssdcam weights convert ")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssdcam doc", "doctor"),
        ("ssdcam image --engine op", "openvino"),
        (f"ssdcam image -m {EMBEDDED[0][:2]}", EMBEDDED[0]),
        ("ssdcam video holi", "holiday.mp4"),
    ],
)
def test_in_fish(line: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    script = f"ssdcam completion fish | source; complete -C '{line}'"
    env = {**os.environ, "PATH": f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert expected in {offered.partition("\t")[0] for offered in done.stdout.splitlines()}, done.stdout + done.stderr


def offered(*words: str, cwd: Path | None = None) -> list[str]:
    """What is offered for the last word, as bash is told it."""
    env = {
        "COMP_WORDS": "\n".join(("ssdcam", *words)),
        "COMP_CWORD": str(len(words)),
        completing.VARIABLE: "bash_complete",
    }
    run = ssdcam(env=env, cwd=cwd)
    assert (run.code, run.err) == (0, "")
    return run.out.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["w"], ["plain,webcam", "plain,weights"]),
        (["image", "--no-l"], ["plain,--no-labels"]),
        (["image", ""], ["file,"]),
        (["video", "a.mp4", "-o", "ou"], ["file,ou"]),
        (["video", "a.mp4", "--preset", "med"], ["plain,medium"]),
        (["video", "a.mp4", "--codec", "vp"], ["plain,vp9"]),
        (["webcam", "--records", "x"], ["file,x"]),
        (["weights", "info", "nosuch"], ["file,nosuch"]),
        (["weights", "download", "faces-s"], ["plain,faces-slim"]),
        (["train", "--arch", "ultra"], ["plain,ultralight-faces"]),
        (["image", "--family", "caf"], ["plain,caffe"]),
        (["image", "--crops", "d"], ["dir,d"]),
        (["completion", ""], ["plain,bash", "plain,zsh", "plain,fish"]),
    ],
)
def test_what_is_offered(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_models_are_names_and_checkpoints(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.tflite", "c.jpg", "my model.pth"):
        (tmp_path / name).touch()
    there = offered("image", "-m", "", cwd=tmp_path)
    assert {*(f"plain,{name}" for name in EMBEDDED), "plain,a.safetensors", "plain,b.tflite"} <= set(there)
    assert not {"plain,c.jpg", "plain,my model.pth"} & set(there)


def test_every_architecture_is_offered() -> None:
    assert set(completing.ARCHITECTURES) == set(ARCHITECTURES)


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from parameters(found)
    yield from command.params


def test_whatever_names_a_file_or_a_model_completes() -> None:
    names = {"FILE", "DIR", "OUT", "PATH...", "INPUT...", "NAME|PATH", "DATA", "DATA...", "[DATA]"}
    names |= {"IN", "NAME", "NAME...", "[VIDEO]", "auto|cpu|cuda|cuda:N|mps"}
    named = [parameter for parameter in parameters(group) if parameter.metavar in names]
    assert len(named) > 20
    for parameter in named:
        assert parameter.shell_complete(click.Context(group), ""), parameter.opts


def test_a_press_of_the_tab_key_loads_little() -> None:
    script = """
import atexit, os, sys
atexit.register(lambda: os.write(1, repr(sorted(m for m in sys.modules if "." not in m)).encode()))
from ssdcam.cli import main
main()
"""
    for words in (["i"], ["image", "--"], ["image", "-m", ""], ["train", "--arch", ""]):
        env = {
            **os.environ,
            "COMP_WORDS": "\n".join(("ssdcam", *words)),
            "COMP_CWORD": str(len(words)),
            completing.VARIABLE: "bash_complete",
        }
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
        assert "plain," in done.stdout
        modules = done.stdout[done.stdout.rindex("[") :]
        assert "'click'" in modules
        assert not {name for name in ("torch", "cv2", "av", "rich") if f"'{name}'" in modules}


@pytest.mark.parametrize("instruction", ["nosuch_complete", "bash_nosuch", "bash_complete", ""])
def test_a_wrong_question_is_answered_with_nothing(instruction: str) -> None:
    """No traceback lands in the middle of somebody's command line."""
    run = ssdcam(env={completing.VARIABLE: instruction})
    assert (run.code, run.out, run.err) == (1, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(shell: str) -> None:
    run = ssdcam("completion", shell)
    assert (run.code, run.err) == (0, "")
    assert f"{completing.VARIABLE}={shell}_complete" in run.out


def test_another_shell() -> None:
    run = ssdcam("completion", "tcsh")
    assert (run.code, run.out) == (2, "")
    assert "'tcsh' is not one of" in run.err
