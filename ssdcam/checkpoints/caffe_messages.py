"""The few of Caffe's messages that an SSD is read from, described to protobuf at run time.

Names and numbers of fields are facts of Caffe's file formats. In binary files, messages inside messages are taken as
bytes, which are the same on disk: so protobuf reads one level at a time, and a file cannot make it hold many objects.
Text files are small, and read whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ssdcam.errors import UnavailableError


class _Field(NamedTuple):
    """A field: its number, its type (another message's name counts), whether it repeats, and its default."""

    number: int
    type: str
    repeated: bool = False
    default: str = ""


_BINARY: Mapping[str, Mapping[str, _Field]] = {
    "Net": {"layer": _Field(100, "bytes", True)},
    "Layer": {"name": _Field(1, "string"), "blobs": _Field(7, "bytes", True)},
    "Blob": {
        "num": _Field(1, "int32", default="1"),  # sides before Caffe had shapes
        "channels": _Field(2, "int32", default="1"),
        "height": _Field(3, "int32", default="1"),
        "width": _Field(4, "int32", default="1"),
        "data": _Field(5, "bytes"),  # packed floats
        "shape": _Field(7, "bytes"),
    },
    "Shape": {"dim": _Field(1, "int64", True)},
}

_TEXT: Mapping[str, Mapping[str, _Field]] = {
    "Net": {
        "input_dim": _Field(4, "int32", True),
        "input_shape": _Field(8, "Shape", True),
        "layer": _Field(100, "Layer", True),
    },
    "Shape": {"dim": _Field(1, "int64", True)},
    "Layer": {
        "name": _Field(1, "string"),
        "type": _Field(2, "string"),
        "bottom": _Field(3, "string", True),
        "transform_param": _Field(100, "Transform"),
        "input_param": _Field(143, "Input"),
        "prior_box_param": _Field(203, "PriorBox"),
        "detection_output_param": _Field(204, "DetectionOutput"),
    },
    "Input": {"shape": _Field(1, "Shape", True)},
    "Transform": {"resize_param": _Field(8, "Resize")},
    "Resize": {"height": _Field(3, "uint32"), "width": _Field(4, "uint32")},
    "PriorBox": {
        "min_size": _Field(1, "float", True),
        "max_size": _Field(2, "float", True),
        "aspect_ratio": _Field(3, "float", True),
        "flip": _Field(4, "bool", default="true"),
        "clip": _Field(5, "bool"),
        "variance": _Field(6, "float", True),
        "img_size": _Field(7, "uint32"),
        "img_h": _Field(8, "uint32"),
        "img_w": _Field(9, "uint32"),
        "step": _Field(10, "float"),
        "step_h": _Field(11, "float"),
        "step_w": _Field(12, "float"),
        "offset": _Field(13, "float", default="0.5"),
    },
    "DetectionOutput": {
        "num_classes": _Field(1, "uint32"),
        "share_location": _Field(2, "bool", default="true"),
        "background_label_id": _Field(3, "int32"),
        "nms_param": _Field(4, "Nms"),
        "code_type": _Field(6, "Code", default="CORNER"),
        "keep_top_k": _Field(7, "int32", default="-1"),
        "variance_encoded_in_target": _Field(8, "bool"),
    },
    "Nms": {
        "nms_threshold": _Field(1, "float", default="0.3"),
        "top_k": _Field(2, "int32", default="-1"),
        "eta": _Field(3, "float", default="1"),
    },
}
_CODES = {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3}


def binary_messages(path: Path) -> Mapping[str, Any]:
    """Classes of the messages of a ``.caffemodel``.

    Raises:
        UnavailableError: the ``protobuf`` package is not installed; the message names the file.
    """
    return _classes(path, "binary")


def text_messages(path: Path) -> Mapping[str, Any]:
    """Classes of the messages of a ``.prototxt``; see :func:`binary_messages`."""
    return _classes(path, "text")


def _classes(path: Path, package: str) -> Mapping[str, Any]:
    try:
        import_module("google.protobuf")
    except ImportError as error:
        raise UnavailableError(
            f"{path}: reading Caffe's files needs the protobuf package: pip install 'ssdcam[caffe]'"
        ) from error
    return _define(package)


@cache
def _define(package: str) -> Mapping[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    messages = _BINARY if package == "binary" else _TEXT
    kinds = descriptor_pb2.FieldDescriptorProto
    prefix = f"ssdcam.caffe.{package}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{prefix}.proto", package=prefix, syntax="proto2")
    file.enum_type.add(name="Code").value.extend(
        descriptor_pb2.EnumValueDescriptorProto(name=name, number=number) for name, number in _CODES.items()
    )
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for name, one in fields.items():
            field = message.field.add(name=name, number=one.number)
            field.label = kinds.LABEL_REPEATED if one.repeated else kinds.LABEL_OPTIONAL
            if one.type in messages or one.type == "Code":
                field.type = kinds.TYPE_ENUM if one.type == "Code" else kinds.TYPE_MESSAGE
                field.type_name = f".{prefix}.{one.type}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{one.type.upper()}")
            if one.default:
                field.default_value = one.default
    pool = descriptor_pool.DescriptorPool()  # not the common one: another package may know Caffe's messages, too
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{prefix}.{name}")) for name in messages}
