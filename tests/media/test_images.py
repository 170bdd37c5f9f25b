from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssdcam.errors import ImageError, WrongUsageError
from ssdcam.media.images import Picture, PictureFolder, find_pictures, read_image, write_image

from .. import pictures

NEAR = 14  # JPEG at quality 95 shifts a flat colour by a few steps, more from CMYK


def read_or_none(path: Path) -> NDArray[np.uint8] | None:
    try:
        return read_image(path)
    except ImageError:
        return None


@pytest.mark.parametrize("name", pictures.COLOURED)
def test_reads_upright_bgr_of_8_bits(name: str, tmp_path: Path) -> None:
    pictures.COLOURED[name](tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.shape == (pictures.HEIGHT, pictures.WIDTH, 3)
    assert np.abs(pictures.quadrants(image) - pictures.COLOURS).max() <= NEAR


@pytest.mark.parametrize("name", pictures.GREY)
def test_grey_becomes_bgr(name: str, tmp_path: Path) -> None:
    pictures.GREY[name](tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.shape == (pictures.HEIGHT, pictures.WIDTH, 3)
    assert np.abs(pictures.quadrants(image) - pictures.GREYS).max() <= NEAR


@pytest.mark.parametrize("name", pictures.SOMETIMES)
def test_reads_the_first_frame_or_says_that_it_cannot(name: str, tmp_path: Path) -> None:
    pictures.SOMETIMES[name](tmp_path / name)
    everything = int(cv2.__version__.partition(".")[0]) >= 5
    image = read_or_none(tmp_path / name)
    if image is None:
        assert not everything
    # OpenCV 4.10 leaves pictures other than JPEG as they are stored.
    elif everything or not name.startswith("exif"):
        assert image.shape == (pictures.HEIGHT, pictures.WIDTH, 3)
        assert np.abs(pictures.quadrants(image) - pictures.COLOURS).max() <= NEAR


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (12000, 9000)])
def test_reads_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", size, (200, 100, 50)).save(path)
    image = read_image(path)
    assert image.shape == (size[1], size[0], 3)
    assert np.abs(image[-1, -1].astype(int) - (50, 100, 200)).max() <= NEAR


