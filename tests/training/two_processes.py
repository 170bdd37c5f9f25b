"""A step under torchrun, or alone: saves the loss, the gradients and the weights after it."""

import sys
from pathlib import Path

import torch

from ssdcam.training.distributed import find_share
from ssdcam.training.hooks import Hooks
from ssdcam.training.loss import LossFigures
from ssdcam.training.trainer import Trainer

from .scenes import draw, quick, store, tiny

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    share = find_share()
    torch.set_num_threads(1)
    dataset = draw(folder / f"photos{share.world}{share.rank}", 4)  # the same, but nobody waits for the other
    settings = quick(epochs=1, batch=4, optimizer="sgd", clip=0, loss=LossFigures("sigmoid"))
    run = folder / f"run{share.world}"
    run.mkdir(exist_ok=True)
    losses = []
    hooks = Hooks(progress=lambda progress: losses.append(progress.loss))
    trainer = Trainer(tiny(), store(dataset), settings, run, hooks, share)
    trainer.run()
    if share.rank == 0:
        gradients = {name: p.grad for name, p in trainer.network.named_parameters()}
        saved = {"loss": losses[0], "gradients": gradients, "weights": trainer.network.state_dict()}
        torch.save(saved, folder / f"{share.world}.pt")
