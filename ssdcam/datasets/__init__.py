"""Data sets in the layouts of VOC, COCO and YOLO, told apart by looking."""

from ssdcam.datasets.dataset import Dataset, DatasetError, Sample, dataset_splits, open_dataset

__all__ = ["Dataset", "DatasetError", "Sample", "dataset_splits", "open_dataset"]