@pytest.mark.parametrize("name", pictures.HOPELESS)
def test_says_what_is_wrong_with_a_file(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, reason = pictures.HOPELESS[name]
    make(tmp_path / name)
    with pytest.raises(ImageError, match=f"{name}: .*({reason})"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", pictures.CUT)
def test_a_picture_cut_short_is_read_in_part_or_not(name: str, tmp_path: Path) -> None:
    pictures.CUT[name](tmp_path / name)
    image = read_or_none(tmp_path / name)
    assert image is None or image.shape == (pictures.HEIGHT, pictures.WIDTH, 3)


def test_a_folder_of_photos_as_browsers_save_them(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("no picture")
    photo = pictures.photo(tmp_path / "photo.jpg").rename(tmp_path / "photo.jfif")
    assert list(find_pictures([str(tmp_path)])) == [Picture(photo, Path("photo.jfif"))]
    folder, picture = PictureFolder(tmp_path / "out"), Picture(photo, Path("photo.jfif"))
    folder.save(picture, read_image(photo))
    assert read_image(folder.target(picture)).shape == read_image(photo).shape


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_a_zero_byte_in_a_name_is_no_crash() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(Path("a\0b.jpg"))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0"], ids=["empty", "text", "cut"])
def test_a_name_that_is_no_utf8_is_no_crash(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"bad\xff\xfe.jpg")
    path.write_bytes(content)
    with pytest.raises(ImageError):
        read_image(path)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Somebody for whom modes of files count."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that anybody can reach, whoever runs the tests."""
    folder = tmp_path_factory.mktemp("open")
    if not os.geteuid():
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
class TestClosedToUs:
    @pytest.fixture
    def closed(self, open_folder: Path) -> Iterator[Path]:
        pictures.photo(open_folder / "file.jpg").chmod(0)
        (open_folder / "folder").mkdir(mode=0o700)
        pictures.photo(open_folder / "folder" / "inside.jpg")
        (open_folder / "folder").chmod(0)
        yield open_folder
        (open_folder / "folder").chmod(0o700)

    def test_file(self, closed: Path, unprivileged: None) -> None:
        with pytest.raises(ImageError, match="cannot be read: Permission denied"):
            read_image(closed / "file.jpg")

    @pytest.mark.parametrize("argument", ["folder", "folder/inside.jpg"])
    def test_folder(self, argument: str, closed: Path, unprivileged: None) -> None:
        (found,) = find_pictures([str(closed / argument)])
        assert isinstance(found, ImageError)
        assert str(found) == f"{closed / argument}: cannot be read: Permission denied"

    def test_glob(self, closed: Path, unprivileged: None) -> None:
        (found,) = find_pictures([str(closed / "folder/*.jpg")])
        assert isinstance(found, ImageError)
        assert str(found).startswith(f"{closed}/folder/*.jpg: ")

    def test_output(self, closed: Path, unprivileged: None) -> None:
        folder = PictureFolder(closed / "folder")
        picture = Picture(Path("a.jpg"), Path("a.jpg"))
        assert folder.check([picture]) == []
        with pytest.raises(ImageError, match=r"(cannot be written|its folder cannot be made): Permission denied"):
            folder.save(picture, pictures.noise(8, 8, 0))


class TestFindPictures:
    @pytest.fixture
    def tree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        for name in (
            "b.jpg",
            "a.JPG",
            "notes.txt",
            "c.webp",
            "sub/d.png",
            "sub/deep/e.jpg",
            "[x].jpg",
            "x.jpg",
            "only/in/f.gif",
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / "folder.jpg").mkdir()
        return tmp_path

    @pytest.mark.parametrize(
        ("argument", "expected"),
        [
            # A folder's pictures by their suffix, not its subfolders'.
            (".", {"[x].jpg": "[x].jpg", "a.JPG": "a.JPG", "b.jpg": "b.jpg", "c.webp": "c.webp", "x.jpg": "x.jpg"}),
            ("sub/", {"sub/d.png": "d.png"}),
            # A glob's results keep the folders below its fixed part.
            ("*.jpg", {"[x].jpg": "[x].jpg", "b.jpg": "b.jpg", "x.jpg": "x.jpg"}),
            ("sub/**/*.jpg", {"sub/deep/e.jpg": "deep/e.jpg"}),
            ("**/*.png", {"sub/d.png": "sub/d.png"}),
            ("s*/d.png", {"sub/d.png": "sub/d.png"}),
            ("./sub/*", {"sub/d.png": "d.png"}),
            ("[ab].*", {"a.JPG": "a.JPG", "b.jpg": "b.jpg"}),
            # A name that exists is no glob.
            ("[x].jpg", {"[x].jpg": "[x].jpg"}),
            # A file that is named is taken whatever it is called, and whether or not it is there.
            ("notes.txt", {"notes.txt": "notes.txt"}),
            ("sub/gone.jpg", {"sub/gone.jpg": "gone.jpg"}),
        ],
    )
    def test_finds(self, argument: str, expected: dict[str, str], tree: Path) -> None:
        found = list(find_pictures([argument]))
        assert found == [Picture(Path(path), Path(name)) for path, name in expected.items()]

    @pytest.mark.parametrize("argument", ["", "*", "**/*"])
    def test_what_is_hidden_is_taken_only_where_it_is_named(self, argument: str, tmp_path: Path) -> None:
        photo = pictures.photo(tmp_path / "a.jpg")
        hidden = tmp_path / "._a.jpg"  # as macOS adds where a disk cannot hold what it knows of a file
        hidden.write_text("Mac OS X")
        assert list(find_pictures([str(tmp_path / argument)])) == [Picture(photo, Path("a.jpg"))]
        assert list(find_pictures([str(hidden)])) == [Picture(hidden, Path("._a.jpg"))]
        photo.unlink()
        (tmp_path / ".thumbnails").mkdir()
        pictures.photo(tmp_path / ".thumbnails/a.jpg")  # which no glob that could be advised would find
        (none,) = find_pictures([str(tmp_path)])
        assert str(none) == f"{tmp_path}: holds no pictures"

    def test_an_absolute_glob_keeps_subfolders_too(self, tree: Path) -> None:
        found = list(find_pictures([f"{tree}/**/*.jpg"]))
        names = ["[x].jpg", "b.jpg", "sub/deep/e.jpg", "x.jpg"]
        assert found == [Picture(tree / name, Path(name)) for name in names]

    @pytest.mark.parametrize(
        ("argument", "complaint"),
        [
            ("folder.jpg", "holds no pictures$"),
            ("only", r"holds no pictures itself; those of its folders: 'only/\*\*/\*\.gif'$"),
            ("*.tif", "matches no file"),
            ("fold*", "matches no file"),
            ("gone/**", "matches no file"),
            ("x" * 300, "File name too long"),
            ("x" * 300 + "/*.jpg", "File name too long|matches no file"),
            ("a\0/*", "cannot be read|matches no file"),
        ],
    )
    def test_an_argument_that_leads_nowhere(self, argument: str, complaint: str, tree: Path) -> None:
        (found,) = find_pictures([argument])
        assert isinstance(found, ImageError)
        assert str(found).startswith(f"{argument}: ")
        with pytest.raises(ImageError, match=complaint):
            raise found

    def test_arguments_keep_their_order(self, tree: Path) -> None:
        found = find_pictures(["x.jpg", "none*", "sub", "b.jpg", "x.jpg"])
        assert [p.path.name if isinstance(p, Picture) else None for p in found] == [
            "x.jpg", None, "d.png", "b.jpg", "x.jpg",
        ]  # fmt: skip

    def test_takes_arguments_one_at_a_time(self, tree: Path) -> None:
        # Paths from a pipe are looked at as they come.
        taken = []

        def arguments() -> Iterator[str]:
            for name in ("b.jpg", "x.jpg"):
                taken.append(name)
                yield name

        found = find_pictures(arguments())
        next(found)
        assert taken == ["b.jpg"]


class TestWriteImage:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "PNG"])
    def test_lossless_formats_come_back_as_they_were(self, suffix: str, tmp_path: Path) -> None:
        image = pictures.noise(33, 21, 0)
        write_image(tmp_path / f"a.{suffix}", image)
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), image)

    def test_jpeg_is_of_good_quality(self, tmp_path: Path) -> None:
        image = pictures.noise(320, 200, 0)
        write_image(tmp_path / "a.jpg", image)
        assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - image).mean() < 2

    @pytest.mark.parametrize(
        ("name", "size"),
        [("a.jpg", (70_000, 1)), ("a.webp", (20_000, 1)), ("a.nosuch", (4, 4)), ("a", (4, 4))],
    )
    def test_what_a_format_cannot_hold(self, name: str, size: tuple[int, int], tmp_path: Path) -> None:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        with pytest.raises(ImageError, match=f"{name}: OpenCV cannot write such a picture"):
            write_image(tmp_path / name, image)
        assert list(tmp_path.iterdir()) == []

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="cannot be written: No such file or directory"):
            write_image(tmp_path / "gone" / "a.png", pictures.noise(4, 4, 0))


