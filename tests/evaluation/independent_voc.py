"""VOC2007's mean average precision, 11-point at IoU 0.5, written apart from ssdcam.evaluation and shared with nothing.

    python independent_voc.py VOC_FOLDER -m detect.tflite

What `ssdcam eval --metric voc07` says is compared with what this says.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import ssdcam
from ssdcam.checkpoints.labels import VOC
from ssdcam.ssd.host import pairwise_iou

VOC_OF_COCO = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}


@dataclass(frozen=True)
class Truth:
    """Ground-truth boxes ``(N, 4)`` of one class in one photo, and which of them count neither way."""

    boxes: NDArray[np.float64]
    difficult: NDArray[np.bool_]


def read_truths(annotation: Path) -> dict[str, Truth]:
    """The ground truths of a photo by class. VOC counts pixels from 1; ours are edges counted from 0."""
    boxes = defaultdict(list)
    difficult = defaultdict(list)
    for item in ET.parse(annotation).getroot().iter("object"):  # the data set is trusted
        name = item.findtext("name", "")
        corners = [float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
        boxes[name].append([corners[0] - 1, corners[1] - 1, corners[2], corners[3]])
        difficult[name].append(item.findtext("difficult", "0") == "1")
    return {name: Truth(np.array(boxes[name]), np.array(difficult[name])) for name in boxes}


def average_precision(hits: NDArray[np.bool_], num_truths: int) -> float:
    """Mean of the best precision at recall 0, 0.1, ..., 1, of detections by falling score."""
    true_positives = np.cumsum(hits)
    recall = true_positives / num_truths
    precision = true_positives / np.arange(1, len(hits) + 1)
    return float(np.mean([max(precision[recall >= level], default=0.0) for level in np.linspace(0, 1, 11)]))


def main() -> None:
    """Evaluate and print a line a class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model")
    parser.add_argument("--split", default="val")
    parser.add_argument("--score", type=float, default=0.01)
    parser.add_argument("--iou", type=float)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limit", type=int, help="only the first photos")
    options = parser.parse_args()

    detector = ssdcam.load(options.model, score=options.score, iou=options.iou, precision=options.precision)
    ids = (options.data / "ImageSets" / "Main" / f"{options.split}.txt").read_text().split()[: options.limit]
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    num_truths: dict[str, int] = defaultdict(int)
    for photo in ids:
        truths = read_truths(options.data / "Annotations" / f"{photo}.xml")
        for name, truth in truths.items():
            num_truths[name] += int((~truth.difficult).sum())
        image = cv2.imread(str(options.data / "JPEGImages" / f"{photo}.jpg"))
        detections = detector.detect(np.asarray(image, np.uint8))
        taken = {name: np.zeros(len(truth.boxes), bool) for name, truth in truths.items()}
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            name = VOC_OF_COCO.get(label, label)
            if name not in truths:
                found[name].append((float(score), False))
                continue
            overlaps = pairwise_iou(box[None].astype(np.float64), truths[name].boxes)[0]
            best = int(overlaps.argmax())
            matched = overlaps[best] >= 0.5
            if matched and truths[name].difficult[best]:
                continue
            found[name].append((float(score), bool(matched and not taken[name][best])))
            taken[name][best] |= matched
    precisions = {}
    for name in VOC:
        hits = np.array([hit for _, hit in sorted(found[name], key=lambda pair: -pair[0])], bool)
        precisions[name] = average_precision(hits, num_truths[name]) if num_truths[name] else float("nan")
        print(f"{name:12} {precisions[name]:.4f}  {num_truths[name]:5} ground truths")
    print(f"{'mAP':12} {np.nanmean(list(precisions.values())):.4f}  {len(ids):5} photos")


if __name__ == "__main__":
    main()
