"""Pictures from and to files, through OpenCV: upright, 8 bits, three channels, whatever the file held."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from ssdcam.avif import decode_upright
from ssdcam.detections import Image
from ssdcam.errors import ImageError, UndecodableError
from ssdcam.files import exists, is_folder, is_hidden, same_file, write_whole, writing
from ssdcam.media.outputs import check_targets
from ssdcam.memory import why_unreadable

SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
"""What a folder is searched for. A file that is named is read whatever its suffix."""

ANIMATED = frozenset((".avif", ".gif", ".webp"))
"""Those of them that may hold a video."""


_LOOKED_AT = 10_000  # files of its folders, where a folder has none itself


@dataclass(frozen=True)
class Picture:
    """A picture to look at.

    Attributes:
        path: the file.
        name: where its results go below an output folder: its place below the folder or glob that it was found by, or
            its own file name.
    """

    path: Path
    name: Path


def find_pictures(
    arguments: Iterable[str], suffixes: Container[str] = SUFFIXES, what: str = "pictures"
) -> Iterator[Picture | ImageError]:
    """Files for command-line arguments: files, folders (not their subfolders) and globs.

    A name that exists is taken literally; ``**`` in a glob crosses folders. Hidden files, such as macOS's ``._a.jpg``,
    are taken where they are named.

    Args:
        arguments: as the user gave them.
        suffixes: what a folder is searched for.
        what: what to call it in messages.

    Yields:
        A picture, or the error of an argument that leads to none.
    """
    for argument in arguments:
        if not argument:  # as of a variable that is not set; a path would take it for the current folder
            yield ImageError("an empty name is no file")
            continue
        try:
            pictures = _find(argument, suffixes)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            yield ImageError(f"{argument}: {_reason(error)}")
            continue
        except RecursionError:
            yield ImageError(f"{argument}: leads through folders that lie too deep in one another; name one of them")
            continue
        if not pictures:
            yield ImageError(f"{argument}: {_why_none(Path(argument), suffixes, what)}")
        yield from pictures


def _why_none(path: Path, suffixes: Container[str], what: str) -> str:
    if not is_folder(path):
        return "matches no file"
    below = islice(path.rglob("*"), _LOOKED_AT)
    with suppress(OSError):
        if first := next((p for p in below if _is_meant(p, path, suffixes)), None):
            return f"holds no {what} itself; those of its folders: '{path / '**' / f'*{first.suffix}'}'"
    return f"holds no {what}"


def _find(argument: str, suffixes: Container[str]) -> list[Picture]:
    """The pictures of one argument; an OSError or ValueError if it cannot be looked at."""
    path = Path(argument)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if _is_meant(p, path, suffixes))
        root = path
    elif has_magic(argument) and not path.exists():
        found = sorted(p for p in map(Path, glob(argument, recursive=True)) if p.is_file())
        root = Path(*_fixed_parts(path))
    else:
        found, root = [path], path.parent
    return [Picture(p, _below(p.relative_to(root))) for p in found]


def _is_meant(path: Path, folder: Path, suffixes: Container[str]) -> bool:
    """Whether a file below a folder is one of those that it is named for; globs, too, pass over what is hidden."""
    return path.suffix.lower() in suffixes and not is_hidden(path, folder) and path.is_file()


def _below(name: Path) -> Path:
    """A name that leads nowhere but down, so that results stay below their folder."""
    return Path(name.name) if ".." in name.parts else name


def _fixed_parts(pattern: Path) -> Iterator[str]:
    """The folders of a glob before its first wildcard."""
    for part in pattern.parent.parts:
        if has_magic(part):
            return
        yield part


def read_image(path: Path) -> Image:
    """Read a picture.

    Orientation noted by a camera (EXIF) is applied; grey becomes BGR, 16 bits become 8, transparency is dropped, and
    of an animation the first frame is taken.

    Returns:
        uint8 ``(height, width, 3)``, BGR.

    Raises:
        ImageError: the file is missing, unreadable, empty or too large.
        UndecodableError: it is damaged, or no picture.
    """
    if exists(path) and not path.is_file() and not path.is_dir():  # a pipe or device might keep us waiting for ever
        raise ImageError(f"{path}: is no regular file")
    try:
        data = np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: {_reason(error)}") from error
    if len(data) == 0:
        raise ImageError(f"{path}: is empty")
    try:
        image = decode_upright(data)
    except cv2.error as error:
        raise ImageError(f"{path}: {_cv2_reason(error)}") from error
    if image is None:
        raise UndecodableError(f"{path}: {why_unreadable()}")
    return image


def write_image(path: Path, image: Image) -> None:
    """Write a picture in the format of its suffix (JPEG at quality 95), whole or not at all.

    Raises:
        ImageError: the format or the place cannot be written.
    """
    try:
        done, encoded = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    except cv2.error:  # an unknown suffix; a format's limits are told by `done`
        done = False
    if not done:
        raise ImageError(f"{path}: OpenCV cannot write such a picture of {image.shape[1]}x{image.shape[0]}")
    with writing(path, ImageError):
        write_whole(path, encoded.tobytes())


@dataclass(frozen=True)
class PictureFolder:
    """A folder that takes pictures under the names they came with.

    Attributes:
        folder: made when first needed, with the folders below it.
        overwrite: whether pictures that are there already may be replaced.
    """

    folder: Path
    overwrite: bool = False

    def target(self, picture: Picture) -> Path:
        """Where a picture goes; ``.png`` is added to a name whose format OpenCV cannot write."""
        name = picture.name
        # OpenCV crashes on a text that UTF-8 cannot encode, as the names of files may be.
        writable = name.suffix.isascii() and cv2.haveImageWriter(f"x{name.suffix}")
        return self.folder / (name if writable else name.with_name(f"{name.name}.png"))

    def check(self, pictures: Iterable[Picture]) -> list[Path]:
        """Look ahead; see :func:`ssdcam.media.outputs.check_targets`."""
        return check_targets((picture.path, self.target(picture)) for picture in pictures)

    def save(self, picture: Picture, image: Image) -> None:
        """Write a picture's new version.

        Raises:
            ImageError: it cannot be written, or may not replace what is there.
        """
        target = self.target(picture)
        if exists(target) and (not self.overwrite or same_file(target, picture.path)):
            raise ImageError(f"{target}: exists already and was not replaced (-y replaces it)")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{target}: its folder cannot be made: {error.strerror}") from error
        write_image(target, image)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _cv2_reason(error: cv2.error) -> str:
    if "MAX_IMAGE" in str(error):
        return "claims more pixels than the limit of 2^28, 268 million (OPENCV_IO_MAX_IMAGE_PIXELS raises it)"
    return why_unreadable()
