"""``ssdcam image`` from outside: real pictures, the installed script, exit codes and every line it says."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssdcam.media.images import read_image

from .. import pictures
from ..conftest import TINY_LABELS
from ..media.sources.videos import make_video
from ..waiting import finish
from .commands import SCRIPT, TIMEOUT, Run, Terminal, ssdcam, start, unprivileged

ImageCommand = Callable[..., Run]

DAMAGED = "is damaged, or no picture that OpenCV can read"


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> list[str | Path]:
    """The command with a detector that needs nothing from outside."""
    return ["image", "-m", tiny_model, "--device", "cpu"]


@pytest.fixture
def image(tiny: list[str | Path]) -> ImageCommand:
    """Run ``ssdcam image`` with that detector."""
    return lambda *arguments, **options: ssdcam(*tiny, *arguments, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.jpg", "b.png", "c.webp")):
        pictures.photo(folder / name, 160, 120, seed)
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of 400, so that a run is long enough to be stopped."""
    folder = tmp_path / "many"
    folder.mkdir()
    pictures.photo(folder / "000.jpg", 320, 240)
    for i in range(1, 400):
        os.link(folder / "000.jpg", folder / f"{i:03}.jpg")
    return folder


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / (float(np.prod(np.subtract(a[2:], a[:2])) + np.prod(np.subtract(b[2:], b[:2]))) - both)


