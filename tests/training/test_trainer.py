import errno
import io
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssdcam.checkpoints.checkpoint import load_checkpoint
from ssdcam.checkpoints.resolve import open_checkpoint
from ssdcam.datasets import open_dataset, read_picture
from ssdcam.detection.detector import Detector, choose
from ssdcam.detection.torch_engine import TorchEngine
from ssdcam.errors import TrainingError, WrongUsageError
from ssdcam.evaluation import evaluate, pair
from ssdcam.training import run_folder
from ssdcam.training.augment import NOTHING, Augmentation
from ssdcam.training.batches import batches
from ssdcam.training.distributed import Share
from ssdcam.training.hooks import Hooks
from ssdcam.training.log import Log, read_log
from ssdcam.training.loss import LossFigures
from ssdcam.training.optimizer import freeze
from ssdcam.training.schedule import lr_factor
from ssdcam.training.settings import Settings, differences, settings_to_json
from ssdcam.training.teacher import Teacher
from ssdcam.training.trainer import Trainer
from ssdcam.training.transfer import fresh, retarget, transfer

from ..waiting import GUARD
from .scenes import assert_same, draw, quick, store, tiny, weights

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _one_thread():
    """Arithmetic that is the same every time, and faster than threads for networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return store(draw(tmp_path_factory.mktemp("photos"), 10))


def trained(folder, photos, settings, hooks=None, start=None, **options):
    folder.mkdir(exist_ok=True)
    trainer = Trainer(start or tiny(), photos, settings, folder, hooks, **options)
    trainer.resume()
    trainer.run()
    return trainer


RUNS = {
    "adamw": {"augmentation": Augmentation(), "loss": LossFigures("focal")},
    "sgd": {"optimizer": "sgd", "bias_lr": 2.0, "loss": LossFigures("sigmoid"), "schedule": "step"},
    "bf16": {"precision": "bf16", "loss": LossFigures("focal"), "freeze": 3},
    "norms": {"loss": LossFigures("focal"), "batch_norm": True},
}


@pytest.mark.parametrize(
    "kind", [kind if kind in ("adamw", "sgd") else pytest.param(kind, marks=pytest.mark.slow) for kind in RUNS]
)
def test_stopped_and_resumed_is_the_same_run(kind, tmp_path, photos):
    settings = quick(epochs=3, save_seconds=0, **RUNS[kind])
    whole = trained(tmp_path / "whole", photos, settings)
    part = tmp_path / "part"
    for stop_at in (1, 5):
        stops = iter([*[False] * (stop_at - 1), True])
        stopped = trained(part, photos, settings, Hooks(stop=lambda stops=stops: next(stops)))
        assert stopped.step < whole.steps
    resumed = trained(part, photos, settings)
    assert resumed.step == whole.steps == 9
    assert_same(weights(whole), weights(resumed))
    for name, array in whole.checkpoint().weights.items():
        np.testing.assert_array_equal(resumed.checkpoint().weights[name], array)
    same = ("step", "lr", "loss", "gradient")
    rows = [[[row[c] for c in same] for row in read_log(tmp_path / run / "log.csv")] for run in ("whole", "part")]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_run(tmp_path):
    """SIGKILL at a moment that a die decides, perhaps in the middle of saving, as often as it takes."""
    draw(tmp_path / "photos", 10)
    folders = [tmp_path / "whole", tmp_path / "killed"]
    command = [sys.executable, "-m", "tests.training.a_run", str(tmp_path / "photos")]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    subprocess.run([*command, str(folders[0])], check=True, env=env, timeout=GUARD)
    dice = random.Random(7)
    kills = 0
    for _ in range(2):
        process = subprocess.Popen([*command, str(folders[1])], env=env, stdout=subprocess.PIPE)
        for _ in range(dice.randrange(2, 8)):  # lines are steps
            process.stdout.readline()
        time.sleep(dice.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += process.wait(GUARD) == -signal.SIGKILL
        process.stdout.close()
    assert kills
    subprocess.run([*command, str(folders[1])], check=True, env=env, timeout=GUARD, stdout=subprocess.DEVNULL)
    whole, killed = (run_folder.load_state(folder) for folder in folders)
    assert killed["step"] == whole["step"] == 24
    for part in ("network", "average"):
        assert_same(whole[part], killed[part])
    for folder in folders:
        assert {"best.safetensors", "last.safetensors", "log.csv", "resume.pt"} <= {p.name for p in folder.iterdir()}
    assert (folders[0] / "last.safetensors").read_bytes() == (folders[1] / "last.safetensors").read_bytes()


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, photos):
    run_folder.save_state(tmp_path, {"step": 1})
    run_folder.save_state(tmp_path, {"step": 2})
    assert run_folder.load_state(tmp_path)["step"] == 2
    newest = tmp_path / run_folder.STATE
    newest.write_bytes(newest.read_bytes()[:100])
    assert run_folder.load_state(tmp_path)["step"] == 1
    assert not newest.exists()
    assert run_folder.load_state(tmp_path)["step"] == 1
    (tmp_path / run_folder.PREVIOUS).write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match="cannot be read"):
        run_folder.load_state(tmp_path)


def test_a_damaged_state_is_told_and_never_takes_the_place_of_a_good_one(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("ssdcam.cli.console.log.propagate", True)
    run_folder.save_state(tmp_path, {"step": 1})
    run_folder.save_state(tmp_path, {"step": 2})
    newest = tmp_path / run_folder.STATE
    newest.write_bytes(newest.read_bytes()[:100])
    assert run_folder.load_state(tmp_path)["step"] == 1
    [told] = caplog.messages
    assert told.startswith(f"{newest}: cannot be read: ")
    assert told.endswith("; the run goes on from the state before, and that file is now resume.damaged.pt")

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_whole", full)
        with pytest.raises(TrainingError, match="No space left"):
            run_folder.save_state(tmp_path, {"step": 3})
    assert run_folder.load_state(tmp_path)["step"] == 1
    run_folder.save_state(tmp_path, {"step": 3})
    assert run_folder.load_state(tmp_path)["step"] == 3
    newest.unlink()
    assert run_folder.load_state(tmp_path)["step"] == 1
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_state_for_which_there_is_too_little_memory_is_not_taken_for_damaged(tmp_path, monkeypatch, error):
    run_folder.save_state(tmp_path, {"step": 1})
    run_folder.save_state(tmp_path, {"step": 2})
    load, errors = torch.load, [error]

    def short(*given, **wishes):
        if errors:
            raise errors.pop()
        return load(*given, **wishes)

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(type(error)):
        run_folder.load_state(tmp_path)
    assert run_folder.load_state(tmp_path)["step"] == 2


def test_damage_that_torch_does_not_see_is_told(tmp_path):
    run_folder.save_state(tmp_path, {"step": 1, "weights": torch.arange(1000.0)})
    run_folder.save_state(tmp_path, {"step": 2, "weights": torch.arange(1000.0)})
    newest = tmp_path / run_folder.STATE
    data = bytearray(newest.read_bytes())
    place = data.index(torch.arange(500.0, 600.0).numpy().tobytes())
    data[place : place + 100] = bytes(100)
    newest.write_bytes(data)
    assert torch.load(newest, weights_only=True)["step"] == 2
    assert run_folder.load_state(tmp_path)["step"] == 1
    (tmp_path / run_folder.DAMAGED).replace(newest)
    (tmp_path / run_folder.PREVIOUS).unlink()
    with pytest.raises(TrainingError, match=r"resume\.pt: cannot be read: .* in it is damaged"):
        run_folder.load_state(tmp_path)


def test_a_best_that_was_scored_otherwise_does_not_count(tmp_path, photos):
    settings = quick(loss=LossFigures("focal"), epochs=2)
    scores = iter([0.9, 0.3, 0.4])

    def hooks(scored, stops):
        return Hooks(lambda checkpoint: next(scores), stop=lambda: next(stops), scored=scored)

    first = trained(tmp_path, photos, settings, hooks("voc07", iter([False] * 3 + [True])))
    assert (first.step, first.best) == (3, 0.9)
    best = (tmp_path / "best.safetensors").read_bytes()
    state = (tmp_path / run_folder.STATE).read_bytes()
    same = Trainer(tiny(), photos, settings, tmp_path, hooks("voc07", iter(())))
    assert same.resume()
    assert same.best == 0.9
    second = trained(tmp_path, photos, settings, hooks("coco", itertools.repeat(False)))
    assert second.best == 0.3
    assert (tmp_path / "best.safetensors").read_bytes() != best
    (tmp_path / run_folder.STATE).write_bytes(state)
    assert trained(tmp_path, photos, settings, hooks("voc07", itertools.repeat(False))).best == 0.9


def test_whatever_damage_a_state_has_is_told(tmp_path):
    run_folder.save_state(tmp_path, {"step": 2, "weights": torch.arange(100.0)})
    path = tmp_path / run_folder.STATE
    whole, dice = path.read_bytes(), random.Random(0)
    damaged = [b"\0" * len(whole), b"\x80\x02.", b"\x80\x02N.", b"PK\x03\x04", b"\x80\x04]q\0a."]
    for _ in range(300):
        data = bytearray(whole if dice.random() < 0.5 else b"\x80\x02}q\0X\x04\0\0\0stepq\x01K\x02s.")
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        damaged.append(bytes(data))
    told = []
    for data in damaged:
        path.write_bytes(data)
        try:
            run_folder.load_state(tmp_path)
        except TrainingError as error:
            told.append(str(error))
    assert len(told) > 100
    assert all(line.startswith(f"{path}: cannot be read: ") for line in told)


def test_a_state_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    memory = io.BytesIO()
    torch.save({"step": Evil()}, memory)
    (tmp_path / run_folder.STATE).write_bytes(memory.getvalue())
    with pytest.raises(TrainingError, match="cannot be read"):
        run_folder.load_state(tmp_path)
    assert not (tmp_path / "evil").exists()


def test_another_run_is_not_resumed(tmp_path, photos):
    settings = quick(loss=LossFigures("focal"), epochs=1)
    trained(tmp_path, photos, settings)
    with pytest.raises(TrainingError, match=r"--lr was 0\.001, not 0\.1"):
        Trainer(tiny(), photos, replace(settings, lr=0.1), tmp_path).resume()
    with pytest.raises(TrainingError, match=r"otherwise: --epochs was 1, not 2; say what"):
        Trainer(tiny(), photos, replace(settings, epochs=2), tmp_path).resume()
    with pytest.raises(TrainingError, match="classes or the network changed"):
        Trainer(tiny(("x", "y")), photos, settings, tmp_path).resume()
    with pytest.raises(TrainingError, match="photos changed"):
        Trainer(tiny(), store(draw(tmp_path / "others", 10, seed=1)), settings, tmp_path).resume()
    teacher = Teacher(tiny(), tiny().spec, torch.device("cpu"))
    with pytest.raises(TrainingError, match="teacher changed"):
        Trainer(tiny(), photos, settings, tmp_path, teacher=teacher).resume()
    assert Trainer(tiny(), photos, replace(settings, workers=2, save_seconds=1), tmp_path).resume()
    assert not Trainer(tiny(), photos, settings, tmp_path / "elsewhere").resume()


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {"augmentation": NOTHING}, ["--no-augment was not given"]),
        ({"augmentation": NOTHING}, {}, ["--no-augment was given"]),
        ({"augmentation": Augmentation(mosaic=0.5)}, {}, ["--mosaic was 0.5, not 0.0"]),
        (
            {"augmentation": Augmentation(mosaic=0.5)},
            {"augmentation": NOTHING},
            ["--no-augment was not given", "--mosaic was 0.5, not 0.0"],
        ),
        (
            {"augmentation": Augmentation(mean=(1.0, 2.0, 3.0))},
            {},
            ["the augmentation's mean was [1.0, 2.0, 3.0], not [104.0, 117.0, 123.0]"],
        ),
        ({"augmentation": Augmentation(crop=False)}, {}, ["the augmentation's crop was False, not True"]),
        ({"loss": LossFigures("focal")}, {}, ["--loss was focal, not softmax"]),
        ({"batch_norm": True}, {"weight_decay": 0.1}, ["--weight-decay was 0.0005, not 0.1", "--batch-norm was given"]),
        ({"workers": 1}, {"log_steps": 2}, []),
    ],
)
def test_settings_that_differ_have_the_names_of_their_options(before, now, told):
    assert differences(Settings(**now), settings_to_json(Settings(**before))) == told


def test_states_of_other_versions(tmp_path, photos):
    settings = quick(loss=LossFigures("focal"), epochs=1)
    trained(tmp_path, photos, settings)
    state = run_folder.load_state(tmp_path)
    for late in ("due", "photos", "teacher"):  # what the first states did not say
        del state[late]
    del state["settings"]["batch_norm"]
    run_folder.save_state(tmp_path, state)
    assert Trainer(tiny(), photos, settings, tmp_path).resume()
    run_folder.save_state(tmp_path, {"format": 99})
    with pytest.raises(TrainingError, match="another version"):
        Trainer(tiny(), photos, settings, tmp_path).resume()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_an_evaluation_that_is_cut_off_is_done_again(how, tmp_path, photos):
    settings = quick(loss=LossFigures("focal"), epochs=3, save_seconds=1000)
    scores = {"whole": iter([0.2, 0.6, 0.4]), "part": iter([0.2]), "rest": iter([0.6, 0.4])}
    whole = trained(tmp_path / "whole", photos, settings, Hooks(lambda checkpoint: next(scores["whole"])))

    def evaluate(checkpoint):
        for score in scores["part"]:
            return score
        if how == "killed":
            raise KeyboardInterrupt
        return None

    part = tmp_path / "part"
    part.mkdir()
    cut_off = Trainer(tiny(), photos, settings, part, Hooks(evaluate))
    if how == "killed":
        with pytest.raises(KeyboardInterrupt):
            cut_off.run()
    else:
        assert not cut_off.run()
    assert run_folder.load_state(part)["step"] == cut_off.step == 6, "nothing of the second epoch is lost"
    rest = trained(part, photos, settings, Hooks(lambda checkpoint: next(scores["rest"])))
    assert rest.best == whole.best == 0.6
    for name in ("best", "last"):
        one, two = ((tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("whole", "part"))
        assert one == two
    same = ("step", "loss", "map")
    rows = [[[row[c] for c in same] for row in read_log(tmp_path / run / "log.csv")] for run in ("whole", "part")]
    assert rows[0] == rows[1]


def test_killed_between_a_map_in_the_log_and_the_state(tmp_path):
    log = Log(tmp_path)
    for row in ({"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "map": 0.5}, {"step": 3, "loss": 1}):
        log.write(row)
    kept = [(row["step"], row["map"]) for row in Log(tmp_path, 2).rows]
    assert kept == [("1", ""), ("2", ""), ("2", "0.5")]
    assert [row["map"] for row in Log(tmp_path, 2, evaluated=False).rows] == ["", ""]


def test_a_damaged_log_loses_its_damaged_rows(tmp_path):
    log = Log(tmp_path)
    for step in range(1, 4):
        log.write({"step": step, "loss": 1.0})
    path = tmp_path / "log.csv"
    header, one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, one, b"2,\n", b"\0\xff" * 20 + b"\n", two.replace(b"1", b"x"), three[:-1]]))
    assert [row["step"] for row in Log(tmp_path, 3).rows] == ["1"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_told_with_its_file(tmp_path):
    log = Log(tmp_path)
    log._path = Path("/dev/full")
    with pytest.raises(TrainingError, match="/dev/full: cannot be written: No space left"):
        log.write({"step": 1, "loss": 1.0})


def test_tensorboard(tmp_path, photos):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = quick(loss=LossFigures("focal"), epochs=2, save_seconds=1000)
    with pytest.raises(KeyboardInterrupt):  # after a step that is in the log, and not in the state
        trained(tmp_path, photos, settings, Hooks(lambda checkpoint: 0.5, _interrupt_after(4)))
    trained(tmp_path, photos, settings, Hooks(lambda checkpoint: 0.5))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("map")] == [3, 6]
    written = [float(row["loss"]) for row in read_log(tmp_path / "log.csv") if row["loss"]]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(written, rel=1e-4)


@pytest.mark.parametrize("package", ["tensorboard", "matplotlib"])
def test_a_package_that_is_there_and_broken_is_done_without(package, tmp_path, monkeypatch):
    for name in [
        name for name in sys.modules if name.partition(".")[0] == package or "torch.utils.tensorboard" in name
    ]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / f"{package}.py").write_text("raise ImportError('built for another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    log = Log(run)
    log.write({"step": 1, "loss": 1.0})
    log.close()
    assert len(read_log(run / "log.csv")) == 1
    assert {path.name for path in run.iterdir()} <= {"log.csv", "tensorboard", "curves.png"} - {
        {"tensorboard": "tensorboard", "matplotlib": "curves.png"}[package]
    }


def _interrupt_after(step):
    def progress(so_far):
        if so_far.step == step:
            raise KeyboardInterrupt

    return progress


def test_weights_that_float16_cannot_hold_stay_float32(tmp_path):
    start = tiny()
    name = "conf.0.bias"
    weights = {**start.weights, name: np.full_like(start.weights[name], 7e4)}
    run_folder.save_weights(tmp_path / "big.safetensors", replace(start, weights=weights), half=True)
    saved = load_checkpoint(tmp_path / "big.safetensors").weights
    np.testing.assert_array_equal(saved[name], weights[name])
    assert saved["conf.0.weight"].dtype == np.float16


def test_processes_that_are_not_at_the_same_step(tmp_path, photos, monkeypatch):
    trainer = Trainer(tiny(), photos, quick(), tmp_path, share=Share(0, 2))
    others = torch.tensor([trainer.step, trainer.steps, 1], dtype=torch.float64)
    monkeypatch.setattr("ssdcam.training.trainer.summed", lambda mine, share: mine + others)
    trainer._check_agreement()
    others[0] = 3
    with pytest.raises(TrainingError, match="same photos and RUN_DIR"):
        trainer._check_agreement()


def test_a_loss_that_is_no_number_stops_and_names_the_pictures(tmp_path, photos):
    settings = quick(loss=LossFigures("focal"), batch=3)
    trainer = Trainer(tiny(), photos, settings, tmp_path)
    (batch,) = batches(photos, trainer._order, (96, 96), settings.augmentation, first=0, last=1)
    bad = torch.tensor([1])
    trainer._normalise.register_forward_hook(lambda module, inputs, images: images.index_fill(0, bad, float("nan")))
    before = weights(trainer)
    with pytest.raises(TrainingError) as caught:
        trainer.train_step(trainer.network, batch)
    assert batch.photos[1] in str(caught.value)
    assert batch.photos[0] not in str(caught.value)
    assert_same(before, weights(trainer))


def test_gradients_that_explode_stop_and_name_the_batch(tmp_path, photos):
    trainer = Trainer(tiny(), photos, quick(loss=LossFigures("focal")), tmp_path)
    trainer.network.loc[0].bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match=r"gradients are not finite.*png.*png"):
        trainer.run()


def test_gradients_that_no_scale_mends_stop_the_run(tmp_path, photos):
    """A scaler as fp16 has it passes over steps until its scale fits; below 1 there is nothing left to gain."""
    trainer = Trainer(tiny(), photos, quick(loss=LossFigures("focal"), epochs=9), tmp_path)
    trainer._scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    trainer.network.loc[0].bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradients are not finite"):
        trainer.run()
    assert trainer.step == 3, "at scales 4, 2 and 1 steps were passed over"


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """Through gloo, with photos whose numbers of positives differ, and one without objects."""
    draw(tmp_path / "photos", 4)
    command = [sys.executable, "-m", "tests.training.two_processes", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}  # what torchrun says
    runs = [subprocess.Popen(command, env=env)]
    runs += [subprocess.Popen(command, env={**env, **meeting, "RANK": rank}) for rank in "01"]
    assert [run.wait(GUARD) for run in runs] == [0, 0, 0]
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert any(g.abs().max() > 1e-3 for g in one["gradients"].values())
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_frozen_layers_stay(tmp_path, photos):
    start = tiny()
    trainer = trained(tmp_path, photos, quick(loss=LossFigures("focal"), freeze=3, epochs=1), start=start)
    state = trainer.network.state_dict()
    changed = {name.rsplit(".", 1)[0] for name in state if not np.array_equal(state[name].numpy(), start.weights[name])}
    frozen = ["backbone.Conv2d_0", "backbone.Conv2d_1_depthwise", "backbone.Conv2d_1_pointwise"]
    assert not changed & set(frozen)
    assert {"backbone.Conv2d_2_depthwise", "loc.0", "conf.0"} <= changed


def test_norms_freeze_with_the_convolutions_before_them():
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    assert freeze(net, 0) == []
    assert freeze(net, 1) == [net[0], net[1]]
    assert not net[1].training
    assert net[4].training
    assert [p.requires_grad for p in net.parameters()] == [False] * 4 + [True] * 4


def test_decay_and_rates_by_kind_of_weight(tmp_path, photos):
    trainer = Trainer(tiny(), photos, quick(bias_lr=2.0, weight_decay=0.01), tmp_path)
    names = {id(p): name for name, p in trainer.network.named_parameters()}
    groups = trainer._optimizer.param_groups
    assert sum(len(g["params"]) for g in groups) == len(names)
    for group in groups:
        biases = {names[id(p)].endswith("bias") for p in group["params"]}
        assert biases == ({True} if group["scale"] == 2 else {False})
        assert group["weight_decay"] == (0 if group["scale"] == 2 else 0.01)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", {0: 0.2, 3: 0.8, 4: 1, 59: 1, 119: 1}),
        ("step", {4: 1, 79: 1, 80: 0.1, 99: 0.1, 100: 0.01, 119: 0.01}),
        ("cosine", {0: 0.2, 30: 0.853553, 60: 0.5, 119: 0.000171}),
    ],
)
def test_schedules(schedule, factors):
    for step, factor in factors.items():
        assert lr_factor(step, 120, schedule, warmup=4) == pytest.approx(factor, rel=0.01)


def test_the_average_follows(tmp_path, photos):
    trainer = Trainer(tiny(), photos, quick(ema=0.0, loss=LossFigures("focal"), epochs=1), tmp_path)
    trainer.run()
    assert_same(trainer._average.state, weights(trainer))
    slow = trained(tmp_path / "slow", photos, quick(ema=0.9, loss=LossFigures("focal"), epochs=1))
    start = tiny().weights
    now, average = slow.network.state_dict(), slow._average.state
    name = "conf.0.weight"
    far, near = (np.abs(s[name].numpy() - start[name]).mean() for s in (now, average))
    assert 0.1 * far < near < far


def test_a_share_of_the_start_is_kept(tmp_path, photos):
    start = tiny()
    alone, mixed = (
        trained(
            tmp_path / name, photos, quick(loss=LossFigures("focal"), keep_start=share, batch_norm=True), start=start
        )
        for name, share in (("alone", 0.0), ("mixed", 0.25))
    )
    assert_same(weights(alone), weights(mixed))  # what is learnt is the same; what is kept of it is not
    other = replace(start, weights={**start.weights, "loc.0.bias": start.weights["loc.0.bias"] + 1})
    with pytest.raises(TrainingError, match="the start, of which a share is kept, changed"):
        Trainer(other, photos, mixed.settings, tmp_path / "mixed").resume()
    assert Trainer(other, photos, alone.settings, tmp_path / "alone").resume()  # all that it gave was saved
    saved = load_checkpoint(tmp_path / "mixed/last.safetensors").weights
    for name, array in alone.checkpoint().weights.items():
        expected = 0.75 * array + 0.25 * start.weights[name]
        np.testing.assert_allclose(mixed.checkpoint().weights[name], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(saved[name].astype(np.float32), expected, rtol=1e-3, atol=1e-4)


def test_what_a_run_leaves(tmp_path, photos):
    scores = iter([0.25, 0.75, 0.5])
    seen = []
    settings = quick(epochs=3, loss=LossFigures("focal"))
    trainer = trained(tmp_path, photos, settings, Hooks(lambda checkpoint: next(scores), seen.append))
    assert trainer.best == 0.75
    assert [p.step for p in seen] == list(range(1, 10))
    assert seen[-1].best == 0.75
    best, last = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert best.spec.provenance["epochs"] == "2"
    assert last.spec.provenance["epochs"] == "3"
    assert {a.dtype for a in best.weights.values()} == {np.dtype(np.float16)}
    assert best.spec.labels == ("disc", "square")
    rows = read_log(tmp_path / "log.csv")
    assert [row["map"] for row in rows if row["map"]] == ["0.25", "0.75", "0.5"]
    assert [row["step"] for row in rows if row["loss"]] == [str(i) for i in range(1, 10)]


def test_a_teacher_must_look_at_the_same_boxes(tmp_path, photos):
    device = torch.device("cpu")
    teacher = Teacher(tiny(("square", "car")), tiny().spec, device)
    said = teacher.scores(torch.zeros(1, 3, 96, 96))
    assert (said[..., 0] == -1).all()
    assert ((said[..., 1] > 0) & (said[..., 1] < 1)).all()
    with pytest.raises(WrongUsageError, match="same input"):
        Teacher(tiny(size=(128, 128)), tiny().spec, device)


def mean_ap(dataset, checkpoint):
    detector = Detector(TorchEngine(checkpoint, "cpu", "fp32"), checkpoint.spec, choose(checkpoint.spec, score=0.01))
    found = detector.detect([read_picture(s) for s in dataset.samples])
    return evaluate(pair(dataset, found, checkpoint.spec.labels), "voc").figures["map"]


@pytest.mark.parametrize("kind", ["softmax", pytest.param("focal", marks=pytest.mark.slow)])
def test_sixteen_pictures_are_learnt_by_heart(kind, tmp_path):
    dataset = draw(tmp_path / "photos", 16)
    start = tiny(width=0.25)
    if kind == "softmax":
        start = fresh(replace(start.spec, score_function="softmax", background=True))
    settings = quick(
        epochs=70, batch=16, lr=3e-3, ema=0.9, loss=LossFigures(kind), log_steps=50, evaluate_epochs=70, warmup=10,
    )  # fmt: skip
    trainer = trained(tmp_path, store(dataset), settings, start=start)
    assert mean_ap(dataset, trainer.checkpoint()) > 0.95


@pytest.mark.slow
def test_sixteen_photos_are_learnt_by_heart(tmp_path, shared, coco_tflite):
    """Of VOC, from the COCO detector, mean average precision (area) on the photos themselves."""
    dataset = open_dataset(shared / "data/voc", "train")
    dataset = replace(dataset, samples=dataset.samples[:16])
    start = open_checkpoint(coco_tflite)
    settings = quick(
        epochs=80, batch=16, lr=1e-3, ema=0.9, loss=LossFigures("focal"), log_steps=20, evaluate_epochs=80, warmup=5,
        precision="auto",
    )  # fmt: skip
    start = transfer(start, retarget(start.spec, dataset.labels, background=False))
    trainer = trained(tmp_path, store(dataset), settings, start=start)
    assert mean_ap(dataset, trainer.checkpoint()) > 0.95
