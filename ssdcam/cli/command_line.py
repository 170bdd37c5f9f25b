"""``ssdcam`` itself: its commands, and what becomes of their errors."""

from __future__ import annotations

import errno
import os
import re
import sys
from importlib import import_module
from traceback import walk_tb

import click

from ssdcam import __version__, memory
from ssdcam.cli import console, stopping
from ssdcam.errors import SsdcamError, WrongUsageError, first_line

# Each command's one-line help stands here, so that `ssdcam --help` imports no command, nor torch, nor cv2.
_COMMANDS = {
    "image": "Find objects in pictures.",
    "video": "Find objects in videos.",
    "webcam": "Find objects in what a camera or stream shows, live.",
    "train": "Train an SSD on your own classes.",
    "eval": "Score a detector, or records made elsewhere.",
    "bench": "Measure what this machine does with each engine.",
    "boxes": "Find default boxes that suit a data set.",
    "export": "Write a detector as ONNX, OpenVINO or TorchScript.",
    "weights": "List, download, look at and convert checkpoints.",
    "doctor": "Say what works here, what does not, and what to do.",
    "completion": "Print what lets a shell complete commands and options.",
}

# What a full or broken file says that stdout leads to. Errors of other files name them or are known where they arise.
_OF_STDOUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class _LazyGroup(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"ssdcam.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            if close := get_close_matches(args[0], _COMMANDS, n=1):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
            if command := _what_takes(args[0]):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {f'{command} {args[0]}'!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _what_takes(name: str) -> str | None:
    """The command for a file of that name, if it is a picture's or a video's."""
    if "." not in name:  # nothing has to be imported to tell
        return None
    from pathlib import Path

    from ssdcam.media.containers import INPUT_SUFFIXES
    from ssdcam.media.images import SUFFIXES

    suffix = Path(name).suffix.lower()
    return "image" if suffix in SUFFIXES else "video" if suffix in INPUT_SUFFIXES else None


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def ssdcam(ctx: click.Context) -> None:
    """Object detection in pictures, videos and webcams with SSD, offline."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


# What takes less memory when it is smaller.
_THRIFTY = ("--batch", "--input-size", "--workers", "--memory")


def run(arguments: list[str]) -> int:
    """Run a command line and turn however it ends into an exit code and at most one line for the user."""
    console.hide_passwords(arguments)
    context: click.Context | None = None
    try:
        # click.Group.main would do the same, but end a closed stdout with exit code 1.
        with ssdcam.make_context("ssdcam", arguments) as context:
            ssdcam.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "ssdcam"
        # Choices stand on lines of their own there.
        message = re.sub(r"\s*\n\s*", " ", error.format_message())
        if message == "Missing command." and error.ctx and isinstance(error.ctx.command, click.Group):
            message = f"Missing command: one of {', '.join(error.ctx.command.list_commands(error.ctx))}."
        console.log.error("%s (see %s --help)", message, path)
        return 2
    except SsdcamError as error:
        return _stopped(error) or _failed(error, 2 if isinstance(error, WrongUsageError) else 1)
    except BrokenPipeError:  # whoever read stdout has enough
        console.abandon_stdout()
        return 0
    except KeyboardInterrupt:
        return stopping.code() or 130
    except click.Abort:  # a question was answered with Ctrl-C, or with the end of the input
        return stopping.code() or 2
    except ImportError as error:  # of what cannot be done without; what can be says so itself
        return _stopped(error) or _failed(error, 1, _does_not_load(error))
    except Exception as error:
        if memory.ran_out(error):
            return _failed(error, 1, f"too little memory: {_thrift(context, arguments)}")
        if isinstance(error, OSError) and error.filename is None and error.errno in _OF_STDOUT:
            console.abandon_stdout()
            if error.errno == errno.EIO and (code := stopping.code()):  # the terminal is gone, which is what stopped it
                return code
            return _failed(error, 1, f"standard output: cannot be written: {error.strerror}")
        if isinstance(error, OSError) and error.errno is None and _while_importing(error):  # a library of torch's, say
            return _failed(error, 1, _does_not_load(error))
        if isinstance(error, OSError) and error.strerror:  # what was not foreseen where the file is used
            where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            return _failed(error, 1, f"{where}{error.strerror}")
        if code := stopping.code():  # a library made an error of the stop, as torch's exporter does, and C
            console.log.debug("stopped", exc_info=error)
            return code
        return _failed(error, 1, _unforeseen(error))
    return 0


def _stopped(error: BaseException | None) -> int | None:
    """The exit code of a stop that an error comes from: C makes a SystemError of it, C++ an ImportError."""
    while error is not None and not isinstance(error, ImportError | SystemError):
        error = error.__cause__
    return None if error is None else stopping.code()


def _while_importing(error: Exception) -> bool:
    return any(frame.f_code.co_filename.startswith("<frozen importlib") for frame, _ in walk_tb(error.__traceback__))


def _does_not_load(error: Exception) -> str:
    return f"{first_line(error)}: ssdcam doctor says what to do about it"


def _unforeseen(error: Exception) -> str:
    return f"{type(error).__name__}: {error} (a bug in ssdcam: -vv shows where)"


def _thrift(context: click.Context | None, arguments: list[str]) -> str:
    """What to do where a command ran out of memory."""
    command = ssdcam.get_command(context, context.invoked_subcommand or "") if context else None
    there = {name for parameter in (command.params if command else []) for name in parameter.opts}
    options = [name for name in _THRIFTY if name in there]
    # By themselves there are only as many as cores.
    if any(argument.partition("=")[0] == "--threads" for argument in arguments):
        options.append("--threads")
    if not options:
        return "smaller pictures or a smaller network take less"
    return f"a smaller {' or '.join(filter(None, (', '.join(options[:-1]), options[-1])))} takes less"


def _failed(error: Exception, code: int, line: str | None = None) -> int:
    console.log.error("%s", line or error, exc_info=error if console.show_tracebacks() else None)
    return code