@pytest.fixture(scope="module")
def photo(cats_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photo without loss, so that its annotated copy can be compared."""
    path = tmp_path_factory.mktemp("cats") / "cats.png"
    Image.open(cats_photo).save(path)
    return path


@pytest.fixture(scope="module")
def options(coco_tflite: Path) -> list[str | Path]:
    return ["image", "-m", coco_tflite, "--score", ".3", "--iou", ".6", "--device", "cpu"]


@pytest.fixture(scope="module")
def found(photo: Path, options: list[str | Path]) -> tuple[Any, Path]:
    out = photo.parent / "out"
    run = ssdcam(*options, photo, "--json", "-o", out)
    assert (run.code, run.complaints) == (0, [])
    (record,) = run.records
    return record, out / "cats.png"


class TestCatsAndDogs:
    """A published detector and photo, with what others found in it."""

    def test_finds_them(self, found: tuple[Any, Path], cats_photo: Path) -> None:
        record, _ = found
        assert (record["width"], record["height"]) == (1200, 600)
        pattern = r'origin_x: (\d+) origin_y: (\d+) width: (\d+) height: (\d+).*?class_name: "(\w+)"'
        text = cats_photo.with_name("cats_and_dogs.expected.pbtxt").read_text()
        expected = [
            (label, [int(x), int(y), int(x) + int(w), int(y) + int(h)])
            for x, y, w, h, label in re.findall(pattern, text, re.DOTALL)
        ]
        assert len(expected) == 4
        matched = [
            any(one["label"] == label and overlap(one["box"], box) > 0.7 for one in record["detections"])
            for label, box in expected
        ]
        assert sum(matched) >= 3

    def test_records_are_as_documented(self, found: tuple[Any, Path], photo: Path) -> None:
        record, _ = found
        assert list(record) == ["source", "width", "height", "detections"]
        assert record["source"] == str(photo)
        scores = [one["score"] for one in record["detections"]]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.3
        for one in record["detections"]:
            assert list(one) == ["label", "class_id", "score", "box"]
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 < x2 <= 1200
            assert 0 <= y1 < y2 <= 600

    def test_draws_boxes_and_labels_and_nothing_else(self, found: tuple[Any, Path], photo: Path) -> None:
        record, copy = found
        original, annotated = read_image(photo), read_image(copy)
        assert annotated.shape == original.shape
        changed = (annotated != original).any(axis=2)
        near = np.zeros_like(changed)
        for one in record["detections"]:
            band = outline(one["box"], near.shape, 8)
            assert changed[outline(one["box"], near.shape, 1)].mean() > 0.9
            near |= band
            # A label stands above, below or inside its box, from its left side on.
            x1, y1, _, y2 = (round(side) for side in one["box"])
            room = slice(max(0, x1 - 200), x1 + 200)
            near[max(0, y1 - 30) : y1 + 30, room] = True
            near[max(0, y2 - 30) : y2 + 30, room] = True
        assert not (changed & ~near).any()

    def test_boxes_alone(self, found: tuple[Any, Path], photo: Path, options: list[str | Path]) -> None:
        record, _ = found
        out = photo.parent / "boxes"
        run = ssdcam(*options, photo, "-o", out, "--no-labels", "--line-width", "3")
        assert (run.code, run.err) == (0, "")
        changed = (read_image(out / "cats.png") != read_image(photo)).any(axis=2)
        lines = np.zeros_like(changed)
        for one in record["detections"]:
            lines |= outline(one["box"], lines.shape, 5)
        assert not (changed & ~lines).any()


def outline(box: list[float], shape: tuple[int, ...], width: int) -> NDArray[np.bool_]:
    """Pixels at the edge of a box, or up to two pixels outside of it."""
    mask = np.zeros(shape[:2], bool)
    x1, y1, x2, y2 = (round(side) for side in box)
    out = 2 if width > 1 else 0
    mask[max(0, y1 - out) : y2 + out, max(0, x1 - out) : x2 + out] = True
    mask[y1 + width : y2 - width, x1 + width : x2 - width] = False
    return mask


@dataclass
class Lot:
    """What became of a lot of files that were given to one run."""

    run: Run
    folder: Path

    def record(self, name: str) -> Any:
        """The one record of a file, or None."""
        records = [record for record in self.run.records if record["source"] == name]
        assert len(records) <= 1
        return records[0] if records else None

    def complaint(self, name: str) -> str | None:
        """The one line about a file, without its name, or None."""
        start = f"error: {name}: "
        lines = [line.removeprefix(start) for line in self.run.complaints if line.startswith(start)]
        assert len(lines) <= 1
        return lines[0] if lines else None


READABLE = {**pictures.COLOURED, **pictures.GREY}
DOUBTFUL = {**pictures.SOMETIMES, **pictures.CUT}
SIZES = {"1x1.png": (1, 1), "1x3000.png": (1, 3000), "12000x9000.jpg": (12000, 9000)}


@pytest.fixture(scope="module")
def kinds(tiny: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Lot:
    """One run over all of them."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, make in {**READABLE, **DOUBTFUL}.items():
        make(folder / name)
    for name, (make, _) in pictures.HOPELESS.items():
        make(folder / name)
    for name, size in SIZES.items():
        Image.new("RGB", size, (90, 120, 60)).save(folder / name)
    names = sorted({**READABLE, **DOUBTFUL, **pictures.HOPELESS, **SIZES})
    return Lot(ssdcam(*tiny, *names, "--json", "-o", "out", cwd=folder), folder)


class TestEveryKindOfFile:
    """Each gives a result or one line, and the others go on."""

    @pytest.mark.parametrize("name", [*READABLE, *SIZES])
    def test_a_picture(self, name: str, kinds: Lot) -> None:
        record = kinds.record(name)
        size = SIZES.get(name, pictures.SIZE)
        assert (record["width"], record["height"]) == size
        assert kinds.complaint(name) is None
        assert read_image(kinds.folder / "out" / name).shape == (size[1], size[0], 3)
        for one in record["detections"]:
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 < x2 <= size[0]
            assert 0 <= y1 < y2 <= size[1]

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_boxes_are_in_the_picture_as_shown(self, orientation: int, kinds: Lot) -> None:
        shown = kinds.record("exif1.jpg")["detections"]
        turned = kinds.record(f"exif{orientation}.jpg")["detections"]
        # The two were compressed in different directions: JPEG's small errors move scores and sides a little.
        assert turned[0]["label"] == shown[0]["label"]
        assert turned[0]["score"] == pytest.approx(shown[0]["score"], abs=0.02)
        np.testing.assert_allclose(turned[0]["box"], shown[0]["box"], atol=2)

    @pytest.mark.parametrize("name", pictures.HOPELESS)
    def test_no_picture(self, name: str, kinds: Lot) -> None:
        assert kinds.record(name) is None
        complaint = kinds.complaint(name)
        assert complaint is not None
        assert re.search(pictures.HOPELESS[name][1], complaint)
        assert not (kinds.folder / "out" / name).exists()

    @pytest.mark.parametrize("name", DOUBTFUL)
    def test_a_result_or_a_line(self, name: str, kinds: Lot) -> None:
        record = kinds.record(name)
        assert (record is None) != (kinds.complaint(name) is None)
        # What is shown turned is 80x60; OpenCV 4.10 honours that for JPEG only.
        assert record is None or sorted([record["width"], record["height"]]) == [60, 80]
        assert (kinds.folder / "out" / name).exists() == (record is not None)

    def test_more_pixels_than_fit_in_memory(self, kinds: Lot) -> None:
        complaint = kinds.complaint("large.png")
        assert complaint
        assert complaint.startswith("claims more pixels than the limit of 2^28")

    def test_says_nothing_else(self, kinds: Lot) -> None:
        # Neither libpng nor OpenCV nor Python adds a line of their own.
        failed = [name for name in {**DOUBTFUL, **pictures.HOPELESS} if kinds.record(name) is None]
        assert len(kinds.run.complaints) == len(failed)
        assert kinds.run.code == 1

    def test_keeps_the_order_of_its_arguments(self, kinds: Lot) -> None:
        sources = [record["source"] for record in kinds.run.records]
        assert sources == sorted(sources)

    def test_leaves_no_half_made_file(self, kinds: Lot) -> None:
        made = {path.name for path in (kinds.folder / "out").iterdir()}
        assert made == {record["source"] for record in kinds.run.records}


NAMES = [
    b"with space.jpg",
    b"new\nline.jpg",
    b"carriage\rreturn.jpg",
    b"escape\x1b[31m.jpg",
    "größe 猫 🐈.jpg".encode(),
    "right-to-left \u202egpj.exe.jpg".encode(),
    b"not utf-8 \xff\xfe.jpg",
    b"suffix.j\xffg",
    b"-dash.jpg",
    b"--json",
    b"[bold red]markup[.jpg",
    b"%s {0} $HOME.jpg",
    b"'\"\\.jpg",
    b"*.jpg",
    b"[a-z].jpg",
    b"x" * 251 + b".jpg",
    b"no suffix",
    b".hidden.jpg",
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of these names, and another inside with files of these names that are none."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "bad").mkdir()
    content = pictures.photo(folder / "content.jpg").read_bytes()
    for name in map(os.fsdecode, NAMES):
        (folder / name).write_bytes(content)
        (folder / "bad" / name).write_bytes(content[:50])
    return folder


@pytest.fixture(scope="module")
def named(tiny: list[str | Path], names: Path) -> Lot:
    """One run over the pictures."""
    return Lot(ssdcam(*tiny, "--json", "-o", "out", "--", *map(os.fsdecode, NAMES), cwd=names), names)


@pytest.fixture(scope="module")
def misnamed(tiny: list[str | Path], names: Path) -> Lot:
    """One run over the others."""
    return Lot(ssdcam(*tiny, "--json", *(os.fsdecode(b"bad/" + name) for name in NAMES), cwd=names), names)


class TestEveryKindOfName:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_picture(self, name: bytes, named: Lot) -> None:
        # A record gives the name back byte by byte.
        assert sum(os.fsencode(record["source"]) == name for record in named.run.records) == 1

    @pytest.mark.parametrize("name", NAMES)
    def test_an_annotated_copy(self, name: bytes, named: Lot) -> None:
        written = name if name.endswith(b".jpg") else name + b".png"
        assert read_image(named.folder / "out" / os.fsdecode(written)).shape == (60, 80, 3)

    def test_nothing_to_complain_about(self, named: Lot) -> None:
        assert (named.run.code, named.run.err) == (0, "")

    @pytest.mark.parametrize("name", NAMES)
    def test_no_picture(self, name: bytes, misnamed: Lot) -> None:
        # The line shows what cannot be printed as an escape: it neither ends early nor steers the terminal.
        shown = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in os.fsdecode(name)
        )
        assert misnamed.complaint(f"bad/{shown}") == DAMAGED

    def test_a_line_each(self, misnamed: Lot) -> None:
        assert misnamed.run.code == 1
        assert len(misnamed.run.complaints) == len(NAMES)
        assert misnamed.run.out == ""
        assert "\x1b" not in misnamed.run.err


def test_a_file_closed_to_us(photos: Path, tiny: list[str | Path]) -> None:
    before = unprivileged()
    if before is None:
        pytest.skip("modes of files do not count for this user, and it cannot give that up")
    (photos / "b.png").chmod(0)
    run = ssdcam(*tiny, photos, "--json", before=before)
    assert run.code == 1
    assert run.complaints == [f"error: {photos}/b.png: cannot be read: Permission denied"]
    assert [record["source"] for record in run.records] == [f"{photos}/a.jpg", f"{photos}/c.webp"]


class TestPaths:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for name in ("one.jpg", "two.jpg", "folder/b.jpg", "folder/a.png", "folder/deeper/c.jpg", "glob/x/d.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            pictures.photo(tmp_path / name)
        (tmp_path / "folder/notes.txt").write_text("no picture, and not looked at in a folder")
        return tmp_path

    def test_folders_globs_and_stdin(self, tree: Path, image: ImageCommand) -> None:
        run = image(
            "two.jpg", "folder", "-", "gl*/**/*.jpg", "gone*", "--json", "-o", "out",
            cwd=tree, stdin=b"one.jpg\r\n\nfolder/deep*/*\ngone.jpg\ntwo.jpg",
        )  # fmt: skip
        sources = ["two.jpg", "folder/a.png", "folder/b.jpg", "one.jpg", "folder/deeper/c.jpg", "two.jpg"]
        assert [record["source"] for record in run.records] == [*sources, "glob/x/d.jpg"]
        assert run.code == 1
        assert run.complaints == [
            "error: gone.jpg: no such file",
            "error: gone*: matches no file",
        ]
        written = sorted(str(path.relative_to(tree / "out")) for path in (tree / "out").rglob("*.*"))
        assert written == ["a.png", "b.jpg", "deeper/c.jpg", "glob/x/d.jpg", "one.jpg", "two.jpg"]

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_a_picture_instead_of_paths_on_stdin(self, suffix: str, tree: Path, image: ImageCommand) -> None:
        pictures.photo(tree / f"piped{suffix}")
        run = image("-", "--json", cwd=tree, stdin=(tree / f"piped{suffix}").read_bytes())
        assert (run.code, run.out) == (2, "")
        assert run.complaints == ["error: standard input holds zero bytes: - reads paths from there, a line each"]

    def test_no_path_on_stdin_is_told_of(self, tree: Path, image: ImageCommand) -> None:
        run = image("-", "--json", cwd=tree, stdin=b"\n")
        assert (run.code, run.out, run.complaints) == (0, "", ["warning: standard input named no picture"])

    def test_a_file_is_no_folder_for_annotated_copies(self, tree: Path, image: ImageCommand) -> None:
        run = image("one.jpg", "-o", "result.JPG", cwd=tree)
        assert run.code == 2
        assert run.complaints == ["error: -o result.JPG: is the folder for the pictures with boxes, so leave .JPG away"]
        assert not (tree / "result.JPG").exists()
        (tree / "folder.jpg").mkdir()
        assert image("one.jpg", "-o", "folder.jpg", cwd=tree).code == 0

    def test_a_pipe_is_no_picture(self, tree: Path, image: ImageCommand) -> None:
        os.mkfifo(tree / "pipe.jpg")
        run = image("pipe.jpg", "one.jpg", "/dev/zero", "--json", cwd=tree)
        assert [record["source"] for record in run.records] == ["one.jpg"]
        assert run.code == 1
        assert run.complaints == [
            "error: pipe.jpg: is no regular file",
            "error: /dev/zero: is no regular file",
        ]

    def test_a_video_is_told_of_the_command_for_videos(self, tree: Path, image: ImageCommand) -> None:
        make_video(tree / "v.MP4", range(3))
        (tree / "folder/a.png").rename(tree / "picture.mp4")
        run = image("v.MP4", "gone.mp4", "picture.mp4", "--json", cwd=tree)
        assert [record["source"] for record in run.records] == ["picture.mp4"], "what it holds counts"
        assert run.code == 1
        assert run.complaints == [
            "error: v.MP4: is no picture, but by its name a video: use ssdcam video v.MP4",
            "error: gone.mp4: no such file",
        ]

    def test_no_summary_where_nothing_was_read_or_nobody_wants_one(self, tree: Path, image: ImageCommand) -> None:
        nothing, loud, quiet = image("gone.jpg", cwd=tree), image("one.jpg", cwd=tree), image("one.jpg", "-q", cwd=tree)
        assert (nothing.code, nothing.out) == (1, "")
        assert len(nothing.complaints) == 1
        assert "in 1 picture" in loud.out
        assert loud.out.startswith(quiet.out)
        assert "in 1 picture" not in quiet.out

    def test_a_glob_keeps_subfolders(self, tree: Path, image: ImageCommand) -> None:
        run = image("**/*.jpg", "-o", "out/new", cwd=tree)
        assert (run.code, run.err) == (0, "")
        written = sorted(str(path.relative_to(tree / "out/new")) for path in (tree / "out").rglob("*.*"))
        assert written == ["folder/b.jpg", "folder/deeper/c.jpg", "glob/x/d.jpg", "one.jpg", "two.jpg"]

    def test_results_for_people(self, tree: Path, image: ImageCommand) -> None:
        run = image("one.jpg", "folder/a.png", "-o", "out", "--score", ".9", cwd=tree)
        assert (run.code, run.err) == (0, "")
        lines = run.out.splitlines()
        assert lines[0] == "one.jpg  80x60"
        assert "folder/a.png  80x60" in lines
        objects = [line for line in lines if line.startswith("  ")]
        assert objects
        for line in objects:
            assert re.fullmatch(r"  (ant|bee|cat)  (0\.9\d|1\.00)  x \d+-\d+  y \d+-\d+", line)
        assert lines[-1] == f"{len(objects)} objects in 2 pictures; wrote out"

    def test_a_pattern_through_too_many_folders_is_told(self, tmp_path: Path, image: ImageCommand) -> None:
        pictures.photo(tmp_path / "one.jpg")
        here = Path.cwd()
        try:
            os.chdir(tmp_path)
            for _ in range(1200):  # no path as long as that can be named, nor be removed at one go
                Path("d").mkdir()
                os.chdir("d")
            run = image("d/**/*.jpg", "one.jpg", "--json", cwd=tmp_path)
        finally:
            while Path.cwd() != tmp_path:
                os.chdir("..")
                Path("d").rmdir()
            os.chdir(here)
        assert run.code == 1
        assert run.complaints == [
            "error: d/**/*.jpg: leads through folders that lie too deep in one another; name one of them"
        ]
        assert [record["source"] for record in run.records] == ["one.jpg"]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["-o", ""], "error: Invalid value for '-o' / '--output': an empty name is no folder"),
            (["--crops", ""], "error: Invalid value for '--crops': an empty name is no folder"),
            (["-o", "new.json", "--records", "new.json"], "error: new.json: two outputs cannot have one name"),
            (["--crops", "new.json", "--records", "./new.json"], "error: new.json: two outputs cannot have one name"),
            (["--crops", "folder", "--records", "folder"], "error: 'folder' is no place for records"),
        ],
    )
    def test_names_that_are_no_places(
        self, arguments: list[str], complaint: str, tree: Path, image: ImageCommand
    ) -> None:
        before = sorted(tree.rglob("*"))
        run = image("one.jpg", *arguments, cwd=tree)
        assert (run.code, run.out) == (2, "")
        (line,) = run.complaints
        assert line.startswith(complaint)
        assert sorted(tree.rglob("*")) == before

    def test_the_same_picture_twice(self, tree: Path, image: ImageCommand) -> None:
        run = image("one.jpg", "one.jpg", "--json", "-o", "out", cwd=tree)
        assert (run.code, run.err) == (0, "")
        first, second = run.records
        assert first == second

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            # Two pictures of one name cannot both go to one folder.
            (["one.jpg", "folder/deeper/../../one.jpg"], "error: one.jpg and folder/deeper/../../one.jpg would both "),
            (["folder/b.jpg", "other/b.jpg"], "error: folder/b.jpg and other/b.jpg would both become out/b.jpg: "),
            # What is there is not replaced without being told to, nobody being there to be asked.
            (["one.jpg", "two.jpg"], "error: out/two.jpg exists: pass -y to overwrite"),
            (["two.jpg", "folder/*"], "error: out/two.jpg exists, and 1 more: pass -y to overwrite"),
            # A picture never becomes its own annotated copy, whatever was said.
            (["out/two.jpg", "-y"], "error: out/two.jpg: is the input itself; give another "),
            (["link.jpg", "-y"], "error: out/link.jpg: is the input itself; give another "),
            # Something that is missing is found missing later; what it would replace is seen now.
            (["gone/two.jpg"], "error: out/two.jpg exists: pass -y to overwrite"),
        ],
    )
    def test_refuses_to_lose_anything(
        self, arguments: list[str], complaint: str, tree: Path, image: ImageCommand
    ) -> None:
        (tree / "out").mkdir()
        for name in ("two.jpg", "a.png"):
            (tree / "out" / name).write_bytes(b"precious")
        (tree / "link.jpg").symlink_to("one.jpg")
        (tree / "out/link.jpg").symlink_to("../one.jpg")
        run = image(*arguments, "-o", "out", "--json", cwd=tree)
        assert run.code == 2
        assert run.out == ""
        assert len(run.complaints) == 1
        assert run.err.startswith(complaint)
        assert {(tree / "out" / name).read_bytes() for name in ("two.jpg", "a.png")} == {b"precious"}
        assert read_image(tree / "one.jpg").shape == (60, 80, 3)

    def test_replaces_when_told_to(self, tree: Path, image: ImageCommand) -> None:
        (tree / "out").mkdir()
        (tree / "out/two.jpg").write_bytes(b"old")
        run = image("two.jpg", "-o", "out", "-y", "--json", cwd=tree)
        assert (run.code, run.err) == (0, "")
        assert read_image(tree / "out/two.jpg").shape == (60, 80, 3)

    def test_paths_from_stdin_do_not_replace_either(self, tree: Path, image: ImageCommand) -> None:
        # They are looked at one by one, so each is refused in its turn.
        (tree / "out").mkdir()
        (tree / "out/two.jpg").write_bytes(b"precious")
        run = image("-", "-o", "out", "--json", cwd=tree, stdin=b"two.jpg\none.jpg\n")
        assert run.code == 1
        assert run.complaints == ["error: out/two.jpg: exists already and was not replaced (-y replaces it)"]
        assert (tree / "out/two.jpg").read_bytes() == b"precious"
        assert (tree / "out/one.jpg").exists()


