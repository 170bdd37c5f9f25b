"""Command lines made from the commands' own parameters: right, at the edge, and nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from hypothesis import strategies as st

from ssdcam.cli.command_line import ssdcam

LONG = "n" * 300  # no file system takes it

# What shells hand over when scripts go wrong, and what tries to break out of a line, a folder or a terminal.
NONSENSE = (
    "", " ", "x", "-", "--", "-1", "0", "1", "nan", "inf", "-inf", "1e400", "9" * 30, "-0", "1_0", "0x10", "٣", "1,2",
    "None", "a\nb", "a\tb", "\x1b[2J", "\x1b]0;t\x07", "\x9b2J", "[bold]b[/bold]", "[/]", "%s", "{}", "\u202ex", "😀",
    "\udcff\udcfe", LONG, "..", "../..", "~", "/", "/dev/null", "/dev/full", "/proc/self/mem", "*", "[", "**/*", "a:b",
    "file:x", "voc:", "yolo:", "http://",
)  # fmt: skip

# Files that are there; see `furnish`.
INPUTS = (
    "photo.jpg", "grey.png", "video.mp4", "voc", "yolo", "coco/train.json", "coco", "tiny.safetensors", "labels.txt",
    "found.jsonl", "boxes.json", "empty", "text.txt", "a\nb\x1b[31m.jpg", "[red]\udcff.jpg", "missing.jpg", "folder",
    "*.jpg",
)  # fmt: skip
OUTPUTS = (
    "out", "out.mp4", "out.webm", "out.avi", "out.safetensors", "r.jsonl", "r.csv", "r.json", "voc:out", "yolo:out",
    "boxes.json", "folder", "missing/out.mp4", "photo.jpg", "video.mp4", "out.png",
)  # fmt: skip

# Values that would be right and take minutes, memory or cores are left out; so are those that only a network gives.
_VALUES: Mapping[str, tuple[str, ...]] = {
    "epochs": ("1", "0", "x"),
    "batch": ("1", "3", "0", "65537", "x"),
    "workers": ("0", "-1", "1025"),
    "threads": ("1", "2", "0", "1025"),
    "input_size": ("64", "96", "31", "4097", "x"),
    "arch": ("ssd300-mobilenet-v1", "ultralight-faces", "nosuch", ""),
    "arch_options": ("width=0.1", "width=0", "width=nan", "width", "=", "nosuch=1", "width=1e9"),
    "engine": ("auto", "torch", "nosuch"),
    "device": ("auto", "cpu", "cuda", "cuda:9", "mps", "meta", "", "cpu:x"),
    "classes": ("ant", "ant,bee", "cat", "nosuch", ",", "", "a\x1b[1m"),
    "split": ("train", "val", "nosuch", ""),
    "val_split": ("train", "val", "nosuch"),
    "codec": ("h264", "vp9", "mpeg4", "h265", "nosuch", ""),
    "preset": ("ultrafast", "veryfast", "nosuch"),
    "family": ("caffe", "amdegroot", "nosuch"),
    "teacher": ("tiny.safetensors", "missing"),
    "duration": ("0.2", "0", "nan", "inf", "1:99", "-1"),
    "reconnect": ("0", "off", "nan", "-1", "x"),
    "max_frames": ("1", "2", "0", "1000000001", "9" * 400),
    "size": ("64x48", "0x0", "x", "99999x99999", "1x"),
    "fourcc": ("MJPG", "", "toolong", "é"),
    "clusters": ("1", "2", "1001", "0"),
    "inputs": ("video.mp4", "in", "*.mp4", "missing.mp4", "photo.jpg", "folder", "", "rtsp://u:secret@127.0.0.1:1/x"),
    "source": ("video.mp4", "missing.mp4", "97", "99999999999999999999", "/dev/video97", "photo.jpg", "",
    "rtsp://u:secret@127.0.0.1:1/x"),
}  # fmt: skip

_PATHS_IN = frozenset({"paths", "inputs", "data", "model", "labels", "ground_truth", "detections", "boxes", "val"})
_PATHS_OUT = frozenset({"output", "records", "crops", "stats", "plots", "plot"})

# What makes a run of each command that comes to its end, so that not all lines fail at once.
WHOLE: Mapping[str, tuple[str, ...]] = {
    "image": ("photo.jpg", "-m", "tiny.safetensors"),
    "video": ("video.mp4", "-m", "tiny.safetensors", "--json", "--max-frames", "3"),
    "webcam": ("video.mp4", "-m", "tiny.safetensors", "--json", "--max-frames", "2", "--no-window"),
    "eval": ("voc", "-m", "tiny.safetensors"),
    "boxes": ("voc", "--arch", "ssd300-mobilenet-v1"),
    "train": ("voc", "-m", "tiny.safetensors", "--epochs", "1", "--batch", "2", "--device", "cpu", "--threads", "1"),
    "weights info": ("tiny.safetensors",),
    "weights convert": ("tiny.safetensors", "-o", "out.safetensors"),
}
# Opening a window takes a display, and prompting a terminal: both have tests of their own.
_NEVER = frozenset({"show", "help", "version", "list_cameras"})


def commands(group: click.Command = ssdcam, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that call it."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for word in group.list_commands(context):
            command = group.get_command(context, word)
            assert command
            yield from commands(command, f"{name} {word}".strip())
    else:
        yield name, group


def parameters(name: str) -> list[click.Option]:
    """The options of a command that a line may have."""
    command = dict(commands())[name]
    return [one for one in command.params if isinstance(one, click.Option) and one.name not in _NEVER]


def values(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """Texts for a parameter: right ones, those at the edges of its range and beyond, and nonsense."""
    name = parameter.name or ""
    if name in _VALUES:
        return st.sampled_from(_VALUES[name])
    if name in _PATHS_IN:
        return st.sampled_from(INPUTS) | st.sampled_from(NONSENSE)
    if name in _PATHS_OUT:
        return st.sampled_from(OUTPUTS) | st.sampled_from(NONSENSE)
    kind: Any = parameter.type
    if isinstance(kind, click.Choice):
        return st.sampled_from([*map(str, kind.choices), "nosuch", ""])
    if isinstance(kind, click.types._NumberRangeBase):
        edges = [edge for edge in (kind.min, kind.max) if edge is not None]
        near = [str(edge + step) for edge in edges for step in (-1, 0, 1)]
        return st.sampled_from(near) | st.sampled_from(NONSENSE)
    return st.sampled_from(NONSENSE) | st.sampled_from(("1", "2", "0.5", "10"))


@st.composite
def lines(draw: st.DrawFn, name: str) -> list[str]:
    """A command line: a whole one with a few options more, or arguments and options as they fall."""
    options = parameters(name)
    command = dict(commands())[name]
    if draw(st.integers(0, 3)):
        words = list(WHOLE[name])
    else:
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        words = [draw(values(one)) for one in arguments for _ in range(draw(st.integers(0, 2)))]
        if any(one.name == "model" for one in options):  # the embedded one takes seconds, and is another file alone
            words += ["-m", "tiny.safetensors"]
    for option in draw(st.lists(st.sampled_from(options), max_size=4, unique=True)):
        words.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
        if not option.is_flag and not option.count:
            words.append(draw(values(option)))
    return [*name.split(), *words]


def furnish(folder: Path, photo: bytes, video: bytes, model: Path, datasets: Mapping[str, Path]) -> None:
    """What ``INPUTS`` names."""
    import shutil

    for name in ("photo.jpg", "a\nb\x1b[31m.jpg", "[red]\udcff.jpg", "folder/inside.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(photo)
    (folder / "grey.png").write_bytes(photo)
    (folder / "video.mp4").write_bytes(video)
    (folder / "tiny.safetensors").write_bytes(model.read_bytes())
    (folder / "labels.txt").write_text("a\x1b[31m\n[red]\nc\n")
    (folder / "found.jsonl").write_text('{"source": "d.jpg", "width": 80, "height": 64, "detections": []}\n')
    (folder / "boxes.json").write_text('{"clip": "none", "maps": []}')
    (folder / "empty").write_bytes(b"")
    (folder / "text.txt").write_text("no picture\n")
    for name, path in datasets.items():
        shutil.copytree(path, folder / name)
