"""Other people's files: told apart by their keys; what is damaged, malicious or strange gets one line."""

import json
import pickle
import re
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssdcam.checkpoints.caffemodel import read_caffemodel
from ssdcam.checkpoints.families import FAMILIES, convert_arrays
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.errors import CheckpointError, WrongUsageError
from ssdcam.ssd.default_boxes import COCO300, VOC300

from ... import pictures
from ...cli.commands import ssdcam
from . import networks
from .layers import Layers, caffemodel


@pytest.fixture(scope="module")
def states():
    """State dicts of the smaller families, each drawn once."""
    made = {}
    with torch.inference_mode():
        for name, function in (
            ("mb1-ssd", networks.mb1),
            ("mb2-ssd-lite", networks.mb2_lite_half),
            ("sq-ssd-lite", networks.squeezenet_lite),
            ("ultralight-faces", networks.faces),
        ):
            layers = Layers()
            function(layers, torch.zeros(1, 3, *((240, 320) if name == "ultralight-faces" else (300, 300))))
            made[name] = {key: tensor.clone() for key, tensor in layers.arrays.items()}
    return made


@pytest.fixture(scope="module")
def amdegroot():
    """An amdegroot state dict for four classes whose arrays take no room."""

    def make(columns):
        zeros = {}
        shapes = {}
        channels = 3
        for place, outputs in zip(
            networks.PLACES, [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [1024] * 2, strict=True
        ):
            shapes[f"vgg.{place}"] = (outputs, channels, *((1, 1) if place == 33 else (3, 3)))
            channels = outputs
        for i, (outputs, kernel, _, _) in enumerate(networks.EXTRAS300):
            shapes[f"extras.{i}"] = (outputs, channels, kernel, kernel)
            channels = outputs
        for k, (n, inputs) in enumerate(zip((4, 6, 6, 6, 4, 4), (512, 1024, 512, 256, 256, 256), strict=True)):
            shapes[f"loc.{k}"] = (4 * n, inputs, 3, 3)
            shapes[f"conf.{k}"] = (columns * n, inputs, 3, 3)
        for name, shape in shapes.items():
            zeros[f"{name}.weight"] = torch.zeros(shape, dtype=torch.float16)
            zeros[f"{name}.bias"] = torch.zeros(shape[0], dtype=torch.float16)
        return {**zeros, "L2Norm.weight": torch.zeros(512, dtype=torch.float16)}

    return make


@pytest.mark.parametrize("name", ["mb1-ssd", "mb2-ssd-lite", "sq-ssd-lite", "ultralight-faces"])
@pytest.mark.parametrize("kind", ["pth", "old pth", "safetensors", "wrapped", "prefixed", "averaged", "trained"])
def test_told_by_the_keys(name, kind, states, tmp_path, caplog):
    state, path = states[name], tmp_path / "model"
    if kind == "safetensors":
        save_file(state, path)
    else:
        if kind == "wrapped":
            state = {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
        if kind == "prefixed":
            state = {f"model.module.{key}": tensor for key, tensor in state.items()}
        if kind == "trained":  # by torchvision's own script
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], momentum=0.9)
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 22])
            parts = {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
            state = {"model": state, **parts, "args": Namespace(lr=0.02, lr_steps=[16, 22], amp=False), "epoch": 25}
        if kind == "averaged":  # by torch.optim.swa_utils.AveragedModel
            state = {"n_averaged": torch.tensor(5), **{f"module.{key}": tensor for key, tensor in state.items()}}
        torch.save(state, path, _use_new_zipfile_serialization=kind != "old pth")
    assert open_checkpoint(path).spec.provenance["family"] == FAMILIES[name].title
    assert not caplog.records


def test_every_family_is_told_from_every_other():
    for family in FAMILIES.values():
        others = [other for other in FAMILIES.values() if set(other.signature) <= set(family.signature)]
        assert {other.signature for other in others} == {family.signature}


@pytest.mark.parametrize(
    ("name", "family", "order", "said"),
    [
        ("a.pth", None, "rgb", True),
        ("a.pth", "amdegroot-bgr", "bgr", False),
        ("a.pth", "amdegroot", "rgb", False),
        ("ssd_300_VOC0712.pth", None, "bgr", False),
        ("ssd300_mAP_77.43_v2.pth", None, "rgb", False),
    ],
)
def test_the_colour_order_of_amdegroot(name, family, order, said, amdegroot, tmp_path, caplog):
    torch.save(amdegroot(21), tmp_path / name)
    checkpoint = open_checkpoint(tmp_path / name, family=family)
    (tmp_path / name).unlink()
    assert checkpoint.spec.normalisation.colour == order
    assert ("taken to want RGB" in caplog.text) is said


@pytest.mark.parametrize(
    ("columns", "name", "boxes", "expected", "said"),
    [
        (21, "a.pth", None, VOC300, False),
        (81, "a.pth", None, COCO300, False),
        (5, "a.pth", None, VOC300, True),
        (5, "My_COCO.pth", None, COCO300, True),
        (5, "a.pth", "coco", COCO300, False),
        (21, "a.pth", "coco", COCO300, False),
    ],
)
def test_which_default_boxes(columns, name, boxes, expected, said, amdegroot, tmp_path, caplog):
    torch.save(amdegroot(columns), tmp_path / name)
    spec = open_checkpoint(tmp_path / name, family="amdegroot", boxes=boxes).spec
    (tmp_path / name).unlink()
    assert spec.boxes == expected.layout("centre")
    assert len(spec.labels) == columns - 1
    assert ("like neither VOC nor COCO" in caplog.text) is said


CONVS = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
HEADS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2")
TEN = [(i, j) for i in range(5) for j in range(2)]


@pytest.mark.parametrize(
    ("family", "body", "extras", "norm", "loc", "conf", "sizes"),
    [
        (
            "amdegroot",
            [f"vgg.{i}" for i in networks.PLACES],
            [f"extras.{i}" for i in range(10)],
            "L2Norm",
            [f"loc.{k}" for k in range(7)],
            [f"conf.{k}" for k in range(7)],
            (35.84, 76.8, 460.8),
        ),
        (
            "mmdetection",
            [f"backbone.features.{i}" for i in networks.PLACES],
            [f"neck.extra_layers.{i}.{j}.conv" for i, j in TEN],
            "neck.l2_norm",
            [f"bbox_head.reg_convs.{k}.0" for k in range(7)],
            [f"bbox_head.cls_convs.{k}.0" for k in range(7)],
            (20, 51, 460),
        ),
        (
            "chainercv",
            [f"extractor.{name}" for name in (*CONVS, "conv6", "conv7")],
            [f"extractor.conv{8 + i}_{1 + j}" for i, j in TEN],
            "extractor.norm4",
            [f"multibox.loc.{k}" for k in range(7)],
            [f"multibox.conf.{k}" for k in range(7)],
            (35.84, 76.8, 460.8),
        ),
        (
            "caffe",
            [*CONVS, "fc6", "fc7"],
            [f"conv{6 + i}_{1 + j}" for i, j in TEN],
            "conv4_3_norm",
            [f"{name}_mbox_loc" for name in HEADS],
            [f"{name}_mbox_conf" for name in HEADS],
            (35.84, 76.8, 460.8),
        ),
    ],
)
def test_seven_maps(family, body, extras, norm, loc, conf, sizes):
    """Names and shapes of SSD512; its arithmetic is tested with lufficc's."""
    outputs = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6 + [1024] * 2
    kernels = [3] * 14 + [1]
    convolutions = [*zip(body, outputs, kernels, strict=True)]
    convolutions += [(name, n, kernel) for name, (n, kernel, _, _) in zip(extras, networks.EXTRAS512, strict=True)]
    arrays = {f"{norm}.weight": np.zeros(512, np.float32)}
    inputs = 3
    for name, n, kernel in convolutions:
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = np.zeros((n, inputs, kernel, kernel), "f"), np.zeros(n, "f")
        inputs = n
    sources = zip(loc, conf, (512, 1024, 512, *[256] * 4), networks.PER_CELL[7], strict=True)
    for box_name, score_name, inputs, boxes in sources:
        for name, values in ((box_name, 4), (score_name, 21)):
            arrays[f"{name}.weight"] = np.zeros((values * boxes, inputs, 3, 3), "f")
            arrays[f"{name}.bias"] = np.zeros(values * boxes, "f")
    spec = convert_arrays(arrays, Path("a"), family).spec
    assert (spec.architecture, spec.input_size, spec.boxes.num_boxes) == ("ssd512-vgg16", (512, 512), 24564)
    squares = [m.shapes[0][0] * 512 for m in spec.boxes.maps]
    assert (squares[0], squares[1], squares[-1]) == pytest.approx(sizes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("base_net.3.0.weight"), r"backbone.features.3.0.0.weight is \(128,\), where"),
        (lambda s: s.pop("base_net.3.1.running_var"), "lacks weights for backbone.features.3.0.0.norm.running_var"),
        (lambda s: s.pop("classification_headers.2.bias"), "predictors of feature map 2 do not go together"),
        (lambda s: s.pop("regression_headers.0.bias"), "predictors are missing"),
        (lambda s: s.update({"base_net.0.0.weight": torch.zeros(32, 4, 3, 3)}), r"is \(32, 4, 3, 3\), where"),
        (lambda s: s.update({"base_net.0.1.bias": torch.zeros(31)}), "another number of channels"),
        (
            lambda s: s.update({"base_net.0.1.bias": torch.zeros(32, dtype=torch.int32)}),
            "not of floating-point numbers",
        ),
        (lambda s: s.update({"surprise.weight": torch.zeros(1)}), "has no layer surprise"),
        (lambda s: s.update({"base_net.99.0.weight": torch.zeros(1)}), "no place for"),
        (lambda s: s.update({"classification_headers.1.bias": torch.zeros(30)}), "different numbers of classes"),
        (lambda s: s.update({"regression_headers.5.bias": torch.zeros(())}), "of feature map 5 do not go together"),
    ],
)
def test_wrong_keys_and_shapes(change, complaint, states, tmp_path):
    state = dict(states["mb1-ssd"])
    change(state)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=f"a.pth: is no checkpoint of qfgaohao/pytorch-ssd mb1-ssd: .*{complaint}"
    ):
        open_checkpoint(tmp_path / "a.pth", family="mb1-ssd")


