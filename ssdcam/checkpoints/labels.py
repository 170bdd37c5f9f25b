"""Names of the classes that published detectors were trained on, and label files."""

from __future__ import annotations

from pathlib import Path

from ssdcam.errors import CheckpointError
from ssdcam.files import read_small

VOC = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor".split()
)

# COCO numbers its 80 categories from 1 to 90 and leaves ten numbers out.
_COCO_90 = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")

COCO = tuple(name for name in _COCO_90 if name)
COCO_WITH_GAPS = tuple(name or f"unused {number}" for number, name in enumerate(_COCO_90, 1))


def read_labels(path: Path) -> tuple[str, ...]:
    """Names from a text file, one a line, in the order of the class ids.

    Raises:
        CheckpointError: the file cannot be read or holds no names.
    """
    try:
        lines = read_small(path).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no UTF-8 text") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise CheckpointError(f"{path}: holds no names")
    return tuple(name or f"class {i}" for i, name in enumerate(names))


def without_background(names: tuple[str, ...], known: int) -> tuple[str, ...]:
    """Names of a model's classes, less the background where it is listed first and makes them one more than there are.

    So are the files that qfgaohao's and NVIDIA's code writes beside a checkpoint, and TensorFlow's label maps.
    """
    if len(names) == known + 1 and (names[0] == "???" or names[0].strip("_").lower() == "background"):
        return names[1:]
    return names
