"""A short run in a process of its own, to be killed: prints a line a step."""

import sys
from pathlib import Path

import torch

from ssdcam.training.augment import Augmentation
from ssdcam.training.hooks import Hooks
from ssdcam.training.loss import LossFigures
from ssdcam.training.trainer import Trainer

from .scenes import draw, quick, store, tiny

if __name__ == "__main__":
    pictures, folder = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    settings = quick(epochs=8, augmentation=Augmentation(), loss=LossFigures("focal"), save_seconds=0.02)
    hooks = Hooks(progress=lambda progress: print(progress.step, flush=True))
    trainer = Trainer(tiny(), store(draw(pictures, 10)), settings, folder, hooks)
    trainer.resume()
    trainer.run()
