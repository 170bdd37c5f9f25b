"""For mkdocs: a line that is nothing but a link to README.md or its like becomes what is there.

On a page read in the repository it is a link; on the site it is the text itself, which so stands in one place only.
``[...](../README.md#videos)`` takes the section below that heading, ``[...](../CHANGELOG.md)`` all below the title.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[1]

_LINE = re.compile(r"^\[[^\]]+\]\(\.\./(?P<file>[\w/.-]+\.md)(?:#(?P<section>[\w-]+))?\)$", re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)\s:]+)\)")

# Where the site has what the repository has elsewhere.
_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "weights/README.md": "model-card.md",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn the links of a page that stand for texts into these; mkdocs calls it."""
    return _LINE.sub(lambda match: included(match["file"], match["section"]), markdown)


def included(file: str, section: str | None) -> str:
    """The text of a section of a file of the repository, or of all of it, without its heading.

    Raises:
        PluginError: there is no such section.
    """
    folder, text = Path(file).parent, (ROOT / file).read_text("utf-8")
    _, *parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    titles = [re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title in parts[::2]]
    bodies = dict(zip(titles, parts[1::2], strict=True))
    if section is None:
        body = text.split("\n", 1)[1]
    elif section in bodies:
        body = bodies[section]
    else:
        raise PluginError(f"{file} has no section {section}: it has {', '.join(bodies)}")
    return _LINK.sub(lambda match: _on_the_site(folder, match["text"], match["target"]), body).strip()


def _on_the_site(folder: Path, text: str, target: str) -> str:
    """A link of the repository's as one of the site's; what the site lacks is named, not linked."""
    path = (folder / target).as_posix()
    if path not in _PAGES and not path.startswith("docs/") and (ROOT / path).exists():
        return f"{text} (`{path}`)"
    return f"[{text}]({_PAGES.get(path, path.removeprefix('docs/'))})"
