"""Draw the pictures of weights/README.md.

    python benchmarks/card_pictures.py -o docs/pictures

On photos that scikit-image brings along and that anybody may use: astronaut (NASA, public domain), chelsea and coffee
(CC0).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
from skimage import data

PHOTOS = {"astronaut": "voc", "chelsea": "voc", "coffee": "coco"}
"""By the detector that draws them."""


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        for name, model in PHOTOS.items():
            photo = Path(folder, f"{name}.jpg")
            cv2.imwrite(str(photo), getattr(data, name)()[..., ::-1])
            command = [sys.executable, "-m", "ssdcam", "image", photo, "-m", model, "-o", f"{given.output}/", "-y"]
            subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    main()
