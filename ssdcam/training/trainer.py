"""The trainer: photos in, checkpoints out, and at every moment something on the disk to go on from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssdcam.checkpoints.checkpoint import Checkpoint, spec_to_json
from ssdcam.cpu import usable_threads
from ssdcam.detection.torch_engine import Normalise, find_device, load_network
from ssdcam.errors import TrainingError
from ssdcam.notes import note
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.training import run_folder
from ssdcam.training.batches import Batch, batches
from ssdcam.training.data import Order, PhotoStore, steps_an_epoch
from ssdcam.training.distributed import Share, joined, summed
from ssdcam.training.ema import MovingAverage
from ssdcam.training.hooks import Hooks, Progress
from ssdcam.training.log import Log
from ssdcam.training.loss import LossSums, Targets, multibox_loss, total_loss
from ssdcam.training.norms import fold_norms, insert_norms
from ssdcam.training.optimizer import freeze, make_optimizer, set_lr
from ssdcam.training.precision import choose_precision, keep_whole, reduced
from ssdcam.training.schedule import lr_factor
from ssdcam.training.settings import Settings, differences, settings_to_json
from ssdcam.training.teacher import Teacher

_FIGURES = ("loss", "location", "classification", "positives", "gradient")
_STATE_FORMAT = 1
_SAMPLE_STEPS = 32


class Trainer:
    """Trains one network.

    Args:
        start: the spec to train and the weights to start from; see :mod:`ssdcam.training.transfer`.
        store: the photos.
        settings: how.
        folder: where ``best.safetensors``, ``last.safetensors``, the log and the state to resume from go.
        hooks: what is called on the way.
        share: this process among several.
        teacher: scores what a photo's data set does not label, to be learnt in place of ground truth.

    Attributes:
        step: steps done.
        steps: steps of the whole run.
        best: the best mAP so far.
        network: what is trained.

    Raises:
        TrainingError: there are no photos, or the batch cannot be shared out.
        SsdcamError: the start or the device does not do.
    """

    def __init__(
        self,
        start: Checkpoint,
        store: PhotoStore,
        settings: Settings,
        folder: Path,
        hooks: Hooks | None = None,
        share: Share | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.settings, self.spec = settings, start.spec
        self._start = start.weights if settings.keep_start else {}
        self._start_digest = _digest(self._start)
        self._store, self._folder = store, folder
        self._hooks, self._share, self._teacher = hooks or Hooks(), share or Share(), teacher
        if settings.batch % self._share.world:
            raise TrainingError(f"a batch of {settings.batch} cannot be shared by {self._share.world} processes")
        self._order = Order(settings.seed, settings.batch, settings.balance)
        self._epoch_steps, self._photos = steps_an_epoch(store, self._order), store.digest()
        self.step, self.steps = 0, self._epoch_steps * settings.epochs
        self.best: float | None = None

        self._device = find_device(settings.device)
        self._precision = choose_precision(settings.precision, self._device)
        torch.manual_seed(settings.seed)
        # The network's tensors are the arrays that it is loaded from, and the start is not ours to change.
        own = {name: array.copy() for name, array in start.weights.items()}
        network = load_network(replace(start, weights=own)).requires_grad_(True).train()
        self.network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(network.backbone, settings.freeze)
        if self._device.type == "cpu" and self._precision == "bf16":
            keep_whole(self.network, self.spec.input_size)
        self._normalise = Normalise(self.spec.normalisation).to(self._device)
        if settings.batch_norm:
            insert_norms(network.backbone, self._samples())
        self._defaults = torch.from_numpy(default_boxes(self.spec.boxes)).to(self._device)
        self._optimizer = make_optimizer(self.network, settings, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision == "fp16")
        self._average = MovingAverage(self.network, settings.ema)
        self._sums = np.zeros(len(_FIGURES) + 1)  # since the last line of the log; the last entry counts steps
        self._due = False  # whether an epoch is trained whose end (evaluation, checkpoints) is still to come
        self._problems: set[str] = set()

    def _samples(self) -> Iterator[Tensor]:
        """Inputs as training sees them, to measure activations on."""
        first = min(_SAMPLE_STEPS, self.steps)
        how = self.settings.augmentation
        for batch in batches(self._store, self._order, self.spec.input_size, how, first=0, last=first):
            yield self._normalise(batch.pixels.to(self._device))

    def resume(self) -> bool:
        """Go on from what is in the folder; False if there is nothing.

        Raises:
            TrainingError: the run in the folder is another one, or its state cannot be read.
        """
        state = run_folder.load_state(self._folder)
        if state is None:
            return False
        if state.get("format") != _STATE_FORMAT:
            raise TrainingError(f"{self._folder}: was left by another version of ssdcam: start anew elsewhere, with -o")
        changed = differences(self.settings, state["settings"])
        changed += [f"the {what} changed" for what in self._other_differences(state)]
        if changed:
            raise TrainingError(
                f"{self._folder}: this run cannot be resumed otherwise: {'; '.join(changed)}; "
                "say what it was started with, or start anew elsewhere, with -o"
            )
        self.network.load_state_dict(state["network"])
        self._average.load(state["average"], state["updates"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if self._device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self._device)
        self.step, self.best = state["step"], state["best"]
        if self.best is not None and state.get("scored", self._hooks.scored) != self._hooks.scored:
            note("the best mAP so far is of other photos or another metric, and no longer counts")
            self.best = None
        self._sums = np.array(state["sums"])
        self._due = state.get("due", False)
        return True

    def _other_differences(self, state: Mapping[str, Any]) -> list[str]:
        """What a state comes from that this run does not; states of old do not say all of it."""
        taught = self._teacher is not None
        same_photos = state["photos"] == self._photos if "photos" in state else state["steps"] == self.steps
        same = {
            "classes or the network": state["spec"] == _spec_facts(self.spec),
            "photos": same_photos,
            "start, of which a share is kept,": state.get("start", self._start_digest) == self._start_digest,
            "teacher": state.get("teacher", taught) == taught,
        }
        return [what for what, is_same in same.items() if not is_same]

    def run(self) -> bool:
        """Train to the end or until told to stop; what was learnt until then is saved either way.

        Returns:
            Whether it came to the end.

        Raises:
            TrainingError: the loss is no number, or something cannot be read or written.
        """
        with joined(self._share, self._device):
            return self._run()

    def _run(self) -> bool:
        lead = self._share.rank == 0
        model: nn.Module = self.network
        if self._share.world > 1:
            ids = [self._device] if self._device.type == "cuda" else None
            model = DistributedDataParallel(self.network, device_ids=ids)
            self._check_agreement()
        log = Log(self._folder, self.step, evaluated=not self._due) if lead else None
        workers = self.settings.workers
        ahead = batches(
            self._store,
            self._order,
            self.spec.input_size,
            self.settings.augmentation,
            first=self.step,
            last=self.steps,
            share=self._share,
            workers=default_workers(self._device) if workers is None else workers,
            pinned=self._device.type == "cuda",
        )
        saved = began = time.monotonic()
        first, epochs = self.step, self.settings.epochs
        try:
            if self._due and not self._end_epoch(log):
                return False
            for batch in ahead:
                stop = self._hooks.stop()
                if stop and self._share.world == 1:  # several have to agree, which they do with a step
                    self.save()
                    break
                self._tell(batch.problems)
                loss, stopped = self.train_step(model, batch, stop=stop)
                now = time.monotonic()
                rate = (self.step - first) * self.settings.batch / (now - began)
                self._due = self.step % self._epoch_steps == 0
                if log and (self._due or self.step % self.settings.log_steps == 0):
                    log.write(self._row(rate))
                if self._due:
                    stopped |= not self._end_epoch(log)
                    saved = time.monotonic()
                    began += saved - now  # evaluating is not training
                elif lead and (stopped or now - saved >= self.settings.save_seconds):
                    self.save()
                    saved = time.monotonic()
                epoch = min(self.step // self._epoch_steps + 1, epochs)
                self._hooks.progress(Progress(self.step, self.steps, epoch, epochs, loss, rate, self.best))
                if stopped:
                    break
        finally:
            if log:
                log.close()
        return self.step == self.steps and not self._due

    def _check_agreement(self) -> None:
        """Before processes of several machines wait for each other: they must be at the same step of the same run."""
        mine = torch.tensor([self.step, self.steps, 1], dtype=torch.float64, device=self._device)
        if not torch.equal(summed(mine, self._share), mine * self._share.world):
            raise TrainingError(
                "the processes are not at the same step of the same run: all of them need the same photos and RUN_DIR"
            )

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in dict.fromkeys(problems):
            if problem not in self._problems:
                self._hooks.warn(problem)
        self._problems.update(problems)

    def train_step(self, model: nn.Module, batch: Batch, *, stop: bool = False) -> tuple[float, bool]:
        """One step.

        Args:
            model: the network, or what shares its gradients with other processes.
            batch: this process' part.
            stop: whether this process was told to stop.

        Returns:
            The loss of all processes' parts together, and whether any process was told to stop.
        """
        settings = self.settings
        set_lr(self._optimizer, settings.lr * lr_factor(self.step, self.steps, settings.schedule, settings.warmup))
        self._optimizer.zero_grad(set_to_none=True)
        sums = self.losses(model, batch)
        mine = torch.stack([part.detach().sum() for part in sums] + [sums.location.new_tensor(float(stop))])
        location, classification, positives, stops = summed(mine, self._share)
        # Gradients are averaged over the processes, where the sum is meant.
        (self._scaler.scale(total_loss(sums, positives, settings.loss.alpha)) * self._share.world).backward()  # type: ignore[no-untyped-call]
        divisor = positives.clamp(min=1)
        figures = torch.stack([location / divisor, classification / divisor, positives]).tolist()
        loss = figures[1] + settings.loss.alpha * figures[0]
        self._scaler.unscale_(self._optimizer)
        learnt = [p for p in self.network.parameters() if p.requires_grad]
        norm = float(nn.utils.clip_grad_norm_(learnt, settings.clip or float("inf")))
        if not np.isfinite(loss) or (not np.isfinite(norm) and not self._scaler_helps()):
            raise TrainingError(_complaint(loss, sums, batch, self.step + 1))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._average.update(self.network)
        self.step += 1
        self._sums += [loss, *figures, norm if np.isfinite(norm) else 0.0, 1.0]
        return loss, bool(stops)

    def _scaler_helps(self) -> bool:
        """Whether gradients that are not finite may be of fp16's making: the scaler skips the step and scales less."""
        return self._scaler.is_enabled() and self._scaler.get_scale() >= 1

    def losses(self, model: nn.Module, batch: Batch) -> LossSums:
        """The loss of each picture of a batch."""
        pixels = batch.pixels.to(self._device, non_blocking=True)
        targets = Targets(*(part.to(self._device, non_blocking=True) for part in batch.targets))
        images = self._normalise(pixels)
        with reduced(self._device, self._precision):
            locations, raw_scores = model(images)
            soft = self._teacher.scores(images) if self._teacher else None
        return multibox_loss(locations, raw_scores, targets, self._defaults, self.spec, self.settings.loss, soft)

    def checkpoint(self) -> Checkpoint:
        """What has been learnt so far: the moving average, and of the start what is to be kept."""
        state = fold_norms(self._average.state)
        weights = {name: tensor.float().cpu().numpy().copy() for name, tensor in state.items()}
        kept = self.settings.keep_start
        if kept:
            weights = {name: (1 - kept) * now + kept * self._start[name] for name, now in weights.items()}
        progress = {"epochs": f"{self.step / self._epoch_steps:g}", "photos": str(len(self._store))}
        if self.best is not None:
            progress["best_map"] = f"{self.best:.4f}"
        return Checkpoint(replace(self.spec, provenance={**self.spec.provenance, **progress}), weights)

    def save(self) -> None:
        """Save all that the next step depends on."""
        cuda = self._device.type == "cuda"
        state = {
            "format": _STATE_FORMAT,
            "settings": settings_to_json(self.settings),
            "spec": _spec_facts(self.spec),
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self._average.state,
            "updates": self._average.updates,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self._device) if cuda else None,
            "sums": self._sums.tolist(),
            "due": self._due,
            "photos": self._photos,
            "start": self._start_digest,
            "teacher": self._teacher is not None,
            "scored": self._hooks.scored,
        }
        run_folder.save_state(self._folder, state)

    def _row(self, rate: float) -> dict[str, float]:
        means = self._sums[:-1] / max(self._sums[-1], 1)
        self._sums[:] = 0
        lr = self._optimizer.param_groups[0]["lr"]
        return {
            "step": self.step, "epoch": self.step / self._epoch_steps, "lr": lr,
            **dict(zip(("location", "classification", "positives"), means[1:4].tolist(), strict=True)),
            "loss": float(means[0]), "gradient": float(means[4]), "photos_per_second": rate,
        }  # fmt: skip

    def _end_epoch(self, log: Log | None) -> bool:
        """Evaluate and save checkpoints and state: the first process, while the others wait.

        Returns:
            Whether it came to the end; if it was told to stop, a resumed run does it again.
        """
        done = self._share.rank != 0 or self._evaluate_and_keep(log)
        if self._share.world > 1:
            done = not bool(summed(torch.tensor(float(not done), device=self._device), self._share))
        if done:
            self._due = False
            if self._share.rank == 0:
                self.save()
        return done

    def _evaluate_and_keep(self, log: Log | None) -> bool:
        evaluate, half = self._hooks.evaluate, self.settings.half
        epoch = self.step // self._epoch_steps
        better = evaluate is None
        if evaluate and (epoch % self.settings.evaluate_epochs == 0 or epoch == self.settings.epochs):
            self.save()  # evaluating may take long: killed there, the run loses nothing
            score = evaluate(self.checkpoint())
            if score is None:
                return False
            better = self.best is None or score > self.best
            self.best = max(score, self.best or 0.0)
            if log:
                log.write({"step": self.step, "epoch": epoch, "map": score})
        checkpoint = self.checkpoint()
        if better:
            run_folder.save_weights(self._folder / "best.safetensors", checkpoint, half=half)
        run_folder.save_weights(self._folder / "last.safetensors", checkpoint, half=half)
        return True


def default_workers(device: torch.device) -> int:
    """Processes that prepare batches: a CPU that trains has no core to spare for them."""
    return min(8, usable_threads() - 1) if device.type == "cuda" else 0


def _spec_facts(spec: Any) -> dict[str, Any]:
    """All of a spec but its provenance."""
    return {key: value for key, value in spec_to_json(spec).items() if key != "provenance"}


def _digest(weights: Mapping[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(np.ascontiguousarray(weights[name]).data)
    return digest.hexdigest()


def _complaint(loss: float, sums: LossSums, batch: Batch, step: int) -> str:
    each: Tensor = sums.location.detach() + sums.classification.detach()
    bad = [name for name, finite in zip(batch.photos, each.isfinite().tolist(), strict=True) if not finite]
    where = f"from {', '.join(bad)}" if bad else f"with {', '.join(batch.photos)}"
    what = f"the loss is {loss}" if not np.isfinite(loss) else "the gradients are not finite"
    return f"step {step}: {what}, {where}; look at these pictures' boxes, or start again with a lower --lr"
