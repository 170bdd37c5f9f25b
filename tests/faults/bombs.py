"""Files of a few kilobytes that claim, or would unpack to, gigabytes; and others that nest without end."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from ssdcam.checkpoints.checkpoint import METADATA_KEY
from ssdcam.media.av import av

from ..datasets import made
from ..media import clips
from ..media.sources.videos import make_video

DEEP = 200_000
GIGABYTES = 40 * 2**30


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, width: int, height: int, bits: int = 8, kind: int = 2) -> None:
    """A whole PNG of zeros, written a row at a time."""
    row = bytes(1 + width * bits * {0: 1, 2: 3, 6: 4}[kind] // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))


def claiming_png(path: Path) -> None:
    """50,000 a side, and next to nothing in it."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(99))))


def claiming_jpeg(path: Path) -> None:
    """The largest size that a JPEG's header can say."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65535, 65535, 3) + b"\1\x11\0\2\x11\1\3\x11\1"
    path.write_bytes(
        b"\xff\xd8" + frame + b"\xff\xda" + struct.pack(">HB", 12, 3) + b"\1\0\2\x11\3\x11\0?\0" + bytes(99)
    )


def claiming_bmp(path: Path) -> None:
    path.write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def claiming_tiff(path: Path) -> None:
    """One tile of 30,000 a side in a picture of 100 x 100."""
    tags = [
        (256, 100),
        (257, 100),
        (258, 8),
        (259, 1),
        (262, 1),
        (277, 1),
        (322, 30_000),
        (323, 30_000),
        (324, 8),
        (325, 99),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))


def claiming_ppm(path: Path) -> None:
    path.write_bytes(b"P6 60000 60000 255\n" + bytes(999))


def claiming_gif(path: Path) -> None:
    path.write_bytes(
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0)
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\2\2\x4c\1\0;"
    )


def claiming_avi(path: Path) -> None:
    """JPEG pictures, each of which claims the largest size there is; the container says 96 x 72."""
    make_video(path, range(3), codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    at = data.find(b"\xff\xc0")
    while at >= 0:
        data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
        at = data.find(b"\xff\xc0", at + 1)
    path.write_bytes(data)


def claiming_y4m(path: Path) -> None:
    path.write_bytes(b"YUV4MPEG2 W30000 H30000 F25:1 C420jpeg\nFRAME\n" + bytes(999))


def claiming_ivf(path: Path) -> None:
    """VP9, whose every key frame says its size."""
    frame = b"\x82\x49\x83\x42\x00" + struct.pack(">HH", 65535, 65535) + bytes(99)
    path.write_bytes(
        b"DKIF"
        + struct.pack("<HHIHHIIII", 0, 32, 0x30395056, 65535, 65535, 25, 1, 1, 0)
        + struct.pack("<IQ", len(frame), 0)
        + frame
    )


def sound_with_a_hole(path: Path) -> None:
    """A second of sound, and more of it four days later; a container that takes it anew wants silence between."""
    clips.film(path, "libopus", seconds=1.0, layout="mono")
    later = path.with_name("later.mkv")
    with av.open(str(path)) as given, av.open(str(later), "w") as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if not packet.size:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 0.5:
                packet.pts += int(400_000 / packet.time_base)
                packet.dts = packet.pts
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    later.replace(path)


def zip_bomb(path: Path) -> None:
    """A state dict's archive that would unpack to gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\2}.")
        archive.writestr("archive/data/0", bytes(2**26))


def npz_bomb(path: Path) -> None:
    np.savez_compressed(path, **{"a/W": np.zeros(2**24, np.float32)})


