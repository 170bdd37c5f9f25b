"""Checkpoints that others published, by our names for them, and what was published about them.

Addresses, hashes and figures are those that the publishers state; where they state none, there is none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ssdcam.cache import WEIGHTS, cache_folder


@dataclass(frozen=True)
class Facts:
    """What one wants to know before one chooses a detector.

    Attributes:
        labels: whose classes it knows: ``voc``, ``coco``, ``face``.
        map: its mean average precision, 0 to 1, as published; None where nobody stated one.
        metric: what that was measured on, and how where it is not the usual for that data.
        licence: SPDX identifier; of published ones that of the code base they come from, as weights seldom have one.
    """

    labels: str
    map: float | None
    metric: str | None
    licence: str


@dataclass(frozen=True)
class Published:
    """A checkpoint that somebody else offers.

    Attributes:
        name: what ``-m`` takes.
        url: where it is.
        facts: about it.
        publisher: who offers it.
        family: whose format it has, a name of ``ssdcam.checkpoints.families``; None of a TensorFlow Lite file.
        sha256: the hash that its publisher states, whole or its beginning, in hexadecimal; None if there is none.
        megabytes: its size, in millions of bytes; None if it is not known.
    """

    name: str
    url: str
    facts: Facts
    publisher: str
    family: str | None
    sha256: str | None = None
    megabytes: float | None = None

    @property
    def path(self) -> Path:
        """Where it is kept, or will be: in the cache folder, under its publisher's name for it."""
        return cache_folder() / WEIGHTS / PurePosixPath(urlsplit(self.url).path).name


def _facts(labels: str, score: float | None, licence: str, metric: str | None = None) -> Facts:
    usual = {"voc": "VOC2007 test", "coco": "COCO val2017"}
    return Facts(labels, score, None if score is None else metric or usual[labels], licence)


_TORCH = "https://download.pytorch.org/models"
_AMDEGROOT = "https://s3.amazonaws.com/amdegroot-models"
_LUFFICC = "https://github.com/lufficc/SSD/releases/download/1.2"
_QFGAOHAO = "https://storage.googleapis.com/models-hao"
_MMDETECTION = "https://download.openmmlab.com/mmdetection/v2.0/ssd"
_NVIDIA = "https://api.ngc.nvidia.com/v2/models/nvidia/ssd_pyt_ckpt_amp/versions/20.06.0/files"
_LINZAER = "https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB/raw/master/models/pretrained"
_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-assets/tasks/testdata/metadata"
_FACES = "WIDER FACE val, medium"
_SOME_COCO = "COCO"  # on which part of it is not stated

