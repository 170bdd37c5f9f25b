"""Which file becomes which: looked at before any work, so that nothing is lost and nothing collides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ssdcam.errors import WrongUsageError
from ssdcam.files import exists, same_file


def check_targets(pairs: Iterable[tuple[Path, Path]]) -> list[Path]:
    """Look at pairs of an input and its output.

    Returns:
        The outputs that exist already.

    Raises:
        WrongUsageError: two inputs have the same output, or an input is its own.
    """
    inputs: dict[Path, Path] = {}
    for source, target in pairs:
        other = inputs.setdefault(target, source)
        if other != source:
            advice = (
                "rename one of them, or give them to two runs, each with a folder of its own as -o"
                if other.parent == source.parent
                else "give their common folder as a quoted glob ('folder/**/*'), which keeps subfolders"
            )
            raise WrongUsageError(f"{other} and {source} would both become {target}: {advice}")
        if same_file(target, source):
            raise WrongUsageError(f"{target}: is the input itself; give another name or folder")
    return [target for target in inputs if exists(target)]