def npy_that_claims(path: Path) -> None:
    """An array of 40 GB, of which the archive holds nothing."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (GIGABYTES // 4,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/W.npy", head.getvalue() + bytes(64))


def expanded_tensor(path: Path) -> None:
    """One number that says it is ten billion."""
    torch.save({"conf.0.bias": torch.zeros(1).expand(10**10)}, path)


def pickle_that_claims(path: Path) -> None:
    """PyTorch's old form, whose storage says that it is of 40 GB."""
    torch.save({"a": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    size = struct.pack("<q", 7)
    at = data.rindex(size)
    path.write_bytes(data[:at] + struct.pack("<q", GIGABYTES // 4) + data[at + 8 :])


def pickle_that_nests(path: Path) -> None:
    path.write_bytes(b"\x80\2" + b"(" * DEEP + b"t" * DEEP + b".")


def safetensors_that_claims(path: Path) -> None:
    head = json.dumps({"a": {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head)


def safetensors_head(path: Path) -> None:
    """A header of exabytes."""
    path.write_bytes(struct.pack("<Q", 2**60) + b'{"a":')


def spec_that_nests(path: Path) -> None:
    path.write_bytes(save({"a": np.zeros(1, np.float32)}, {METADATA_KEY: '{"format":' + "[" * DEEP}))


def caffemodel_that_nests(path: Path) -> None:
    """A blob whose shape multiplies to more than there is, with no data."""
    shape = b"\x3a\x0a\x0a\x08" + b"\xff\xff\xff\x7f" * 2
    blob = shape
    layer = b"\x0a\x01a\x3a" + bytes([len(blob)]) + blob
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)


def deep_coco(path: Path) -> None:
    path.write_bytes(b'{"images": ' + b"[" * DEEP)


def deep_jsonl(path: Path) -> None:
    path.mkdir()
    (path / "r.jsonl").write_bytes(b"[" * DEEP + b"\n")


def deep_xml(path: Path) -> None:
    path.mkdir()
    (path / "r.xml").write_bytes(b"<a>" * DEEP + b"</a>" * DEEP)


def laughing_xml(path: Path) -> None:
    """Entities that are made of entities: 10^10 words."""
    path.mkdir()
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))
    (path / "r.xml").write_text(f'<!DOCTYPE a [<!ENTITY e0 "ha">{entities}]><annotation>&e10;</annotation>')


def laughing_yaml(path: Path) -> None:
    """Names that are lists of lists: 9^12 words."""
    made.yolo(path)
    lists = "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12))
    (path / "data.yaml").write_text(f"a0: &a0 ha\n{lists}train: images/train\nnames: *a12\n")


def deep_yaml(path: Path) -> None:
    made.yolo(path)
    (path / "data.yaml").write_text("names: " + "[" * 5000)


def labels_without_end(path: Path) -> None:
    """A number that says there are a thousand million classes."""
    made.yolo(path)
    (path / "data.yaml").write_text("train: images/train\nnames: {999999999: cat}\n")


BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "claiming.png": ("image", claiming_png),
    "claiming.jpg": ("image", claiming_jpeg),
    "claiming.bmp": ("image", claiming_bmp),
    "claiming.tif": ("image", claiming_tiff),
    "claiming.ppm": ("image", claiming_ppm),
    "claiming.gif": ("image", claiming_gif),
    "claiming.avi": ("video", claiming_avi),
    "claiming.y4m": ("video", claiming_y4m),
    "claiming.ivf": ("video", claiming_ivf),
    "bomb.pth": ("checkpoint", zip_bomb),
    "bomb.npz": ("checkpoint", npz_bomb),
    "claiming.npz": ("checkpoint", npy_that_claims),
    "expanded.pth": ("checkpoint", expanded_tensor),
    "claiming.pth": ("checkpoint", pickle_that_claims),
    "nested.pth": ("checkpoint", pickle_that_nests),
    "claiming.safetensors": ("checkpoint", safetensors_that_claims),
    "head.safetensors": ("checkpoint", safetensors_head),
    "nested.safetensors": ("checkpoint", spec_that_nests),
    "claiming.caffemodel": ("checkpoint", caffemodel_that_nests),
    "deep.json": ("dataset", deep_coco),
    "laughing_yaml": ("dataset", laughing_yaml),
    "deep_yaml": ("dataset", deep_yaml),
    "many_labels": ("dataset", labels_without_end),
    "jsonl": ("records", deep_jsonl),
    "voc": ("records", laughing_xml),
}
"""By the name of the file or folder: how it is read, and what makes it."""
