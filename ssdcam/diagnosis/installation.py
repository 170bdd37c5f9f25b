"""Python, ssdcam and what pip installed for it."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import ssdcam
from ssdcam.diagnosis.finding import Finding, ok, problem, warning

# Any of them is OpenCV to who imports it.
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")

# Extras for who works on ssdcam, and the one that is made of others.
_NOT_FOR_USERS = frozenset(("all", "docs", "test"))

_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*\(?(?:>=\s*(?P<least>[\d.]+))?[^;]*(?:;.*\bextra\s*==\s*['\"](?P<extra>[^'\"]+)['\"].*)?"
)


@dataclass(frozen=True)
class Requirement:
    """A package that ssdcam asks for.

    Attributes:
        name: as pip knows it.
        least: its lowest version, such as ``4.10``; empty where any will do.
        extra: the extra that asks for it; empty for those that are always needed.
    """

    name: str
    least: str
    extra: str


def check_installation() -> Iterator[Finding]:
    """Python, ssdcam itself, its command, and the packages that it cannot do without."""
    bits = 64 if sys.maxsize > 2**32 else 32
    python = f"{platform.python_version()}, {bits} bits, on {platform.system()} {platform.release()}"
    if bits == 32:
        remedy = "install a 64-bit system and Python: torch is not built for 32 bits"
        yield problem("Python", python, remedy, necessary=True)
    else:
        yield ok("Python", f"{python} ({sys.executable})")
    home = Path(ssdcam.__file__).parent
    try:
        installed = metadata.version("ssdcam")
    except metadata.PackageNotFoundError:
        yield warning("ssdcam", f"{ssdcam.__version__} in {home}, not installed by pip", "pip install . in its folder")
        return
    if installed != ssdcam.__version__:
        yield warning(
            "ssdcam",
            f"{ssdcam.__version__} in {home} is used, but {installed} is installed",
            "leave that folder, or pip install . in it",
        )
    else:
        yield ok("ssdcam", f"{installed} in {home}")
    if shutil.which("ssdcam") is None:
        scripts = sysconfig.get_path("scripts")
        yield warning(
            "command", "ssdcam is not on the PATH", f"use python -m ssdcam, activate the environment, or add {scripts}"
        )
    needed = [requirement for requirement in requirements() if not requirement.extra]
    lacking = [lack for requirement in needed if (lack := _lack(requirement))]
    if lacking:
        names = " ".join(f"'{requirement.name}>={requirement.least}'" for requirement in needed if _lack(requirement))
        yield problem("packages", ", ".join(lacking), f"pip install {names}", necessary=True)
    else:
        yield ok("packages", ", ".join(f"{needs.name} {_installed(needs.name)}" for needs in needed))


def check_extras(*engines: str) -> Iterator[Finding]:
    """What can be installed in addition, but for the engines, which are tried."""
    extras: dict[str, list[Requirement]] = {}
    for requirement in requirements():
        if requirement.extra and requirement.extra not in _NOT_FOR_USERS and requirement.extra not in engines:
            extras.setdefault(requirement.extra, []).append(requirement)
    whole = []
    for extra, parts in extras.items():
        lacking = [lack for part in parts if (lack := _lack(part))]
        if lacking:
            yield warning(f"extra {extra}", ", ".join(lacking), f"if you want it: pip install 'ssdcam[{extra}]'")
        else:
            whole.append(extra)
    if whole:
        yield ok("extras", ", ".join(whole))


def requirements() -> list[Requirement]:
    """What the installed ssdcam asks for; empty where it was not installed."""
    try:
        lines = metadata.requires("ssdcam") or []
    except metadata.PackageNotFoundError:
        return []
    found = [match for line in lines if (match := _REQUIREMENT.fullmatch(line.strip()))]
    return [Requirement(match["name"], match["least"] or "0", match["extra"] or "") for match in found]


def opencvs() -> dict[str, str]:
    """The OpenCV distributions that are installed, with their versions."""
    return {name: version for name in OPENCVS if (version := _version(name))}


def _lack(requirement: Requirement) -> str:
    """What is wrong with a requirement, in a few words; empty if nothing is."""
    installed = _installed(requirement.name)
    if not installed:
        return f"{requirement.name} is not installed"
    if _numbers(installed) < _numbers(requirement.least):
        return f"{requirement.name} {installed} is older than {requirement.least}"
    return ""


def _installed(name: str) -> str:
    """The version that is installed, of OpenCV the newest one; empty where there is none."""
    names = OPENCVS if name in OPENCVS else (name,)
    return max(filter(None, map(_version, names)), key=_numbers, default="")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, to be compared: 4.10.0.84 is (4, 10, 0, 84)."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
