"""What a ``.prototxt`` says of an SSD that its weights do not: input size, default boxes, coder, NMS figures.

Default boxes are those of the PriorBox layers of weiliu89/caffe, branch ssd.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from ssdcam.checkpoints.caffe_messages import text_messages
from ssdcam.errors import CheckpointError
from ssdcam.ssd.default_boxes import BoxLayout, FeatureMapBoxes, Shape
from ssdcam.ssd.spec import NO_LIMIT, BoxCoding, NmsFigures

_LARGEST_FILE = 4_000_000  # bytes; SSD512's has 40,000
_LARGEST_SIDE = 8192  # pixels
_NAME = "deploy.prototxt"


@dataclass(frozen=True)
class PriorBoxes:
    """The default boxes of one feature map.

    Attributes:
        shapes: width and height of each in pixels of the network's input.
        step: distance of centres along x and y in pixels; None spreads them evenly.
        clip: whether they are clipped to the picture.
        variances: of ``dx, dy, dw, dh``.
        image: the size that pixels refer to, height and width; None is the network's input.
    """

    shapes: tuple[Shape, ...]
    step: tuple[float, float] | None
    clip: bool
    variances: tuple[float, float, float, float]
    image: tuple[int, int] | None


@dataclass(frozen=True)
class Description:
    """A network's ``.prototxt``.

    Attributes:
        path: the file.
        input_size: height and width; None if it does not say.
        priors: default boxes by the name of the feature map that they are laid on.
        columns: of the scores; None if it does not say.
        nms: its figures; None if it does not say.
        variances_in_target: whether the network speaks of boxes without variances.
    """

    path: Path
    input_size: tuple[int, int] | None
    priors: Mapping[str, PriorBoxes]
    columns: int | None
    nms: NmsFigures | None
    variances_in_target: bool

    def layout(
        self, sources: Sequence[str], input_size: tuple[int, int], map_sizes: Sequence[tuple[int, int]]
    ) -> BoxLayout:
        """The default boxes of a network.

        Args:
            sources: names of its feature maps, finest first.
            input_size: height and width of its input in pixels.
            map_sizes: rows and columns of each feature map.

        Raises:
            ValueError: there are none for one of the feature maps, or some for another.
        """
        if set(sources) != self.priors.keys():
            odd = min(set(sources) ^ self.priors.keys())
            raise ValueError(f"it has PriorBox layers for {', '.join(self.priors)}, which does not suit {odd}")
        if len({self.priors[source].clip for source in sources}) > 1:
            raise ValueError("it clips the default boxes of some feature maps only")
        maps = []
        for source, (rows, columns) in zip(sources, map_sizes, strict=True):
            prior = self.priors[source]
            height, width = prior.image or input_size
            step = (1 / columns, 1 / rows) if prior.step is None else (prior.step[0] / width, prior.step[1] / height)
            shapes = tuple((w / width, h / height) for w, h in prior.shapes)
            maps.append(FeatureMapBoxes(rows, columns, shapes, step))
        return BoxLayout(tuple(maps), "corners" if self.priors[sources[0]].clip else "none")

    @property
    def coding(self) -> BoxCoding:
        """The box coder's figures.

        Raises:
            ValueError: they differ among the feature maps.
        """
        if self.variances_in_target:
            return BoxCoding((1, 1, 1, 1))
        variances = {prior.variances for prior in self.priors.values()}
        if len(variances) > 1:
            raise ValueError("its feature maps have different variances")
        return BoxCoding(variances.pop())


def find_prototxt(caffemodel: Path) -> Path | None:
    """The file that describes a ``.caffemodel``: of the same name, or ``deploy.prototxt`` beside it."""
    candidates = (caffemodel.with_suffix(".prototxt"), caffemodel.with_name(_NAME))
    return next((path for path in candidates if path.is_file()), None)


def read_prototxt(path: Path) -> Description | None:
    """Read a description; None if it is not one of an SSD: it has no PriorBox layers.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or asks for what ssdcam does not do.
        UnavailableError: the ``protobuf`` package is not installed.
    """
    net = _parse(path)
    priors = {}
    try:
        for layer in net.layer:
            if layer.type == "PriorBox":
                if not layer.bottom:
                    raise ValueError(f"its layer {layer.name} has no bottom")
                priors[layer.bottom[0]] = _priors(layer.prior_box_param)
        if not priors:
            return None
        outputs = [layer.detection_output_param for layer in net.layer if layer.type == "DetectionOutput"]
        output = outputs[-1] if outputs else None
        if output is not None:
            _refuse_others(output)
        return Description(
            path=path,
            input_size=_input_size(net),
            priors=priors,
            columns=output.num_classes if output is not None else None,
            nms=_nms(output) if output is not None else None,
            variances_in_target=bool(output is not None and output.variance_encoded_in_target),
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _parse(path: Path) -> Any:
    messages = text_messages(path)
    from google.protobuf import text_format

    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CheckpointError(f"{path}: is too large for a .prototxt")
        text = path.read_text("utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise CheckpointError(f"{path}: is no text") from error
    try:
        return text_format.Parse(text, messages["Net"](), allow_unknown_field=True)
    except (text_format.ParseError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "damaged"
        raise CheckpointError(f"{path}: is no .prototxt: {reason}") from error


def _priors(param: Any) -> PriorBoxes:
    """The rule of Caffe's PriorBox layer: for each size a square, one between it and the next, then the ratios."""
    if abs(param.offset - 0.5) > 1e-6:
        raise ValueError(f"its default boxes are not centred in their cells, but at {param.offset:g}")
    if param.max_size and len(param.max_size) != len(param.min_size):
        raise ValueError(f"it has {len(param.min_size)} min_size for {len(param.max_size)} max_size")
    ratios = [_exact(ratio) for ratio in param.aspect_ratio]
    if not all(0 < ratio < 1e6 for ratio in ratios):
        raise ValueError("an aspect_ratio is not positive")
    variance = tuple(map(_exact, param.variance)) or (0.1,)
    if len(variance) not in (1, 4):
        raise ValueError(f"it has {len(variance)} variances")
    width, height = param.img_w or param.img_size, param.img_h or param.img_size
    step = (param.step_w or param.step, param.step_h or param.step)
    return PriorBoxes(
        shapes=tuple(_shapes(list(map(_exact, param.min_size)), list(map(_exact, param.max_size)), ratios, param.flip)),
        step=(_exact(step[0]), _exact(step[1])) if all(step) else None,
        clip=param.clip,
        variances=variance * 4 if len(variance) == 1 else variance,  # type: ignore[arg-type]  # one or four of them
        image=(height, width) if width and height else None,
    )


