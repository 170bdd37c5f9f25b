"""VGG-16 in bytes: what the source computes, how near that is to floats, and how the engine runs it."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.cpu import cpu_features
from ssdcam.detection import int8, int8_backbone, openvino_networks
from ssdcam.detection.agreement import Agreement
from ssdcam.detection.compiling import library as compiled
from ssdcam.detection.engine import Engine
from ssdcam.detection.engines import ENGINES
from ssdcam.detection.int8 import Calibration
from ssdcam.detection.int8_backbone import Int8Backbone, Weights, aligned, load_source, suits
from ssdcam.detection.pixel_network import PixelNetwork
from ssdcam.detection.quantise_backbone import quantised_backbone
from ssdcam.errors import UnavailableError, WrongUsageError
from ssdcam.ssd.architectures import build_network, new_spec
from ssdcam.ssd.spec import Normalisation

from .. import pictures
from ..waiting import GUARD

VNNI = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
AVX_VNNI = {"avx2", "fma", "avx_vnni"}
needs_vnni = pytest.mark.skipif(
    not any(cpu_features() >= needed for needed in (VNNI, AVX_VNNI)),
    reason="needs a CPU with AVX-512 VNNI or AVX-VNNI, under Linux",
)

HEIGHT, WIDTH = 300, 428  # maps of 75, 38 and 19 cells, of 107, 54 and 27, and a part of a line in each


@pytest.fixture(scope="module")
def library() -> None:
    try:
        load_source()
    except UnavailableError as error:
        pytest.skip(f"needs a C compiler: {error}")


def a_checkpoint(height: int = HEIGHT, width: int = WIDTH, colour: Any = "rgb") -> Checkpoint:
    """Values keep their size from layer to layer, as in a trained network, whose channels differ."""
    spec = new_spec("ssd300-vgg16", ["car", "person"], input_size=(height, width))
    spec = replace(spec, normalisation=Normalisation(colour, (123.68, 116.78, 103.94), (60.0, 50.0, 70.0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = build_network(spec).state_dict()
        for name, weight in weights.items():
            if weight.ndim == 4:
                size = torch.exp(0.3 * torch.randn(len(weight), 1, 1, 1))
                weights[name] = torch.randn_like(weight) * (2 / weight[0].numel()) ** 0.5 * size
            elif name.endswith("bias"):
                weights[name] = 0.1 * torch.randn_like(weight)
    return Checkpoint(spec, {name: weight.numpy() for name, weight in weights.items()})


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return a_checkpoint()


@pytest.fixture(scope="module")
def batch() -> NDArray[np.uint8]:
    return np.stack([pictures.noise(WIDTH, HEIGHT, seed) for seed in range(3)])


@pytest.fixture(scope="module")
def network(checkpoint: Checkpoint) -> PixelNetwork:
    return PixelNetwork(checkpoint)


@pytest.fixture(scope="module")
def weights(network: PixelNetwork, batch: NDArray[np.uint8]) -> Weights:
    return quantised_backbone(network, batch[:2])


# How far levels may be off behind so many layers: one of them, and on average.
CLOSE = {2: (1, 0.0001), 3: (2, 0.001), 4: (4, 0.01), 8: (8, 0.1), 13: (20, 0.5)}


def naive(weights: Weights, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """What the source computes, from its comments, one layer and one point after another."""
    kept = []
    levels = np.empty(0)
    for number, (layer, arrays) in enumerate(zip(weights.layers, weights.arrays, strict=True)):
        points = arrays["kernels"].shape[1]
        kernels = arrays["kernels"].transpose(1, 2, 4, 0, 3).reshape(points, -1, layer.outputs).astype(np.float32)
        starts, scales = (arrays[name].transpose(1, 0, 2).reshape(points, -1) for name in ("starts", "scales"))
        if number == 0:
            padded = np.empty((layer.height + 2, layer.width + 2, 3))
            padded[:] = weights.padding
            padded[1:-1, 1:-1] = image
            lines = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1)).transpose(0, 1, 3, 4, 2)
            given = np.pad(lines.reshape(*lines.shape[:3], 9), [(0, 0)] * 3 + [(0, 3)]).reshape(*lines.shape[:2], 36)
            cells = (given @ kernels[0] + starts[0]) * scales[0] + arrays["biases"]
        else:
            down, across = (layer.height + 1) // 2, (layer.width + 1) // 2
            padded = np.zeros((2 * down + 2, 2 * across + 2, layer.channels))
            padded[1 : layer.height + 1, 1 : layer.width + 1] = levels
            windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (0, 1))[::2, ::2]
            to_points = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
            at = np.einsum("ia,yxcab,jb->ijyxc", to_points, windows.astype(np.int16), to_points, optimize=True)
            at = at.reshape(16, down * across, layer.channels)
            multiplied = at.astype(np.int32) * arrays["to_bytes"][:, None].astype(np.int32)
            rounded = ((multiplied + 2**14) >> 15).clip(-128, 127) + 128
            places = np.arange(layer.channels).reshape(-1, 2, 4, 8).transpose(0, 2, 1, 3).ravel()
            sums = rounded[..., places].astype(np.float32) @ kernels + starts[:, None]
            products = (sums * scales[:, None]).reshape(4, 4, down, across, layer.outputs)
            to_tiles = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
            tiles = np.einsum("iy,yxdao,jx->diajo", to_tiles, products, to_tiles, optimize=True)
            cells = tiles.reshape(2 * down, 2 * across, -1)[: layer.height, : layer.width] + arrays["biases"]
        levels = np.rint(cells).clip(0, 255)
        if layer.kept:
            kept.append(levels.astype(np.uint8))
        if layer.pooled_height:
            sides = layer.pooled_height, layer.pooled_width
            edge = [(0, max(2 * side - size, 0)) for side, size in zip(sides, levels.shape[:2], strict=True)]
            whole = np.pad(levels, [*edge, (0, 0)])[: 2 * sides[0], : 2 * sides[1]]
            levels = whole.reshape(sides[0], 2, sides[1], 2, -1).max((1, 3))
    return kept


@needs_vnni
@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("height", "width", "depths"), [(154, 218, (2, 3, 4, 13)), (150, 300, (8,))])
def test_the_source_computes_what_it_says(checkpoint, height, width, depths):
    """On odd maps, too, whose pools leave the last cells out, or do not."""
    spec = replace(checkpoint.spec, input_size=(height, width))
    first, second = (pictures.noise(width, height, seed) for seed in (0, 1))
    weights = quantised_backbone(PixelNetwork(Checkpoint(spec, checkpoint.weights)), first[None])
    for number in depths:
        layers = (*weights.layers[: number - 1], replace(weights.layers[number - 1], kept=1))
        some = replace(weights, layers=layers, arrays=weights.arrays[:number])
        computed, expected = Int8Backbone(some, 1).infer(second), naive(some, second)
        assert len(computed) == 1 + (number == 13)
        for ours, theirs in zip(computed, expected, strict=True):
            assert ours.shape == theirs.shape
            assert 10 < theirs.std() < 100  # it is neither nothing nor all that fits
            # Where floats round to one side or the other; and what comes of that in the layers behind.
            apart = np.abs(ours.astype(int) - theirs)
            most, mean = CLOSE[number]
            assert apart.max() <= most
            assert apart.mean() < mean


@pytest.mark.skipif(not cpu_features() >= VNNI, reason="needs a CPU with AVX-512 VNNI, under Linux")
@pytest.mark.usefixtures("library")
def test_vectors_half_as_long_compute_the_same(weights, batch, monkeypatch):
    """AVX-VNNI's, but for the code of the one instruction that AVX-512 VNNI has, too."""
    expected = Int8Backbone(weights, 1).infer(batch[2])
    half = load_source(("-mavx2", "-mfma", "-mavx512vl", "-mavx512vnni"))
    monkeypatch.setattr(int8_backbone, "load_source", lambda: half)
    for ours, theirs in zip(Int8Backbone(weights, 2).infer(batch[2]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("options", int8_backbone._INSTRUCTIONS.values())
def test_it_compiles_for_each_cpu(options, tmp_path):
    (tmp_path / "empty.c").write_text("")
    try:
        compiled(tmp_path / "empty.c", *options)
    except UnavailableError as error:
        pytest.skip(f"needs a C compiler that knows these instructions: {error}")
    assert load_source(options).workspace_bytes() > 2**19


@needs_vnni
@pytest.mark.usefixtures("library")
def test_any_number_of_threads_computes_the_same(weights, batch):
    one, *others = (Int8Backbone(weights, threads).infer(batch[2]) for threads in (1, 2, 3, 7))
    for other in others:
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@needs_vnni
@pytest.mark.usefixtures("library")
def test_pictures_at_once_do_not_disturb_each_other(weights, batch):
    backbone = Int8Backbone(weights, 2)
    expected = [backbone.infer(picture) for picture in batch]
    found: list[Any] = [None] * 12

    def run(number: int) -> None:
        maps = [np.empty(shape, np.uint8) for shape in weights.kept_shapes]
        heard = threading.Event()
        backbone.start(batch[number % 3], maps, heard.set, alone=number % 2 == 0).result()
        assert heard.is_set()
        found[number] = maps

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, maps in enumerate(found):
        for ours, theirs in zip(maps, expected[number % 3], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(backbone._idle) <= 2  # there are threads for two


@needs_vnni
@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("can't start new thread")])
def test_threads_that_do_not_come_are_not_waited_for(weights, batch, monkeypatch, error):
    expected = Int8Backbone(weights, 2).infer(batch[0])
    backbone = Int8Backbone(weights, 3)
    submit, calls = backbone._pool.submit, []

    def second_fails(*work: Any) -> Any:
        calls.append(work)
        if len(calls) == 2:
            raise error
        return submit(*work)

    monkeypatch.setattr(backbone._pool, "submit", second_fails)
    with suppress(KeyboardInterrupt):
        backbone.infer(batch[0])
    for ours, theirs in zip(backbone.infer(batch[0]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_vnni
@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("can't start new thread")])
def test_nobody_is_told_who_could_not_wait(weights, batch, monkeypatch, error):
    """The pool has the work by then, and OpenVINO's would follow it, in memory that is gone."""
    backbone = Int8Backbone(weights, 1)
    submit, told, left = backbone._pool.submit, list[str](), threading.Event()

    def late(*given: Any) -> None:
        left.wait(GUARD)
        share(*given)

    def interrupted(work: Any, picture: Any) -> None:
        submit(late, picture)
        raise error

    share = backbone._share
    monkeypatch.setattr(backbone._pool, "submit", interrupted)
    maps = [np.empty(shape, np.uint8) for shape in weights.kept_shapes]
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        backbone.start(batch[0], maps, lambda: told.append("done"), alone=True)
    left.set()
    backbone._pool.shutdown()
    assert told == []


@needs_vnni
@pytest.mark.usefixtures("library")
def test_what_is_computed_stays_in_memory_when_nobody_waits(weights, batch, monkeypatch):
    """As Ctrl-C leaves it."""
    backbone = Int8Backbone(weights, 1)
    begun, go_on = threading.Event(), threading.Event()
    library = backbone._library

    class Slow:
        workspace_bytes = staticmethod(library.workspace_bytes)

        @staticmethod
        def run_share(*given: Any) -> None:
            begun.set()
            go_on.wait(GUARD)
            library.run_share(*given)

    monkeypatch.setattr(backbone, "_library", Slow)
    maps = [np.empty(shape, np.uint8) for shape in weights.kept_shapes]
    picture = batch[0].copy()
    kept = [weakref.ref(array) for array in (picture, *maps)]
    done = backbone.start(picture, maps, lambda: None, alone=True)
    del maps, picture
    assert begun.wait(GUARD)
    assert all(each() is not None for each in kept)
    go_on.set()
    done.result(GUARD)


@needs_vnni
@pytest.mark.usefixtures("library")
def test_errors_come_out_where_one_waits(weights, batch, monkeypatch):
    backbone = Int8Backbone(weights, 2)
    maps = [np.empty(shape, np.uint8) for shape in weights.kept_shapes]
    with pytest.raises(ZeroDivisionError):
        backbone.start(batch[0], maps, lambda: 1 // 0, alone=True).result(GUARD)
    for wrong in (batch[0, :-1], batch[0].astype(np.float32), batch[0, ..., :2]):
        with pytest.raises(ValueError, match=r"pictures of shape \(300, 428, 3\), uint8, not \("):
            backbone.infer(wrong)
    monkeypatch.setattr(int8_backbone, "_Memory", lambda *_: [][0])
    with pytest.raises(IndexError):
        Int8Backbone(weights, 2).start(batch[0], maps, lambda: None, alone=True).result(GUARD)


@needs_vnni
@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_it_is_near_to_floats(batch, colour):
    network = PixelNetwork(a_checkpoint(colour=colour))
    weights = quantised_backbone(network, batch)
    computed = Int8Backbone(weights).infer(batch[2])
    backbone = network.network.backbone
    with torch.inference_mode():
        given = network.normalised(torch.from_numpy(batch[2:]))
        exact = backbone.base(given)
        second = F.relu(backbone.conv1_2(F.relu(backbone.conv1_1(given))))
    for levels, step, floats in zip(computed, weights.steps, exact, strict=True):
        error = levels * np.float32(step) - floats[0].permute(1, 2, 0).numpy()
        assert np.linalg.norm(error) < 0.06 * float(floats.norm())  # 0.05 it is

    # Around a picture there is what is normalised to zero: borders are as good as what they surround.
    layers = (weights.layers[0], replace(weights.layers[1], kept=1))
    (levels,) = Int8Backbone(replace(weights, layers=layers, arrays=weights.arrays[:2])).infer(batch[2])
    floats = second[0].permute(1, 2, 0).numpy()
    step = float((levels * floats).sum() / (levels.astype(float) ** 2).sum())
    error = np.abs(levels * step - floats)
    assert error.mean() < 0.03 * floats.mean()
    for border in (error[0], error[-1], error[:, 0], error[:, -1]):
        assert border.mean() < 1.2 * error.mean()


def test_channels_that_are_always_zero_do_no_harm(checkpoint, batch):
    silent = {**checkpoint.weights}
    for name in ("conv1_1", "conv3_2", "conv5_3"):
        for part in ("weight", "bias"):
            silent[f"backbone.{name}.{part}"] = silent[f"backbone.{name}.{part}"].copy()
            silent[f"backbone.{name}.{part}"][:40] = 0
    silent["backbone.conv5_3.weight"] = np.zeros_like(silent["backbone.conv5_3.weight"])
    silent["backbone.conv5_3.bias"] = np.zeros_like(silent["backbone.conv5_3.bias"])
    weights = quantised_backbone(PixelNetwork(Checkpoint(checkpoint.spec, silent)), batch[:1])
    for arrays in weights.arrays:
        assert all(np.isfinite(array).all() for array in arrays.values())
    assert weights.steps[1] == 1


def test_arrays_begin_with_a_line_of_the_cache():
    for array in (np.arange(1000, dtype=np.int8), np.arange(24, dtype=np.float32).reshape(2, 3, 4)):
        made = aligned(array)
        np.testing.assert_array_equal(made, array)
        assert made.dtype == array.dtype
        assert made.ctypes.data % 64 == 0
        assert aligned(made) is made


def test_weights_are_kept_as_they_are(weights, tmp_path):
    path = tmp_path / "weights"
    weights.write(path)
    read = Weights.read(path)
    assert read.layers == weights.layers
    assert read.steps == weights.steps
    np.testing.assert_array_equal(read.padding, weights.padding)
    for ours, theirs in zip(read.arrays, weights.arrays, strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])
            assert array.dtype == theirs[name].dtype
    data = path.read_bytes()
    for damaged in (b"", data[:-100], data[: len(data) // 2] + b"????" + data[len(data) // 2 + 4 :]):
        path.write_bytes(damaged)
        with pytest.raises(Exception, match=r"\S"):
            Weights.read(path)


@pytest.mark.parametrize(
    ("architecture", "features", "machine", "own"),
    [
        ("ssd300-vgg16", VNNI, "x86_64", True),
        ("ssd512-vgg16", VNNI, "AMD64", True),
        ("ssd300-vgg16", AVX_VNNI, "x86_64", True),
        ("ssd300-vgg16", AVX_VNNI - {"fma"}, "x86_64", False),
        ("ssd300-vgg16", VNNI - {"avx512_vnni"}, "x86_64", False),
        ("ssd300-vgg16", VNNI | {"amx_int8"}, "x86_64", False),
        ("ssd300-vgg16", VNNI, "aarch64", False),
        ("ssd300-resnet50", VNNI, "x86_64", False),
        ("ssd300-vgg16", set(), "x86_64", False),
    ],
)
def test_where_it_runs(monkeypatch, architecture, features, machine, own):
    monkeypatch.setattr(int8_backbone, "cpu_features", lambda: frozenset(features))
    monkeypatch.setattr(int8_backbone.platform, "machine", lambda: machine)
    assert suits(new_spec(architecture, ["car"])) is own


@pytest.mark.parametrize(
    ("features", "instructions"),
    [(VNNI, "-mavx512vnni"), (AVX_VNNI, "-mavxvnni"), (VNNI | AVX_VNNI, "-mavx512vnni")],
)
def test_longer_vectors_come_first(monkeypatch, features, instructions):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(int8_backbone, "cpu_features", lambda: frozenset(features))
    monkeypatch.setattr(int8_backbone.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(int8_backbone, "library", lambda source, *options: asked.append(options) or Mock())
    load_source.__wrapped__()
    assert instructions in asked[0]


# ---- The engine ----


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'ssdcam[openvino,int8]'")
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def start(checkpoint: Checkpoint, calibration: Calibration | None = None) -> Engine:
    return ENGINES["openvino"].start(checkpoint, "cpu", "int8", calibration=calibration)


@needs_vnni
@pytest.mark.usefixtures("library")
def test_the_engine_runs_it(home, checkpoint, network, batch, monkeypatch):
    with pytest.raises(WrongUsageError, match="openvino needs pictures the first time"):
        start(checkpoint)
    monkeypatch.setattr(int8, "compare", lambda *_: Agreement(1, 1.0, 0.0))  # with floats it is compared below
    engine = start(checkpoint, Calibration(batch[:2]))
    assert list((home / "openvino").glob("*.backbone"))
    found = engine.infer(batch)
    with torch.inference_mode():
        exact = network(torch.from_numpy(batch))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.shape == theirs.shape
        assert np.linalg.norm(ours - theirs.numpy()) < 0.12 * float(theirs.norm())

    # Alone or in a batch, waited for or not, it is the same.
    for number, picture in enumerate(batch):
        for ours, theirs in zip(engine.infer(picture[None]), found, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[number])
    waiting = [engine.submit(batch), engine.submit(batch[:1]), engine.submit(batch[1:])]
    for ours, theirs in zip(waiting[2](), found, strict=True):
        np.testing.assert_array_equal(ours, theirs[1:])
    del waiting

    # From then on without pictures, NNCF or torch.
    for other in (int8, openvino_networks):
        monkeypatch.setattr(other, "quantise_by", None)
    for ours, theirs in zip(start(checkpoint).infer(batch), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    # Damaged, it is not taken.
    for kept in (home / "openvino").glob("*.backbone"):
        kept.write_bytes(kept.read_bytes()[:-1000])
    with pytest.raises(WrongUsageError, match="needs pictures again"):
        start(checkpoint)


@needs_vnni
@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_without_a_compiler_openvino_computes_all(home, checkpoint, batch, monkeypatch):
    def none() -> None:
        raise UnavailableError("there is no C compiler")

    said: list[str] = []
    monkeypatch.setattr(openvino_networks, "quantise", lambda model, pictures: model)  # NNCF takes its time
    with monkeypatch.context() as without:
        without.setattr(openvino_networks, "load_source", none)
        without.setattr(openvino_networks, "note", said.append)
        expected = start(checkpoint, Calibration(batch[:2])).infer(batch)
        assert said == ["openvino: there is no C compiler: in int8, this network takes half as long again as it would"]
        assert not list((home / "openvino").glob("*.backbone"))
        start(checkpoint)
        assert len(said) == 1  # once is enough
    # Ranges that were chosen before there was one are still good, until others are chosen.
    for ours, theirs in zip(start(checkpoint).infer(batch), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    own = start(checkpoint, Calibration(batch[:1])).infer(batch)
    assert not np.array_equal(own[0], expected[0])
    np.testing.assert_array_equal(start(checkpoint).infer(batch)[0], own[0])

    # Where the compiler is gone, that is told, and those are taken; and of all that were chosen the last.
    monkeypatch.setattr(openvino_networks, "load_source", none)
    monkeypatch.setattr(openvino_networks, "note", said.append)
    np.testing.assert_array_equal(start(checkpoint).infer(batch)[0], expected[0])
    assert len(said) == 2
    start(checkpoint, Calibration(batch[:2]))
    monkeypatch.setattr(openvino_networks, "load_source", load_source)
    np.testing.assert_array_equal(start(checkpoint).infer(batch)[0], expected[0])


def test_a_window_at_the_points_is_what_is_watched(network, batch):
    """Against the definition, for one convolution's input of an odd height."""
    from ssdcam.detection.quantise_backbone import _at_points

    given = F.relu(torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0)))
    padded = np.pad(given.numpy(), [(0, 0), (1, 2), (1, 1)])
    to_points = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    windows = [padded[:, y : y + 4, x : x + 4] for y in range(0, 8, 2) for x in range(0, 6, 2)]
    expected = np.max([np.abs(to_points @ window @ to_points.T) for window in windows], axis=0)
    np.testing.assert_allclose(_at_points(given).numpy(), expected.transpose(1, 2, 0).reshape(16, 5), rtol=1e-5)
