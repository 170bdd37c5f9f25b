"""Data sets in the layouts of VOC, COCO and YOLO, told apart by looking."""

from ssdcam.datasets.aliases import match_labels
from ssdcam.datasets.dataset import Dataset, Sample, coco_file, dataset_splits, open_dataset
from ssdcam.datasets.pictures import check_images, read_picture
from ssdcam.errors import DatasetError

__all__ = [
    "Dataset",
    "DatasetError",
    "Sample",
    "check_images",
    "coco_file",
    "dataset_splits",
    "match_labels",
    "open_dataset",
    "read_picture",
]
