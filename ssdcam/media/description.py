"""What a video file says about itself, such as its title, date, place and chapters, from one file to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ssdcam.media.av import av

# What is not here may no longer hold of another file: what wrote it, brands, bit rates, durations.
TEXTS: Mapping[str, tuple[str, ...]] = {
    "title": (),
    "artist": ("author", "com.apple.quicktime.author"),
    "album_artist": (),
    "album": (),
    "composer": (),
    "genre": (),
    "copyright": (),
    "description": ("com.apple.quicktime.description",),
    "synopsis": (),
    "keywords": ("com.apple.quicktime.keywords",),
    "comment": ("com.apple.quicktime.comment",),
    "date": ("com.apple.quicktime.creationdate",),
    "creation_time": (),
    "location": ("com.apple.quicktime.location.iso6709",),
    "make": ("com.apple.quicktime.make",),
    "model": ("com.apple.quicktime.model",),
}
"""FFmpeg's name of each text that is kept, and what else it may be called."""

_LONGEST = 10_000  # characters of a text; MOV has two bytes for how many bytes it takes
_UNIT = Fraction(1, 10**6)  # of chapters' times, in seconds
_LATEST = Fraction(10**9)  # seconds; a damaged file may claim times that FFmpeg cannot be told


@dataclass(frozen=True)
class Chapter:
    """A part of a video: from when to when, in seconds, and what it is called."""

    begins: Fraction
    ends: Fraction
    title: str


@dataclass(frozen=True)
class Description:
    """What a file says about itself that is true of another file with the same pictures, too.

    Attributes:
        texts: by FFmpeg's names: title, date, location, ...
        chapters: in order; times are on the file's clock.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    chapters: Sequence[Chapter] = ()


def description_of(container: av.container.InputContainer) -> Description:
    """What an open file says about itself."""
    said = {name.lower(): text for name, text in container.metadata.items()}  # Matroska's names are in capitals
    texts = {}
    for name, others in TEXTS.items():
        text = next((said[each] for each in (name, *others) if said.get(each)), "")
        if text:
            texts[name] = _clean(text)
    chapters = []
    for chapter in container.chapters():
        unit = chapter["time_base"] or _UNIT
        title = {name.lower(): text for name, text in chapter["metadata"].items()}.get("title", "")
        chapters.append(Chapter(chapter["start"] * unit, chapter["end"] * unit, _clean(title)))
    return Description(texts, sorted(chapters, key=lambda each: each.begins))


def between(chapters: Sequence[Chapter], start: Fraction, end: Fraction | None) -> list[Chapter]:
    """What is left of chapters, in order, in a video that is cut out, one after the other.

    Args:
        chapters: in order.
        start: when the video begins on their clock, in seconds.
        end: when it ends there; None: unknown.

    Returns:
        Chapters on the clock of the video, which begins at 0. Of one that others lie in, what is before the first of
        them is left: only Matroska holds such.
    """
    left = []
    for chapter, *following in (chapters[number : number + 2] for number in range(len(chapters))):
        begins = max(chapter.begins - start, Fraction(0))
        ends = [chapter.ends, *(each.begins for each in following), *([] if end is None else [end])]
        stops = min(min(ends) - start, _LATEST)
        if begins < stops:
            left.append(Chapter(begins, stops, chapter.title))
    return left


def set_chapters(output: av.container.OutputContainer, chapters: Sequence[Chapter]) -> None:
    """Put chapters into an output that has not been started yet."""
    output.set_chapters(
        [
            {
                "id": number,
                "start": round(chapter.begins / _UNIT),
                "end": round(chapter.ends / _UNIT),
                "time_base": _UNIT,
                # MP4 shows one without a title by the title of the next.
                "metadata": {"title": chapter.title or str(number)},
            }
            for number, chapter in enumerate(chapters, 1)
        ]
    )


def _clean(text: str) -> str:
    """A text that can be written: not too long, and of characters that UTF-8 has."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()