class TestOnATerminal:
    @pytest.fixture
    def out(self, photos: Path) -> Path:
        """A folder where one of the annotated copies is already."""
        out = photos.parent / "out"
        out.mkdir()
        (out / "a.jpg").write_bytes(b"precious")
        return out

    @pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"], ids=["no", "return", "end of file"])
    def test_asks_and_takes_no_for_an_answer(
        self, answer: bytes, photos: Path, out: Path, tiny: list[str | Path]
    ) -> None:
        terminal = Terminal(*tiny, photos, "-o", out)
        terminal.read_until(b"a.jpg exists. Overwrite? [y/N]:")
        terminal.type(answer)
        assert terminal.end() == 2
        assert [path.name for path in out.iterdir()] == ["a.jpg"]
        assert (out / "a.jpg").read_bytes() == b"precious"
        assert b"Traceback" not in terminal.seen

    def test_asks_and_goes_on(self, photos: Path, out: Path, tiny: list[str | Path]) -> None:
        # stdout is a file: a bar shows how far it is, and errors pass above it.
        (photos / "broken.jpg").write_text("no picture")
        results = photos.parent / "results.jsonl"
        terminal = Terminal(*tiny, photos, "-o", out, "--json", stdout=results)
        terminal.read_until(b"Overwrite? [y/N]:")
        terminal.type(b"y\n")
        assert terminal.end() == 1
        line = f"error: {photos}/broken.jpg: {DAMAGED}"
        assert "".join(line.split()) in "".join(terminal.seen.decode().split())  # it may be wider than the terminal
        assert b"4/4" in terminal.seen
        assert [json.loads(line)["width"] for line in results.read_text().splitlines()] == [160, 160, 160]
        assert read_image(out / "a.jpg").shape == (120, 160, 3)

    def test_quiet_shows_no_bar(self, photos: Path, tiny: list[str | Path]) -> None:
        terminal = Terminal(*tiny, photos, "--json", "-q", stdout=photos.parent / "results.jsonl")
        assert terminal.end() == 0
        assert terminal.seen == b""


