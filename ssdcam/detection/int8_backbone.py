"""VGG-16 in 8-bit integers with four ninths of the products, by ``int8_backbone.c``; without torch.

OpenVINO's int8 takes all products, as fast as the instructions allow. Transformed and multiplied some dozens of windows
at a time, which no library of convolutions and matrix products does, they take three fifths of that.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdcam.cpu import cpu_features, usable_threads
from ssdcam.detection.compiling import library
from ssdcam.ssd.spec import ModelSpec

BLOCK = 64
"""Channels that are computed together."""

LINE = 12
"""Bytes of a line of the first convolution's kernel: three pixels, and three bytes of padding."""

_SOURCE = Path(__file__).with_suffix(".c")
# What a CPU must have, by Linux's names, and how compilers are told that it has; the best first.
_INSTRUCTIONS = {
    ("avx512f", "avx512bw", "avx512vl", "avx512_vnni"): ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
    ("avx2", "fma", "avx_vnni"): ("-mavx2", "-mfma", "-mavxvnni"),
}
_ARCHITECTURES = frozenset({"ssd300-vgg16", "ssd512-vgg16"})
_MOST_TOGETHER = 16  # threads of one picture, whose coarsest map has work for no more
_ALIGNED = 64  # bytes; vectors that lie across two lines of the cache took a third longer


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution with its ReLU, and perhaps a pool of 2x2 cells behind it.

    Attributes:
        height: of its maps, in cells.
        width: likewise.
        channels: of its input, a multiple of 64; 3 for the first.
        outputs: channels of its output, a multiple of 64.
        pooled_height: of the map behind the pool; 0 where there is none.
        pooled_width: likewise.
        kept: 1 where others read its map, before the pool; else 0.
    """

    height: int
    width: int
    channels: int
    outputs: int
    pooled_height: int = 0
    pooled_width: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Weights:
    """All that is computed with.

    Attributes:
        layers: each reads the map of the one before; the first is neither kept nor pooled, the last one is kept.
        arrays: of each layer, in its order: ``to_bytes`` int16 ``(16, channels)``, factors of what windows are at the
            points, in 1/32768; ``kernels`` int8 ``(outputs / 64, 16, channels / 4, 64, 4)`` with channels in the order
            of :func:`packed`; ``starts`` int32 ``(outputs / 64, 16, 64)``, of sums, less 128 times the kernels' own;
            ``scales`` float32 likewise, from sums to levels of the output; ``biases`` float32 ``(outputs,)`` in those.
            The first layer has one point, kernels of ``3 * 12`` bytes, and no ``to_bytes``.
        padding: uint8 ``(3,)``, the pixel around a picture.
        steps: of the kept maps, in their order: what a level is worth.
    """

    layers: tuple[Layer, ...]
    arrays: tuple[Mapping[str, NDArray[Any]], ...]
    padding: NDArray[np.uint8]
    steps: tuple[float, ...]

    @property
    def kept_shapes(self) -> list[tuple[int, int, int]]:
        """Of the kept maps: height, width and channels."""
        return [(layer.height, layer.width, layer.outputs) for layer in self.layers if layer.kept]

    def write(self, path: Path) -> None:
        """Write them to a file."""
        named: dict[str, Any] = {
            "layers": np.array([astuple(layer) for layer in self.layers], np.int32),
            "padding": self.padding,
            "steps": np.array(self.steps),
        }
        for number, arrays in enumerate(self.arrays):
            named.update({f"{number}.{name}": array for name, array in arrays.items()})
        with path.open("wb") as file:
            np.savez(file, **named)

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Read what :meth:`write` wrote.

        Raises:
            Exception: the file is damaged: one of many kinds.
        """
        with path.open("rb") as opened, np.load(opened) as file:  # which checks each array's CRC-32
            layers = tuple(Layer(*map(int, row)) for row in file["layers"])
            arrays: list[dict[str, NDArray[Any]]] = [{} for _ in layers]
            for key in file.files:
                number, _, name = key.partition(".")
                if name:
                    arrays[int(number)][name] = aligned(file[key])
            return cls(layers, tuple(arrays), file["padding"], tuple(map(float, file["steps"])))


