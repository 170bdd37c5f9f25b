"""What a shell offers for values that are free text to click: names of models, files, and words that are usual."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, shell_complete

VARIABLE = "_SSDCAM_COMPLETE"
"""The environment variable by which a shell asks."""

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# As in ssdcam.ssd.architectures, which imports torch: too much for a key press.
ARCHITECTURES = (
    "ssd300-vgg16",
    "ssd512-vgg16",
    "ssd300-mobilenet-v1",
    "ssdlite320-mobilenet-v3-large",
    "ssd300-mobilenet-v1-relu",
    "ssdlite300-mobilenet-v2",
    "ssdlite300-squeezenet",
    "ssd300-resnet50",
    "ultralight-faces",
)

_CHECKPOINTS = frozenset(".safetensors .pth .pt .bin .npz .caffemodel .tflite".split())

# Nothing that a shell would take apart.
_PLAIN = re.compile(r"[\w./+-]+")


def answer(group: click.Group) -> int:
    """Tell a shell what could come next on the command line that it holds in the environment; the exit code."""
    try:
        return shell_complete(group, {}, "ssdcam", VARIABLE, os.environ[VARIABLE])
    except Exception:  # a traceback at a press of the tab key helps nobody
        return 1


def words(*choices: str) -> Completion:
    """Complete to one of some words."""
    return lambda ctx, parameter, incomplete: _matching(choices, incomplete)


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to a file or folder, as the shell does."""
    return [CompletionItem(incomplete, type="file")]


def models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to the name of a detector, or to a file.

    Shells show either words of ours or files of theirs: where a name fits, checkpoints that do are told with it.
    """
    from ssdcam.checkpoints.published import PUBLISHED
    from ssdcam.checkpoints.resolve import EMBEDDED

    names = _matching((*EMBEDDED, *PUBLISHED), incomplete)
    if not names:
        return files(ctx, parameter, incomplete)
    there = sorted(str(path) for path in Path().iterdir() if path.suffix in _CHECKPOINTS)
    return names + _matching((name for name in there if _PLAIN.fullmatch(name)), incomplete)


def published(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to the name of a detector that can be downloaded."""
    from ssdcam.checkpoints.published import PUBLISHED

    return _matching(PUBLISHED, incomplete)


def families(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to the name of a code base."""
    from ssdcam.checkpoints.families import FAMILIES

    return _matching(FAMILIES, incomplete)


def codecs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to the name of a codec."""
    from ssdcam.media.containers import CODECS

    return _matching(CODECS, incomplete)


def presets(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete to how quickly a video is encoded."""
    from ssdcam.media.containers import PRESETS

    return _matching(PRESETS, incomplete)


architectures = words(*ARCHITECTURES)
devices = words("auto", "cpu", "cuda", "mps")


def _matching(choices: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]
