"""Whole files to damage: small ones of every kind that is read, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ..checkpoints.families import networks
from ..checkpoints.families.layers import Layers, caffemodel
from ..datasets import made
from ..media import clips
from ..media.sources.videos import make_video
from ..pictures import noise
from ..records import samples

_CONTAINERS = {
    "plain.mp4": {},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h265.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg4.mov": {"codec": "mpeg4"},
    "h264.ts": {},
    "flv1.flv": {"codec": "flv1"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "raw.y4m": {"codec": "rawvideo", "options": {}},
}


def pictures(folder: Path) -> list[Path]:
    """A photo in every format."""
    photo = noise(80, 60, 1)
    wide = photo.astype(np.uint16) * 257
    rgb = Image.fromarray(np.ascontiguousarray(photo[..., ::-1]))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.bmp", "a.ppm", "a.webp", "a.jp2", "a.tif"):
        cv2.imwrite(str(folder / name), photo)
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(folder / name), wide)
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.save(folder / "progressive.jpg", progressive=True)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.png")
    rgb.save(folder / "animated.gif", save_all=True, append_images=[rgb.rotate(90)] * 2)
    rgb.save(folder / "animated.webp", save_all=True, append_images=[rgb.rotate(90)] * 2)
    rgb.save(folder / "turned.avif", exif=exif)
    return sorted(folder.iterdir())


def videos(folder: Path) -> list[Path]:
    """A dozen frames in every container; one with sound."""
    for name, recipe in _CONTAINERS.items():
        make_video(folder / name, range(12), **recipe)
    clips.film(folder / "sound.mp4", seconds=0.6)
    clips.film(folder / "sound.mkv", "libopus", seconds=0.6)
    return sorted(folder.iterdir())


def checkpoints(folder: Path, ours: Path) -> list[Path]:
    """A detector in every kind of file that can hold one and is small."""
    layers = Layers()
    with torch.inference_mode():
        networks.faces(layers, torch.zeros(1, 3, 240, 320))
    state = {key: tensor.clone() for key, tensor in layers.arrays.items()}
    (folder / "ours.safetensors").write_bytes(ours.read_bytes())
    save_file(state, folder / "foreign.safetensors")
    torch.save(state, folder / "zip.pth")
    torch.save({"state_dict": state}, folder / "pickle.pth", _use_new_zipfile_serialization=False)
    np.savez(folder / "arrays.npz", **{key: tensor.numpy() for key, tensor in state.items()})
    kinds = {key: tensor for key, tensor in state.items() if key.endswith((".weight", ".bias"))}
    (folder / "net.caffemodel").write_bytes(caffemodel(kinds))
    (folder / "old.caffemodel").write_bytes(caffemodel(kinds, old=True))
    return sorted(folder.iterdir())


def datasets(folder: Path) -> list[Path]:
    """A data set in each layout."""
    return [make(folder / name) for name, make in made.LAYOUTS.items()]


def records(folder: Path) -> list[Path]:
    """The same records in each format, in a folder each."""
    found = [samples.record(f"{n}.jpg", samples.TWO, frame=i, time=i / 25) for i, n in enumerate("abc")]
    for kind in samples.FORMATS:
        (folder / kind).mkdir(parents=True)
        samples.write(f"{kind}:{folder / kind}" if kind in ("voc", "yolo") else folder / kind / f"r.{kind}", found)
    return sorted(folder.iterdir())


Maker = Callable[[Path], list[Path]]