class _Convolution(ctypes.Structure):
    """As the source has it."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("height", "width", "channels", "outputs")),
        *((name, ctypes.c_int32) for name in ("pooled_height", "pooled_width")),
        *((name, ctypes.c_void_p) for name in ("to_bytes", "kernels", "starts", "scales", "biases", "whole")),
    )


class _Memory:
    """What one picture is computed in."""

    def __init__(self, layers: ctypes.Array[_Convolution], map_bytes: int, work_bytes: int, threads: int) -> None:
        self.layers = type(layers).from_buffer_copy(layers)
        self.maps = [aligned(np.empty(map_bytes, np.uint8)) for _ in range(2)]
        self.pointers = (ctypes.c_void_p * 2)(*(array.ctypes.data for array in self.maps))
        self.state = np.zeros(2 * len(layers), np.int32)
        self.work = np.empty((threads, work_bytes), np.uint8)  # the system gives what of it is used


@dataclass(eq=False)
class _Picture:
    """One that is computed, by as many threads as come to it; it holds what they read and write.

    Attributes:
        image: as of :meth:`Int8Backbone.start`.
        maps: likewise.
        then: likewise.
        threads: how many are to come.
        done: what is to be told.
        lock: of what follows.
        memory: what it is computed in, from when the first of them comes until the last goes.
        came: how many came.
        there: how many of them are still there.
    """

    image: NDArray[np.uint8]
    maps: Sequence[NDArray[np.uint8]]
    then: Callable[[], None]
    threads: int
    done: Future[None] = field(default_factory=Future)
    lock: threading.Lock = field(default_factory=threading.Lock)
    memory: _Memory | None = None
    came: int = 0
    there: int = 0


class Int8Backbone:
    """The convolutions, ready to run. Safe to use from several threads at once.

    Args:
        weights: of all layers.
        threads: as many as one picture, or several, are computed by.

    Raises:
        UnavailableError: there is neither a C compiler nor what it made before.
    """

    def __init__(self, weights: Weights, threads: int | None = None) -> None:
        self._library = load_source()
        self._weights = replace(weights, arrays=tuple(map(_all_aligned, weights.arrays)))
        threads = threads or usable_threads()
        self._together = min(threads, _MOST_TOGETHER)
        self._kept = [place for place, layer in enumerate(weights.layers) if layer.kept]
        self._layers = (_Convolution * len(weights.layers))(*map(_described, weights.layers, self._weights.arrays))
        self._map_bytes = max(map(_written, weights.layers))
        self._idle: list[_Memory] = []
        self._pool = ThreadPoolExecutor(threads, "ssdcam-int8")

    def infer(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The kept maps of a picture ``(H, W, 3)``, BGR, in levels; see :meth:`start`."""
        maps = [np.empty(shape, np.uint8) for shape in self._weights.kept_shapes]
        self.start(np.ascontiguousarray(image), maps, lambda: None, alone=True).result()
        return maps

    def start(
        self, image: NDArray[np.uint8], maps: Sequence[NDArray[np.uint8]], then: Callable[[], None], *, alone: bool
    ) -> Future[None]:
        """Start with a picture.

        Args:
            image: ``(H, W, 3)``, BGR, contiguous.
            maps: where the kept maps are to be, each ``(H', W', outputs)``, contiguous.
            then: is called when they are there.
            alone: whether all threads are to compute this picture together, rather than each one of its own.

        Returns:
            What is done when all that is.

        Raises:
            ValueError: the picture is not of the network's input size, or not of bytes.
        """
        first = self._weights.layers[0]
        if image.shape != (first.height, first.width, first.channels) or image.dtype != np.uint8:
            wanted = f"({first.height}, {first.width}, {first.channels})"
            raise ValueError(f"the network takes pictures of shape {wanted}, uint8, not {image.shape}, {image.dtype}")
        picture = _Picture(image, maps, then, self._together if alone else 1)
        try:
            self._pool.submit(self._share, picture)
            for _ in range(picture.threads - 1):
                with suppress(RuntimeError):  # no more threads are to be had: the others do its work
                    self._pool.submit(self._share, picture)
        except BaseException:  # the pool may have it, but nobody waits, and what would be told may be gone by then
            with picture.lock:
                picture.done.cancel()
            raise
        return picture.done

    def _share(self, picture: _Picture) -> None:
        try:
            self._compute(picture)
        except BaseException as error:  # whoever waits is told
            with picture.lock, suppress(InvalidStateError):
                picture.done.set_exception(error)

    def _compute(self, picture: _Picture) -> None:
        with picture.lock:
            if picture.done.done():
                return
            memory = picture.memory = picture.memory or self._memory_for(picture)
            work = memory.work[picture.came]
            picture.came += 1
            picture.there += 1
        self._library.run_share(
            memory.layers,
            len(memory.layers),
            picture.image.ctypes.data,
            self._weights.padding.ctypes.data,
            memory.pointers,
            memory.state.ctypes.data,
            picture.threads,
            work.ctypes.data,
        )
        with picture.lock:
            picture.there -= 1
            if not picture.done.done():  # the first to come back: all is computed
                try:
                    picture.then()
                    picture.done.set_result(None)
                except BaseException as error:
                    picture.done.set_exception(error)
            if picture.there == 0:  # nor does anybody come from now on
                self._idle.append(memory)

    def _memory_for(self, picture: _Picture) -> _Memory:
        try:
            memory = self._idle.pop()
        except IndexError:
            work_bytes = self._library.workspace_bytes()
            memory = _Memory(self._layers, self._map_bytes, work_bytes, self._together)
        memory.state[:] = 0
        for place, array in zip(self._kept, picture.maps, strict=True):
            memory.layers[place].whole = array.ctypes.data
        return memory


