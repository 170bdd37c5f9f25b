"""Choose the ranges that the embedded detectors have in int8, and write their networks for OpenVINO.

    python benchmarks/quantise_embedded.py --coco DATA --voc DATA -o weights/int8

DATA: COCO with train.json, VOC with the set train. Of either, 150 photos are drawn for `coco`, and 300 of VOC's for
`voc`; none of those that accuracy is measured on is among them. A file is named by the weights that it was made from:
after training, it has to be made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssdcam.checkpoints.resolve import EMBEDDED, open_checkpoint
from ssdcam.datasets.dataset import open_dataset
from ssdcam.datasets.pictures import read_picture
from ssdcam.detection.detector import CALIBRATION_PICTURES, calibration_batch
from ssdcam.detection.int8 import quantise
from ssdcam.detection.no_reports import import_quietly
from ssdcam.detection.openvino_conversion import convert
from ssdcam.detection.openvino_networks import network_name
from ssdcam.detections import Image


def drawn(data: Path, count: int) -> Iterator[Image]:
    """Some of a data set's training photos, always the same."""
    samples = open_dataset(data, "train").samples
    for place in np.sort(np.random.default_rng(0).choice(len(samples), count, replace=False)):
        yield read_picture(samples[place])


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    given = parser.parse_args()
    shares = {"voc": {given.voc: 1.0}, "coco": {given.coco: 0.5, given.voc: 0.5}}
    given.output.mkdir(parents=True, exist_ok=True)
    for old in (*given.output.glob("*.xml"), *given.output.glob("*.bin")):
        old.unlink()
    for name in EMBEDDED:
        checkpoint = open_checkpoint(name)
        photos = (
            photo for data, share in shares[name].items() for photo in drawn(data, round(CALIBRATION_PICTURES * share))
        )
        path = given.output / f"{network_name(checkpoint)}.xml"
        model = quantise(convert(checkpoint), calibration_batch(photos, checkpoint.spec))
        import_quietly("openvino").save_model(model, path, compress_to_fp16=False)
        print(f"{name}: {path}")


if __name__ == "__main__":
    main()
