"""Bring the table of docs/licences.md up to date with what is installed.

    python docs/licences.py

Packages that ``ssdcam[all]`` needs, directly or by way of others, and the licence that each one's own metadata states.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"

# Extras for who works on ssdcam, and the one that is made of all others.
_NOT_SHIPPED = frozenset(("all", "docs", "test"))

# What metadata does not say: the wheels hold more than the package's own code.
_BESIDE = {
    "av": "; its wheels hold FFmpeg (LGPL-3.0-or-later) with x264 and x265 (**GPL-2.0-or-later**), see above",
    "opencv-python": "; its wheels hold FFmpeg (LGPL-2.1) and on Linux Qt (LGPL-3.0)",
    "torch": "; builds for CUDA install NVIDIA's libraries under NVIDIA's licence",
}

_COMMON_NAMES = {
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "BSD License": "BSD",
    "BSD": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved": "",
    "Python Software Foundation License": "PSF-2.0",
}


def direct_dependencies() -> dict[str, str]:
    """What setup.cfg asks for: package and by what, ``ssdcam`` itself or an extra."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", "utf-8")
    lists = {"ssdcam": config["options"]["install_requires"]}
    lists |= {extra: text for extra, text in config["options.extras_require"].items() if extra not in _NOT_SHIPPED}
    found: dict[str, str] = {}
    for what, text in lists.items():
        for line in text.split("\n"):
            if line.strip() and not line.startswith("%("):  # another extra's list
                found.setdefault(canonicalize_name(Requirement(line).name), what)
    return found


def all_dependencies() -> dict[str, str]:
    """The same with what those ask for in turn, on this system: package and by what."""
    found: dict[str, str] = {}
    left = list(direct_dependencies().items())
    while left:
        name, by = left.pop(0)
        if name in found:
            continue
        found[name] = by
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needs = [Requirement(line) for line in lines]
        wanted = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        left += [(canonicalize_name(need.name), name) for need in wanted]
    return found


def licence(name: str) -> str:
    """A package's licence as its metadata states it; empty where it is not installed or says nothing."""
    try:
        facts = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    stated = facts.get("License-Expression")
    if stated:
        return stated
    classifiers = [
        _COMMON_NAMES.get(short, short)
        for text in facts.get_all("Classifier") or []
        if text.startswith("License :: ") and (short := text.rpartition(" :: ")[2])
    ]
    if any(classifiers):
        return " AND ".join(filter(None, classifiers))
    first = (facts.get("License") or "").strip().split("\n")[0]
    return _COMMON_NAMES.get(first, first)


def table() -> str:
    """The table in Markdown."""
    direct = direct_dependencies()
    rows = ["| package | licence | asked for by |", "| --- | --- | --- |"]
    for name, by in sorted(all_dependencies().items()):
        by = "ssdcam" if by == "ssdcam" else f"extra `{by}`" if name in direct else by
        rows.append(f"| {name} | {licence(name) or 'not installed'}{_BESIDE.get(name, '')} | {by} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """As the module says."""
    text = PAGE.read_text("utf-8")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    PAGE.write_text(re.sub(pattern, lambda match: BEGIN + table() + END, text, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
