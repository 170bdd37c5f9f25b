"""How good a detector is: VOC's and COCO's average precision, and what it takes for what."""

from ssdcam.evaluation.confusion import Confusion, confuse
from ssdcam.evaluation.evaluate import METRICS, ClassResult, Evaluation, Metric, evaluate
from ssdcam.evaluation.pairing import Pairing, pair
from ssdcam.evaluation.voc import average_precision

__all__ = [
    "METRICS",
    "ClassResult",
    "Confusion",
    "Evaluation",
    "Metric",
    "Pairing",
    "average_precision",
    "confuse",
    "evaluate",
    "pair",
]