# Of torchvision, names without the author.
PUBLISHED: dict[str, Published] = {
    published.name: published
    for published in (
        Published(
            "ssd300-vgg16-coco", f"{_TORCH}/ssd300_vgg16_coco-b556d3b4.pth", _facts("coco", 0.251, "BSD-3-Clause"),
            "torchvision", "torchvision-ssd300", "b556d3b4", 142.6,
        ),
        Published(
            "ssdlite320-mobilenet-v3-coco", f"{_TORCH}/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
            _facts("coco", 0.213, "BSD-3-Clause"), "torchvision", "torchvision-ssdlite320", "a79551df", 14.1,
        ),
        Published(
            "ssd300-vgg16-voc-amdegroot", f"{_AMDEGROOT}/ssd300_mAP_77.43_v2.pth", _facts("voc", 0.7743, "MIT"),
            "amdegroot/ssd.pytorch", "amdegroot",
        ),
        Published(  # the paper's own weights, from Caffe
            "ssd300-vgg16-voc-paper", f"{_AMDEGROOT}/ssd_300_VOC0712.pth", _facts("voc", 0.7726, "MIT"),
            "amdegroot/ssd.pytorch", "amdegroot-bgr",
        ),
        Published(
            "ssd300-vgg16-voc-lufficc", f"{_LUFFICC}/vgg_ssd300_voc0712.pth", _facts("voc", 0.777, "MIT"),
            "lufficc/SSD", "lufficc", megabytes=201,
        ),
        Published(
            "ssd512-vgg16-voc-lufficc", f"{_LUFFICC}/vgg_ssd512_voc0712.pth", _facts("voc", 0.807, "MIT"),
            "lufficc/SSD", "lufficc", megabytes=207,
        ),
        Published(
            "ssd300-vgg16-coco-lufficc", f"{_LUFFICC}/vgg_ssd300_coco_trainval35k.pth",
            _facts("coco", 0.252, "MIT", _SOME_COCO), "lufficc/SSD", "lufficc", megabytes=262,
        ),
        Published(
            "ssd512-vgg16-coco-lufficc", f"{_LUFFICC}/vgg_ssd512_coco_trainval35k.pth",
            _facts("coco", 0.290, "MIT", _SOME_COCO), "lufficc/SSD", "lufficc", megabytes=275,
        ),
        Published(
            "ssd300-vgg16-voc-qfgaohao", f"{_QFGAOHAO}/vgg16-ssd-mp-0_7726.pth", _facts("voc", 0.7726, "MIT"),
            "qfgaohao/pytorch-ssd", "vgg16-ssd",
        ),
        Published(
            "ssd300-mobilenet-v1-voc-qfgaohao", f"{_QFGAOHAO}/mobilenet-v1-ssd-mp-0_675.pth",
            _facts("voc", 0.6755, "MIT"), "qfgaohao/pytorch-ssd", "mb1-ssd",
        ),
        Published(
            "ssdlite300-mobilenet-v2-voc-qfgaohao", f"{_QFGAOHAO}/mb2-ssd-lite-mp-0_686.pth",
            _facts("voc", 0.6861, "MIT"), "qfgaohao/pytorch-ssd", "mb2-ssd-lite",
        ),
        Published(
            "ssd300-vgg16-coco-mmdetection", f"{_MMDETECTION}/ssd300_coco/ssd300_coco_20210803_015428-d231a06e.pth",
            _facts("coco", 0.255, "Apache-2.0", _SOME_COCO), "mmdetection", "mmdetection", "d231a06e",
        ),
        Published(
            "ssd512-vgg16-coco-mmdetection", f"{_MMDETECTION}/ssd512_coco/ssd512_coco_20210803_022849-0a47a1ca.pth",
            _facts("coco", 0.295, "Apache-2.0", _SOME_COCO), "mmdetection", "mmdetection", "0a47a1ca",
        ),
        Published(
            "ssd300-resnet50-coco-nvidia", f"{_NVIDIA}/nvidia_ssdpyt_amp_200703.pt", _facts("coco", None, "Apache-2.0"),
            "NVIDIA DeepLearningExamples", "nvidia-resnet50",
        ),
        Published(
            "ssd300-mobilenet-v1-coco-tensorflow",
            f"{_MEDIAPIPE}/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_no_metadata.tflite",
            _facts("coco", None, "Apache-2.0"), "TensorFlow, offered by MediaPipe", None,
            "e4b118e5e4531945de2e659742c7c590f7536f8d0ed26d135abcfe83b4779d13", 4.2,
        ),
        # Their hashes are of the files that ssdcam is tested with; their publisher states none.
        Published(
            "faces-slim", f"{_LINZAER}/version-slim-320.pth", _facts("face", 0.671, "MIT", _FACES),
            "Linzaer's Ultra-Light face detector", "ultralight-faces",
            "cd24abce45da5dbc7cfd8167cd3d5f955382dfc9d9ae9459f0026abd3c2e38a4", 1.1,
        ),
        Published(
            "faces-rfb", f"{_LINZAER}/version-RFB-320.pth", _facts("face", 0.698, "MIT", _FACES),
            "Linzaer's Ultra-Light face detector", "ultralight-faces",
            "c722b4427cc71642768baef6e15c659931b56f07425e5d2b0ec033ad41b145b3", 1.2,
        ),
    )
}  # fmt: skip

# About those that come along with ssdcam; their model cards say more.
EMBEDDED_FACTS: dict[str, Facts] = {
    "voc": Facts("voc", 0.601, "1,002 photos of VOC2007 trainval", "Apache-2.0"),
    "coco": Facts("coco", 0.157, "300 photos of COCO val2017", "Apache-2.0"),
}