class TestOutputThatCannotBeWritten:
    """Exit 1, one line, and the others are tried all the same."""

    @pytest.fixture
    def sizes(self, tmp_path: Path) -> Path:
        """Two small pictures and one of over 100 KB between them."""
        folder = tmp_path / "sizes"
        folder.mkdir()
        for name, side in (("a.png", 32), ("b.png", 256), ("c.png", 32)):
            pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name)
        return folder

    def check(self, run: Run, out: Path, reason: str) -> None:
        assert run.code == 1
        assert run.complaints == [f"error: {out}/b.png: cannot be written: {reason}"]
        assert len(run.records) == 3
        assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]

    def test_file_too_large(self, sizes: Path, tiny: list[str | Path]) -> None:
        out = sizes.parent / "out"
        limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "--"]
        self.check(ssdcam(*tiny, sizes, "-o", out, "--json", before=limited), out, "File too large")

    def test_full_disk(self, sizes: Path, tiny: list[str | Path]) -> None:
        out = sizes.parent / "small disk"
        out.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", out]
        if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("only root can make a small disk, and not everywhere")
        try:
            self.check(ssdcam(*tiny, sizes, "-o", out, "--json"), out, "No space left on device")
        finally:
            subprocess.run(["umount", out], check=True)

    def test_read_only_folder(self, tmp_path: Path, tiny: list[str | Path]) -> None:
        before = unprivileged()
        if before is None:
            pytest.skip("modes of files do not count for this user, and it cannot give that up")
        for name in ("in/closed/a.png", "in/open/b.png", "out/closed/x", "out/open/x"):
            (tmp_path / name).parent.mkdir(parents=True)
        for name in ("closed/a.png", "open/b.png"):
            pictures.photo(tmp_path / "in" / name)
        (tmp_path / "out/closed").chmod(0o555)
        run = ssdcam(*tiny, "in/**/*.png", "-o", "out", "--json", cwd=tmp_path, before=before)
        assert run.code == 1
        assert run.complaints == ["error: out/closed/a.png: cannot be written: Permission denied"]
        assert len(run.records) == 2
        assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["b.png"]

    def test_no_place_for_a_folder_below_it(self, photos: Path, image: ImageCommand) -> None:
        (photos / "out").mkdir()
        (photos / "out/deeper").write_text("no folder")
        (photos / "in/deeper").mkdir(parents=True)
        pictures.photo(photos / "in/deeper/d.jpg")
        run = image("in/**/*.jpg", "-o", "out", "--json", cwd=photos)
        assert run.code == 1
        assert run.complaints == ["error: out/deeper/d.jpg: its folder cannot be made: File exists"]


