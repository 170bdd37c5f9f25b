"""Draw the pictures of README.md, docs/gallery.md and weights/README.md.

    python benchmarks/gallery.py -o docs/pictures [--shared ../shared]

What is drawn on: photos that scikit-image brings along and that anybody may use (astronaut: NASA, public domain;
chelsea and coffee: CC0), and from the folder of real media beside the clone a photo of tensorflow/tflite-support
(Apache-2.0) and frames of Intel's sample videos (CC BY 4.0). Wrong boxes stay.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

PHOTOS = ("astronaut", "chelsea", "coffee")
OF_COCO = "coffee"  # VOC has no name for a cup
CATS = "weights/coco_ssd_mobilenet_v1/cats_and_dogs.jpg"
# Name of the picture, video, seconds.
FRAMES = (
    ("bottles", "videos/bottle-detection.mp4", 5.0),
    ("person", "videos/one-by-one-person-detection.mp4", 35.0),
    ("car", "videos/car-detection.mp4", 5.0),
)
LEAD = ("person", "bottles")
LEAD_HEIGHT, GAP = 270, 8  # pixels
WIDEST = 900  # pixels


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[1].parent / "shared")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        for name in PHOTOS:
            cv2.imwrite(f"{folder}/{name}.jpg", getattr(data, name)()[..., ::-1])
        if given.shared.is_dir():
            cv2.imwrite(f"{folder}/cats-and-dogs.jpg", narrowed(cv2.imread(str(given.shared / CATS))))
            for name, video, seconds in FRAMES:
                cv2.imwrite(f"{folder}/{name}.jpg", frame_at(given.shared / video, seconds))
        else:
            print(f"{given.shared}: is not there; drawing {', '.join(PHOTOS)} alone", file=sys.stderr)
        for model, pictures in (("voc", folder), ("coco", f"{folder}/{OF_COCO}.jpg")):
            command = [sys.executable, "-m", "ssdcam", "image", pictures, "-m", model, "-o", f"{given.output}/", "-y"]
            subprocess.run(list(map(str, command)), check=True)
    if given.shared.is_dir():
        pictures = [cv2.imread(str(given.output / f"{name}.jpg")) for name in LEAD]
        cv2.imwrite(str(given.output / "lead.jpg"), side_by_side(pictures), [cv2.IMWRITE_JPEG_QUALITY, 90])


def frame_at(video: Path, seconds: float) -> NDArray[np.uint8]:
    """The first frame of a video at a time or after it."""
    with av.open(video) as container:
        return next(
            frame.to_ndarray(format="bgr24") for frame in container.decode(video=0) if (frame.time or 0.0) >= seconds
        )


def narrowed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of a width that pages show whole."""
    scale = min(1.0, WIDEST / image.shape[1])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def side_by_side(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in a row, of one height, with white between them."""
    gap = np.full((LEAD_HEIGHT, GAP, 3), 255, np.uint8)
    row: list[NDArray[np.uint8]] = []
    for picture in pictures:
        width = round(picture.shape[1] * LEAD_HEIGHT / picture.shape[0])
        row += [gap, cv2.resize(picture, (width, LEAD_HEIGHT), interpolation=cv2.INTER_AREA)]
    return np.hstack(row[1:])


if __name__ == "__main__":
    main()
