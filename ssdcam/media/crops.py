"""Each object cut out of its picture into a file of its own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdcam.errors import ImageError
from ssdcam.media.images import write_image
from ssdcam.records import Record
from ssdcam.records.names import FileNames

_LONGEST_LABEL = 40  # bytes; with the picture's name, a digest and numbers, file systems' 255 are not reached


class CropFolder:
    """A folder that takes crops.

    A crop's name is its picture's, or its video's and the frame's number, then its rank by score and its label:
    ``dog_0_poodle.jpg``, ``street_000007_2_car.jpg``.

    Args:
        folder: made when first needed.

    Attributes:
        written: whether a crop was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = False
        self._names = FileNames()

    def save(self, record: Record, image: NDArray[np.uint8]) -> None:
        """Write the crops of one picture or frame as JPEG.

        Args:
            record: what was found.
            image: uint8 ``(height, width, 3)``, BGR, without anything drawn into it.

        Raises:
            ImageError: one cannot be written.
        """
        if not len(record.detections):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{self.folder}: cannot be made: {error.strerror}") from error
        name = self._names.name(record)
        corners = np.concatenate(
            [np.floor(record.detections.boxes[:, :2]), np.ceil(record.detections.boxes[:, 2:])], axis=1
        ).astype(int)
        for rank, ((x1, y1, x2, y2), label) in enumerate(zip(corners.tolist(), record.detections.labels, strict=True)):
            write_image(self.folder / f"{name}_{rank}_{_as_name(label)}.jpg", image[y1:y2, x1:x2])
            self.written = True


def _as_name(label: str) -> str:
    """A label as a part of a file's name."""
    safe = re.sub(r"[^\w-]+", "-", label).encode()[:_LONGEST_LABEL]
    return safe.decode("utf-8", "ignore").strip("-") or "object"