class TestStdout:
    def in_shell(self, script: str, *arguments: str | Path) -> Run:
        done = subprocess.run(
            ["bash", "-c", script, "--", SCRIPT, *arguments], capture_output=True, timeout=TIMEOUT, check=False
        )
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())

    @pytest.mark.parametrize("as_json", [True, False])
    def test_head(self, as_json: bool, many: Path, tiny: list[str | Path]) -> None:
        options = ["--json"] if as_json else []
        run = self.in_shell('"$@" | head -1; exit ${PIPESTATUS[0]}', *tiny, f"{many}/*.jpg", *options)
        assert (run.code, run.err) == (0, "")
        assert len(run.out.splitlines()) == 1

    def test_head_of_errors_too(self, tmp_path: Path, tiny: list[str | Path]) -> None:
        for i in range(50):
            (tmp_path / f"{i}.jpg").touch()
        run = self.in_shell('"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}', *tiny, f"{tmp_path}/*.jpg")
        assert len(run.out.splitlines()) == 1
        assert run.code in (0, 1)

    def test_closed(self, photos: Path, tiny: list[str | Path]) -> None:
        run = self.in_shell('"$@" >&-', *tiny, photos, "--json")
        assert (run.code, run.out, run.err) == (0, "", "")

    def test_full(self, photos: Path, tiny: list[str | Path]) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        run = self.in_shell('"$@" >/dev/full', *tiny, photos, "--json")
        assert run.code == 1
        assert run.complaints == ["error: standard output: cannot be written: No space left on device"]