@cache
def load_source(options: tuple[str, ...] | None = None) -> ctypes.CDLL:
    """The source, compiled.

    Args:
        options: of the compiler, for the instructions; None is the best for this CPU.

    Raises:
        UnavailableError: there is neither a C compiler nor what it made before.
    """
    made = library(_SOURCE, *(options or _options() or ()))
    made.workspace_bytes.restype = ctypes.c_long
    pointer = ctypes.c_void_p
    made.run_share.argtypes = [pointer, ctypes.c_int, pointer, pointer, pointer, pointer, ctypes.c_int, pointer]
    made.run_share.restype = None
    return made


def _described(layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> _Convolution:
    pooled = layer.pooled_height, layer.pooled_width
    pointers = {name: array.ctypes.data for name, array in arrays.items()}
    return _Convolution(layer.height, layer.width, layer.channels, layer.outputs, *pooled, **pointers)


def _written(layer: Layer) -> int:
    """Bytes of the map, with its border, that the next layer reads."""
    height, width = (layer.pooled_height, layer.pooled_width) if layer.pooled_height else (layer.height, layer.width)
    rows, columns = (2 * ((size + 1) // 2) + 2 for size in (height, width))
    return rows * columns * layer.outputs


def _all_aligned(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: aligned(array) for name, array in arrays.items()}


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """An array, or a copy of it, that begins where a line of the CPU's cache does."""
    if array.ctypes.data % _ALIGNED == 0:
        return array
    memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
    first = -memory.ctypes.data % _ALIGNED
    made: NDArray[Any] = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def suits(spec: ModelSpec) -> bool:
    """Whether a network has this backbone, and this CPU computes it sooner than OpenVINO does.

    Linux says which instructions a CPU has. AMX multiplies bytes faster than others transform them.
    """
    return spec.architecture in _ARCHITECTURES and _options() is not None and "amx_int8" not in cpu_features()


def _options() -> tuple[str, ...] | None:
    """What the compiler is told of this CPU; None if it is none that the source is for."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    features = cpu_features()
    return next((options for needed, options in _INSTRUCTIONS.items() if features.issuperset(needed)), None)
