"""A teacher: a trained detector whose scores are learnt where a photo's data set says nothing (self-distillation)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.datasets.aliases import match_labels
from ssdcam.detection.torch_engine import load_network
from ssdcam.errors import WrongUsageError
from ssdcam.ssd.default_boxes import default_boxes
from ssdcam.ssd.spec import ModelSpec


class Teacher:
    """Scores of a trained network for a student's classes.

    Args:
        checkpoint: the teacher; it has the student's default boxes, input and normalisation.
        student: the spec of the network that learns.
        device: where both run.

    Raises:
        WrongUsageError: the two do not look at the same boxes of the same picture, or the student's scores are a
            softmax, which has no room for a class that may be there or not.
    """

    def __init__(self, checkpoint: Checkpoint, student: ModelSpec, device: torch.device) -> None:
        spec = checkpoint.spec
        if student.score_function == "softmax":
            raise WrongUsageError("a teacher needs a student with sigmoid scores: pass --loss focal or sigmoid")
        if spec.input_size != student.input_size or spec.normalisation != student.normalisation:
            raise WrongUsageError("a teacher must take the same input as the network that learns from it")
        ours, theirs = default_boxes(student.boxes), default_boxes(spec.boxes)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, atol=1e-3):
            raise WrongUsageError("a teacher must have the same default boxes as the network that learns from it")
        network = load_network(checkpoint).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network, self._spec = network, spec
        found = match_labels(student.labels, spec.labels)
        self._covered = torch.tensor([i is not None for i in found], device=device)
        self._columns = torch.tensor([(i or 0) + spec.background for i in found], device=device)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """What it sees in normalised images ``(B, 3, H, W)``, computed at the precision of the context.

        Returns:
            float ``(B, N, C)`` by the student's classes, 0 to 1, and -1 for classes that it does not know.
        """
        raw_scores = self._network(images)[1].float()
        every = F.softmax(raw_scores, dim=2) if self._spec.score_function == "softmax" else raw_scores.sigmoid()
        return every[..., self._columns].masked_fill(~self._covered, -1)