class TestPictureFolder:
    IMAGE = pictures.noise(16, 12, 0)

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("a.jpg", "a.jpg"),
            ("sub/deep/a.PNG", "sub/deep/a.PNG"),
            # What OpenCV cannot write becomes PNG.
            ("notes.txt", "notes.txt.png"),
            ("a", "a.png"),
            (os.fsdecode(b"a.j\xffg"), os.fsdecode(b"a.j\xffg.png")),
            (os.fsdecode(b"\xff\xfe.jpg"), os.fsdecode(b"\xff\xfe.jpg")),
        ],
    )
    def test_saves_under_the_same_name(self, name: str, written: str, tmp_path: Path) -> None:
        folder = PictureFolder(tmp_path / "out")
        folder.save(Picture(Path("in.jpg"), Path(name)), self.IMAGE)
        assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [tmp_path / "out" / written]
        assert read_image(tmp_path / "out" / written).shape == self.IMAGE.shape

    def test_does_not_replace(self, tmp_path: Path) -> None:
        picture = Picture(Path("a.png"), Path("a.png"))
        (tmp_path / "a.png").write_bytes(b"precious")
        folder = PictureFolder(tmp_path)
        assert folder.check([picture]) == [tmp_path / "a.png"]
        with pytest.raises(ImageError, match="exists already and was not replaced"):
            folder.save(picture, self.IMAGE)
        assert (tmp_path / "a.png").read_bytes() == b"precious"
        PictureFolder(tmp_path, overwrite=True).save(picture, self.IMAGE)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), self.IMAGE)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
    def test_never_replaces_its_input(self, link: object, overwrite: bool, tmp_path: Path) -> None:
        source = tmp_path / "a.png"
        write_image(source, self.IMAGE)
        before = source.read_bytes()
        out = tmp_path
        if callable(link):
            out = tmp_path / "out"
            out.mkdir()
            link(out / "a.png", source)
        folder, picture = PictureFolder(out, overwrite), Picture(source, Path("a.png"))
        with pytest.raises(WrongUsageError, match="is the input itself"):
            folder.check([picture])
        with pytest.raises(ImageError, match="not replaced"):
            folder.save(picture, self.IMAGE[::-1])
        assert source.read_bytes() == before

    def test_two_pictures_of_one_name(self, tmp_path: Path) -> None:
        two = [Picture(Path(f"{folder}/a.jpg"), Path("a.jpg")) for folder in "xy"]
        with pytest.raises(WrongUsageError, match=r"x/a\.jpg and y/a\.jpg would both become .*a\.jpg"):
            PictureFolder(tmp_path).check(two)

    def test_one_picture_named_twice_is_no_collision(self, tmp_path: Path) -> None:
        assert PictureFolder(tmp_path).check([Picture(Path("x/a.jpg"), Path("a.jpg"))] * 2) == []

    def test_a_missing_input_is_not_the_output(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").touch()
        assert PictureFolder(tmp_path).check([Picture(Path("gone/a.jpg"), Path("a.jpg"))]) == [tmp_path / "a.jpg"]

    @pytest.mark.parametrize("name", ["x" * 255, "x" * 300 + ".jpg"])
    def test_a_name_too_long_to_write(self, name: str, tmp_path: Path) -> None:
        folder, picture = PictureFolder(tmp_path), Picture(Path("a.jpg"), Path(name))
        assert folder.check([picture]) == []
        with pytest.raises(ImageError, match="cannot be written: File name too long"):
            folder.save(picture, self.IMAGE)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_place_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "sub").touch()
        with pytest.raises(ImageError, match=r"a\.jpg: its folder cannot be made"):
            PictureFolder(tmp_path).save(Picture(Path("a.jpg"), Path("sub/a.jpg")), self.IMAGE)

    def test_a_folder_in_place_of_a_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").mkdir()
        with pytest.raises(ImageError, match=r"a\.jpg: cannot be written"):
            PictureFolder(tmp_path, overwrite=True).save(Picture(Path("a.jpg"), Path("a.jpg")), self.IMAGE)
        assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_an_empty_name_is_not_the_current_folder() -> None:
    (found,) = find_pictures([""])
    assert isinstance(found, ImageError)
    assert "empty name" in str(found)
