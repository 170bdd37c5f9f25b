"""Counts what the suites do, for docs/RELIABILITY.md, and makes the files that they damage."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import originals
from .forked import Forks
from .writers import WRITERS, furnish

_PREFIX = "faults: "

Count = Callable[[str, int], None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Note that a test ran so many cases of a kind; the closing summary adds them up."""

    def note(kind: str, number: int) -> None:
        request.node.user_properties.append((f"{_PREFIX}{kind}", number))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures: Counter[str] = Counter()
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.getreports(outcome):
            for name, number in report.user_properties:
                if name.startswith(_PREFIX):
                    figures[name.removeprefix(_PREFIX)] += number
    if not figures:
        return
    terminalreporter.section("cases run and faults injected")
    for kind, number in sorted(figures.items()):
        terminalreporter.write_line(f"{number:7,}  {kind}")
    if path := os.environ.get("SSDCAM_FAULT_FIGURES"):
        Path(path).write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[Path]:
    """A photo in every format."""
    return originals.pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Short videos in every container."""
    return originals.videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[Path]:
    """Small detectors in every kind of file."""
    return originals.checkpoints(tmp_path_factory.mktemp("checkpoints"), tiny_model)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A data set in each layout."""
    return originals.datasets(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Records in each format."""
    return originals.records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with what every writer reads."""
    folder = tmp_path_factory.mktemp("furnished") / "here"
    furnish(folder, tiny_model)
    return folder


@pytest.fixture(scope="session")
def stubbed() -> Iterator[Forks]:
    """Runs commands with a stub of a detector."""
    with Forks(stub=True) as forks:
        yield forks


@pytest.fixture(scope="session")
def real() -> Iterator[Forks]:
    """Runs commands as they are."""
    with Forks(stub=False) as forks:
        yield forks


@pytest.fixture
def forks(name: str, request: pytest.FixtureRequest) -> Forks:
    """The one with the detector that the command needs."""
    found: Forks = request.getfixturevalue("stubbed" if WRITERS[name].stubbed else "real")
    return found