def _shapes(smallest: list[float], largest: list[float], ratios: list[float], flip: bool) -> Iterator[Shape]:
    wanted = [1.0]
    for ratio in ratios:
        if all(abs(ratio - other) > 1e-6 for other in wanted):
            wanted += [ratio, 1 / ratio] if flip else [ratio]
    for k, size in enumerate(smallest):
        yield size, size
        if largest:
            between = sqrt(max(0, size * largest[k]))
            yield between, between
        for ratio in wanted[1:]:
            yield size * sqrt(ratio), size / sqrt(ratio)


def _exact(value: float) -> float:
    """A number as it was written: a float32 has at most nine digits of it, and six are sure."""
    return float(f"{value:.7g}")


def _refuse_others(output: Any) -> None:
    center_size = 2
    if output.code_type != center_size:
        raise ValueError(
            "its boxes are not coded by centre and size (code_type: CENTER_SIZE), which is all ssdcam reads"
        )
    if not output.share_location:
        raise ValueError("it predicts boxes for each class (share_location: false), which ssdcam does not")
    if output.background_label_id != 0:
        raise ValueError(f"its background is class {output.background_label_id}, where ssdcam reads class 0")
    if output.nms_param.eta != 1:
        raise ValueError("its NMS is adaptive (eta), which ssdcam's is not")


def _nms(output: Any) -> NmsFigures:
    before, after = output.nms_param.top_k, output.keep_top_k
    return NmsFigures(
        iou=_exact(output.nms_param.nms_threshold),
        before=before if before > 0 else NO_LIMIT,
        after=after if after > 0 else NO_LIMIT,
    )


def _input_size(net: Any) -> tuple[int, int] | None:
    shapes = [list(shape.dim) for shape in net.input_shape] + [list(net.input_dim)]
    for layer in net.layer:
        shapes += [list(shape.dim) for shape in layer.input_param.shape]
    for shape in shapes:
        if len(shape) >= 4 and shape[1] == 3:
            return _sensible(shape[2], shape[3])
    for layer in net.layer:
        resize = layer.transform_param.resize_param
        if resize.height and resize.width:
            return _sensible(resize.height, resize.width)
    return None


def _sensible(height: int, width: int) -> tuple[int, int]:
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
        raise ValueError(f"its input of {width}x{height} pixels is no picture")
    return height, width