def test_the_wrong_family(states, tmp_path):
    torch.save(states["mb1-ssd"], tmp_path / "a.pth")
    for name in FAMILIES.keys() - {"mb1-ssd"}:
        with pytest.raises(CheckpointError, match=r"a\.pth: is no checkpoint of "):
            open_checkpoint(tmp_path / "a.pth", family=name)
    with pytest.raises(WrongUsageError, match="--family nosuch is none of torchvision-ssd300, "):
        open_checkpoint(tmp_path / "a.pth", family="nosuch")
    with pytest.raises(WrongUsageError, match="one set of default boxes: --boxes has nothing to choose"):
        open_checkpoint(tmp_path / "a.pth", boxes="voc")


def test_ours_says_itself_what_it_is(tiny_model):
    for options in ({"family": "amdegroot"}, {"boxes": "voc"}):
        with pytest.raises(WrongUsageError, match="is, is known"):
            open_checkpoint(tiny_model, **options)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"a.weight": torch.zeros(3)}, "those of no SSD that ssdcam knows: torchvision-ssd300"),
        ({"epoch": 3}, "holds no state_dict"),
        ([torch.zeros(3)], "holds no state_dict"),
        (torch.zeros(3), "holds no state_dict"),
        ({"state_dict": {"state_dict": {}}}, "holds no state_dict"),
        ({3: torch.zeros(3)}, "holds no state_dict"),
        ({"a.weight": torch.zeros(1).expand(10**12)}, "claims more weights than the file has room for"),
        ({"a.weight": torch.zeros(3).to_sparse()}, "no plain arrays|claims more|damaged"),
    ],
)
def test_other_things_that_torch_saves(content, complaint, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a.pth: .*({complaint})") as told:
        open_checkpoint(tmp_path / "a.pth")
    assert "\n" not in str(told.value)


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_trap_among_the_weights(zipped, states, tmp_path):
    content = {**states["mb1-ssd"], "trap": Trap(tmp_path / "sprung")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"a\.pth: holds Python objects that could run code when loaded, so it is not"
    ):
        open_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # the trap is one
    assert (tmp_path / "sprung").exists()


class Called:
    """Unpickling one calls something."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["inside", "argument", "state", "method", "elsewhere"])
def test_a_trap_among_the_options(kind, zipped, states, tmp_path):
    """A script's ``argparse.Namespace`` is passed over; nothing else gets through with it."""
    sprung = tmp_path / "sprung"
    options = {
        "inside": Namespace(lr=0.1, trap=Trap(sprung)),
        "argument": Called(Namespace, (Trap(sprung),)),
        "state": Called(Namespace, (), Trap(sprung)),
        "method": Called(Namespace, (), {"__setstate__": pickle.loads}),
        "elsewhere": Called(Namespace.__eq__, (Namespace(), Namespace())),
    }
    content = {"model": states["ultralight-faces"], "args": options[kind]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"a\.pth: holds Python objects that could run code when loaded"):
        open_checkpoint(tmp_path / "a.pth")
    assert not sprung.exists()


def test_a_trap_in_an_archive_of_numpy(tmp_path):
    np.savez(tmp_path / "a.npz", trap=np.array([Trap(tmp_path / "sprung")], object))
    with pytest.raises(CheckpointError, match=r"a\.npz: is damaged, or holds more than arrays of numbers"):
        open_checkpoint(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("part", ["archive/data.pkl", "weights.npy"])
def test_a_zip_bomb(part, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part, bytes(2**24))
    assert (tmp_path / "bomb").stat().st_size < 2**16
    with pytest.raises(CheckpointError, match="bomb: would grow to 16,777,216 bytes when unpacked, so it is not"):
        open_checkpoint(tmp_path / "bomb")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short(zipped, states, tmp_path):
    torch.save(states["ultralight-faces"], tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "a.pth").read_bytes()
    for length in (2, 5, 20, 1000, len(data) // 2, len(data) - 1):
        (tmp_path / "a.pth").write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"a\.pth: is (damaged|no checkpoint)") as told:
            open_checkpoint(tmp_path / "a.pth")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("old", [True, False])
def test_a_caffemodel_comes_back_as_it_was(old, tmp_path):
    arrays = {"a.weight": torch.randn(300, 2, 3, 3), "a.bias": torch.randn(300), "b_norm.weight": torch.randn(5)}
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(arrays, old))
    read = read_caffemodel(tmp_path / "a.caffemodel")
    assert read.keys() == arrays.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, arrays[name])
    with pytest.raises(CheckpointError, match="those of no SSD that ssdcam knows"):
        open_checkpoint(tmp_path / "a.caffemodel")


