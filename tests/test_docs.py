"""The documentation as a site: it builds without a warning, leads nowhere that is not there, and leaves nothing out."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.cli.command_line import ssdcam
from ssdcam.records.csvtable import COLUMNS
from ssdcam.records.record import from_json

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").exists(), reason="needs the source tree")

LARGEST_PICTURES = 1_500_000  # bytes of all of them: everybody who clones has them for ever


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a warning is an error."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python", "mkdocs_click"):
        if package.partition(".")[0] not in sys.modules and find_spec(package.partition(".")[0]) is None:
            pytest.skip(f"{package} is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_no_link_is_dead(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # is shown at any depth, and so refers from the root
            continue
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = place / "index.html" if place.is_dir() else place
            if not place.exists():
                dead.append(f"{path.relative_to(site)}: {target}")
            elif parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].anchors:
                dead.append(f"{path.relative_to(site)}: {target} (no such anchor)")
    assert not dead
    assert sum(len(page.targets) for page in pages.values()) > 500  # it does look at links


def test_every_page_has_its_place(site: Path, pages: dict[Path, Page]) -> None:
    expected = {path.with_suffix(".html").relative_to(DOCS) for path in DOCS.rglob("*.md")}
    assert expected <= {path.relative_to(site) for path in pages}


def commands(command: click.Command, path: str = "ssdcam") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from commands(found, f"{path} {name}")


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


def test_every_command_and_option_is_told(site: Path) -> None:
    text = text_of(site / "cli.html")
    assert "Sentinel" not in text
    # A command's part of the page goes from its heading to the next one.
    parts = re.split(r"^(ssdcam(?: [a-z]+)*)¶?$", text, flags=re.MULTILINE)
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    for path, command in commands(ssdcam):
        assert path in told
        for parameter in command.params:
            for name in parameter.opts if isinstance(parameter, click.Option) else ():
                assert name in told[path], (path, name)


def test_what_is_public_is_told(site: Path) -> None:
    import ssdcam as package

    text = text_of(site / "python.html")
    for name in package.__all__:
        assert name in text or name == "__version__"
    for name in ("with_score", "max_det", "open_records", "read_records"):
        assert name in text


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md"))])
def test_links_in_the_repository(page: str) -> None:
    """As one reads the pages where they are, unbuilt."""
    path = ROOT / page
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        place = path.parent / parts.path if parts.path else path
        assert place.exists(), target
        if parts.fragment:
            titles = re.findall(r"^#+ (.+)$", place.read_text("utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in titles}
            assert parts.fragment in anchors, target


def test_pictures_are_small_and_all_shown() -> None:
    pictures = sorted((DOCS / "pictures").iterdir())
    assert sum(path.stat().st_size for path in pictures) < LARGEST_PICTURES
    text = "".join(path.read_text("utf-8") for path in [ROOT / "README.md", *DOCS.rglob("*.md")])
    assert not [path.name for path in pictures if f"pictures/{path.name})" not in text]


def messages() -> str:
    """All texts of the package, with a gap for what is filled in."""
    found = []
    for path in sorted((ROOT / "ssdcam").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


SHOWN = re.findall(r"^```text\n(.*?)^```", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
LINES = [line for block in SHOWN for line in block.splitlines()]
# Told by the system or by other libraries, not by ssdcam.
OTHERS = ("libGL.so.1: cannot open shared object file: No such file or directory", "No space left on device")


# Of ours, but filled in.
FILLED_IN = ("there is no display (DISPLAY is not set)", "YUYV", "MJPG", "h264", "libx264")


@pytest.mark.parametrize("line", LINES)
def test_what_troubleshooting_quotes_is_what_is_said(line: str) -> None:
    text = messages()
    line = re.sub(r"^(error|warning): ", "", line)
    assert all(filled in text for filled in FILLED_IN)
    for filled in (*OTHERS, *FILLED_IN):
        line = line.replace(filled, "…")
    parts = [part for part in (part.strip(" .:;,") for part in line.split("…")) if part]
    assert sum(map(len, parts)) > 7
    assert [part for part in parts if part not in text] == []


def test_ten_failures_at_least() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    assert len(re.findall("^## ", text, re.MULTILINE)) >= 10
    assert len(SHOWN) >= 10


@pytest.mark.parametrize("page", ["README.md", "docs/records.md"])
def test_records_are_shown_as_the_default_detector_makes_them(page: str) -> None:
    labels = open_checkpoint(None).spec.labels
    shown = [from_json(json.loads(line)) for line in re.findall("```json\n(.*)\n```", (ROOT / page).read_text("utf-8"))]
    assert shown
    for found in (record.detections for record in shown):
        assert [labels[class_id] for class_id in found.class_ids] == list(found.labels)


def test_the_columns_of_a_table_are_told() -> None:
    assert f"`{','.join(COLUMNS)}`" in (DOCS / "records.md").read_text("utf-8")