_DEAF = pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="under nohup")
STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=_DEAF)]


class TestStopped:
    """Whatever was written is whole."""

    @pytest.mark.parametrize(("number", "code"), STOPS)
    def test_in_the_middle(self, number: int, code: int, many: Path, tiny: list[str | Path]) -> None:
        out = many.parent / "out"
        process = start(*tiny, many, "-o", out, "--json")
        assert process.stdout
        first = [process.stdout.readline() for _ in range(5)]
        process.send_signal(number)
        rest, err = finish(process)
        assert process.returncode == code
        assert err == b""
        lines = [*first, *rest.splitlines(keepends=True)]
        assert 5 <= len(lines) < 400
        for line in lines:
            assert line.endswith(b"\n")
            json.loads(line)
        copies = list(out.iterdir())
        assert 4 <= len(copies) <= len(lines)
        for copy in copies:
            assert copy.suffix == ".jpg"
            Image.open(copy).load()  # complains of a picture cut short

    @pytest.mark.parametrize(("number", "code"), STOPS)
    def test_while_nobody_reads(self, number: int, code: int, many: Path, tiny: list[str | Path]) -> None:
        # A record of 1,000 boxes is longer than a pipe holds; the signal comes while it is being written.
        process = start(*tiny, many, "--json", "--score", "0", "--max-det", "1000", "--iou", "1")
        assert process.stdout
        wait_for_full(process.stdout.fileno())
        process.send_signal(number)
        time.sleep(0.5)  # it is in the middle of a line, and stays there until somebody reads
        out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == code
        assert err == b""
        for line in out.splitlines(keepends=True):
            assert line.endswith(b"\n")
            assert len(json.loads(line)["detections"]) == 1000


