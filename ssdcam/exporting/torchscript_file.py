"""TorchScript: runs in torch, from Python or C++, without ssdcam."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ssdcam.exporting.formats import Format, Run, as_half, nms_room
from ssdcam.exporting.network import DecodedSSD
from ssdcam.ssd.box_coder import pairwise_iou
from ssdcam.ssd.spec import ModelSpec, Selection

BLOCK = 1024
"""Overlaps are held for so many boxes by so many at a time, which bounds memory whatever enters."""

FACTS_FILE = "ssdcam.json"
"""Name of the file inside the archive that holds the facts."""


def _build(network: DecodedSSD, opset: int | None, half: bool) -> Any:
    height, width = network.spec.input_size
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # sizes become constants, as they should
        traced = _stored_as_half(network) if half else network
        return torch.jit.trace(traced, (torch.zeros(2, 3, height, width),))  # type: ignore[no-untyped-call]


def _with_nms(model: Any, spec: ModelSpec, selection: Selection) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(_WithNms(model, spec, selection).eval())


class _Widen(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


def _stored_as_half(network: DecodedSSD) -> DecodedSSD:
    """The network with its weights kept as 16-bit floats, which are widened whenever it runs."""
    stored = deepcopy(network)
    for module in list(stored.modules()):
        for name, values in list(module.named_parameters(recurse=False)):
            if (narrow := as_half(values.numpy())) is not None:
                parametrize.register_parametrization(module, name, _Widen(), unsafe=True)  # unsafe: of another type
                weights = nn.Parameter(torch.from_numpy(narrow), requires_grad=False)
                module.parametrizations[name].original = weights  # type: ignore[union-attr,index]
    return stored


class _WithNms(nn.Module):
    """A network and NMS behind it, written so that torch can compile it."""

    def __init__(self, network: nn.Module, spec: ModelSpec, selection: Selection) -> None:
        super().__init__()
        self.network = network
        self.class_agnostic = selection.nms.class_agnostic
        self.labels = len(spec.labels)
        self.groups, self.before, self.after = nms_room(spec, selection)
        self.iou, self.score = selection.nms.iou, selection.score

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        all_boxes, all_scores = self.network(images)
        batch = all_boxes.shape[0]
        # The best of each group, by group and falling score: (B, groups, before).
        by_group = all_scores.flatten(1)[:, None] if self.class_agnostic else all_scores.transpose(1, 2)
        scores, entries = by_group.sort(dim=-1, descending=True, stable=True)
        scores, entries = scores[..., : self.before].flatten(1), entries[..., : self.before].flatten(1)
        if self.class_agnostic:
            class_ids = entries % self.labels
            entries = entries // self.labels
        else:
            class_ids = torch.arange(self.labels, device=entries.device).repeat_interleave(self.before)
            class_ids = class_ids[None].expand(batch, -1)
        boxes = all_boxes.gather(1, entries[..., None].expand(-1, -1, 4))

        grouped = boxes.reshape(-1, self.before, 4)
        present = (scores >= self.score).reshape(-1, self.before)
        kept = torch.zeros_like(present)
        counts: list[int] = present.sum(dim=1).tolist()
        for group, count in enumerate(counts):
            alive = present[group : group + 1, :count]
            kept[group, :count] = _greedy(grouped[group : group + 1, :count], alive, self.iou)[0]

        left = scores.masked_fill(~kept.reshape(batch, -1), -1.0)
        top_scores, top = left.sort(dim=-1, descending=True, stable=True)
        top_scores, top = top_scores[:, : self.after], top[:, : self.after]
        there = top_scores >= 0
        top_boxes = boxes.gather(1, top[..., None].expand(-1, -1, 4))
        return (
            top_boxes.masked_fill(~there[..., None], 0.0),
            top_scores.masked_fill(~there, 0.0),
            class_ids.gather(1, top).masked_fill(~there, -1),
            there.sum(dim=1),
        )


def _greedy(boxes: Tensor, present: Tensor, iou: float, block_size: int = BLOCK) -> Tensor:
    """Greedy NMS in each row of padded boxes; in words of Python that ``torch.jit.script`` knows.

    Args:
        boxes: float ``(groups, L, 4)``, ``x1, y1, x2, y2``, by falling score.
        present: bool ``(groups, L)``, False for padding.
        iou: boxes that overlap by more than this suppress each other.
        block_size: overlaps are held for this many boxes by this many boxes at a time.

    Returns:
        bool ``(groups, L)``: which are kept.
    """
    length = boxes.shape[1]
    keep = torch.zeros_like(present)
    for start in range(0, length, block_size):
        block = boxes[:, start : start + block_size]
        alive = present[:, start : start + block_size]
        for earlier in range(0, start, block_size):
            above = pairwise_iou(boxes[:, earlier : earlier + block_size], block) > iou
            alive = alive & ~(above & keep[:, earlier : earlier + block_size, None]).any(dim=1)
        suppresses = (pairwise_iou(block, block) > iou).triu(diagonal=1)
        kept = alive
        while True:
            again = alive & ~(suppresses & kept[..., None]).any(dim=1)
            if torch.equal(again, kept):
                break
            kept = again
        keep[:, start : start + block_size] = kept
    return keep


def _save(model: Any, path: Path, facts: Mapping[str, str]) -> None:
    model.save(path, _extra_files={FACTS_FILE: json.dumps(dict(facts), ensure_ascii=False)})


def _load(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(images: Any) -> tuple[Any, ...]:
        return tuple(output.numpy() for output in model(torch.from_numpy(images)))

    return run


FORMAT = Format(
    require=lambda: None,
    build=_build,
    with_nms=_with_nms,
    save=_save,
    load=_load,
)