@pytest.mark.parametrize("part", [b"\xa2\x06\x00", b"\xa2\x06\x02\x3a\x00"])
def test_a_caffemodel_of_very_many_layers(part, tmp_path):
    """A few bytes each, they would be large objects; what is read of them is less than twenty times the file."""
    (tmp_path / "a.caffemodel").write_bytes(part * 2_000_000)
    code = """
import resource, sys
from pathlib import Path
from ssdcam.checkpoints.caffemodel import read_caffemodel
from ssdcam.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_AS, (500_000_000, 500_000_000))
try:
    read_caffemodel(Path(sys.argv[1]))
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.caffemodel"], capture_output=True, text=True, check=True
    )
    assert re.search(r"a\.caffemodel: (is damaged|holds no layers)", done.stdout)


@pytest.mark.parametrize("content", [b"text that is long enough", b"\xff" * 40, b"\x0a", b"\xa2\x06\x7f", b"\x08\x01"])
def test_a_caffemodel_that_is_none(content, tmp_path):
    (tmp_path / "a.caffemodel").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.caffemodel: (is damaged|holds no layers)"):
        open_checkpoint(tmp_path / "a.caffemodel")


def test_a_caffemodel_cut_short_or_bent(tmp_path):
    data = caffemodel({"a.weight": torch.randn(3, 2, 3, 3), "a.bias": torch.randn(3)})
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data[: rng.integers(1, len(data))])
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        (tmp_path / "a.caffemodel").write_bytes(damaged)
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "a.caffemodel")


def test_convert_and_info(states, tmp_path):
    torch.save(states["mb2-ssd-lite"], tmp_path / "a.pth")
    run = ssdcam("weights", "convert", "a.pth", "-o", "b.safetensors", cwd=tmp_path)
    assert (run.code, run.err) == (0, "")
    assert run.out == "b.safetensors: ssdlite300-mobilenet-v2, 20 labels\n"
    facts = [ssdcam("weights", "info", name, "--json", cwd=tmp_path) for name in ("a.pth", "b.safetensors")]
    assert json.loads(facts[0].out) == json.loads(facts[1].out)
    run = ssdcam("weights", "info", "a.pth", "--family", "amdegroot", cwd=tmp_path)
    assert (run.code, len(run.complaints)) == (1, 1)
    run = ssdcam("weights", "info", "a.pth", "--boxes", "voc", cwd=tmp_path)
    assert (run.code, len(run.complaints)) == (2, 1)


def test_an_assumption_is_said_in_a_line(amdegroot, tmp_path):
    torch.save(amdegroot(5), tmp_path / "a.pth")
    run = ssdcam("weights", "info", "a.pth", cwd=tmp_path)
    assert run.code == 0
    colour, boxes = run.err.splitlines()
    assert colour.startswith("warning: a.pth: taken to want RGB pictures")
    assert boxes.startswith(
        "warning: a.pth: has 4 classes, like neither VOC nor COCO; taken to have VOC's default boxes"
    )
    told = ssdcam("weights", "info", "a.pth", "--family", "amdegroot-bgr", "--boxes", "coco", cwd=tmp_path)
    assert (told.code, told.err) == (0, "")
    assert "BGR, minus (104, 117, 123)" in told.out
    (tmp_path / "a.pth").unlink()


def test_a_bad_file_is_one_line_in_every_command(states, tmp_path):
    """A trap, a bomb, half a file and a network that is no SSD: nothing is executed, and nothing is written."""
    torch.save({**states["ultralight-faces"], "trap": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))
    torch.save(states["ultralight-faces"], tmp_path / "half.pth")
    data = (tmp_path / "half.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(data[: len(data) // 2])
    torch.save({"fc.weight": torch.zeros(10, 10), "fc.bias": torch.zeros(10)}, tmp_path / "other.pth")
    cv2.imwrite(str(tmp_path / "a.png"), pictures.noise(64, 64, 0))
    before = sorted(tmp_path.iterdir())
    for name, complaint in {
        "trap.pth": "holds Python objects that could run code when loaded",
        "bomb.pth": "would grow to 16,777,216 bytes when unpacked",
        "half.pth": "is damaged",
        "other.pth": "those of no SSD that ssdcam knows",
    }.items():
        commands = [("weights", "convert", name, "-o", "out.safetensors")]
        if name == "trap.pth":  # others read it likewise
            commands.append(("image", "a.png", "-m", name, "-o", "out"))
        for command in commands:
            run = ssdcam(*command, cwd=tmp_path)
            assert (run.code, run.out, len(run.complaints)) == (1, "", 1), command
            assert run.err.startswith(f"error: {name}: ")
            assert complaint in run.err
        assert sorted(tmp_path.iterdir()) == before