def wait_for_full(pipe: int) -> None:
    """Wait until a pipe takes no more."""
    before, now = -1, 0
    while now < 4096 or now != before:
        time.sleep(0.3)
        before, now = now, struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


def test_memory_stays_flat(tmp_path: Path, tiny: list[str | Path]) -> None:
    """1,000 photos, of twenty sizes."""
    for i in range(20):
        pictures.photo(tmp_path / f"{i}.jpg", 200 + 20 * i, 500 - 15 * i, i)
    names = [f"{i % 20}.jpg" for i in range(1000)]
    process = start(*tiny, *names, "--json", "--score", ".8", "--threads", "1", cwd=tmp_path)
    assert process.stdout
    observed = psutil.Process(process.pid)
    used = []
    for count, _ in enumerate(process.stdout, 1):
        if count >= 300 and count % 20 == 0 and count < 1000:
            used.append(observed.memory_info().rss)
    assert process.wait(TIMEOUT) == 0
    assert count == 1000
    assert max(used) - used[0] < 30e6
    process.communicate()


def test_records_and_crops(photos: Path, image: ImageCommand, tmp_path: Path) -> None:
    (photos / "b.png").write_text("no picture")
    records, crops = tmp_path / "all.jsonl", tmp_path / "crops"
    run = image(photos, "--json", "--records", records, "--crops", crops, "--score", ".9")
    assert run.code == 1
    assert records.read_text() == run.out
    found = [(Path(r["source"]).stem, rank, one) for r in run.records for rank, one in enumerate(r["detections"])]
    assert len(found) == len(list(crops.iterdir())) > 2
    for name, rank, one in found:
        crop = read_image(crops / f"{name}_{rank}_{one['label']}.jpg")
        x1, y1, x2, y2 = one["box"]
        # A crop holds every pixel that its box touches; the record's box is rounded.
        np.testing.assert_allclose(crop.shape[:2], (np.ceil(y2) - np.floor(y1), np.ceil(x2) - np.floor(x1)), atol=1)


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffwasp\r\n  [red]hornet \r\nfly\r\n\r\n", "utf-8")
    return path


def test_options_reach_the_detector(names_file: Path, photos: Path, image: ImageCommand) -> None:
    arithmetic = ("--engine", "torch", "--precision", "fp32")
    plain = image(photos, "--json", "--score", "0.2", "--iou", "1", "--max-det", "2000", *arithmetic)
    assert (plain.code, plain.err) == (0, "")
    assert {one["label"] for record in plain.records for one in record["detections"]} == set(TINY_LABELS)

    run = image(
        photos, "--json", "--score", ".2", "--iou", "1", "--max-det", "7", "--labels", names_file,
        "--classes", "FLY, [red]Hornet,", "--threads", "1", *arithmetic, "-v",
    )  # fmt: skip
    assert (run.code, run.err) == (0, "")
    renamed = {"bee": "[red]hornet", "cat": "fly"}
    for record, everything in zip(run.records, plain.records, strict=True):
        expected = [one for one in everything["detections"] if one["label"] in renamed][:7]
        assert [one["label"] for one in record["detections"]] == [renamed[one["label"]] for one in expected]
        # Another number of threads adds in another order.
        for one, other in zip(record["detections"], expected, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=2e-4)
