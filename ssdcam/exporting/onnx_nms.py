"""NMS in ONNX's own operators, as text in ONNX's own syntax: what ``ssdcam.ssd.postprocess`` does, rule by rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdcam.exporting.formats import nms_room
from ssdcam.ssd.spec import ModelSpec, Selection

# The best of each group, laid out by group and falling score: (B, groups * before) boxes, scores and class ids.
_BEST_OF_EACH_CLASS = """
  by_class = Transpose<perm = [0, 2, 1]>(all_scores)
  group_scores, group_places = TopK(by_class, before)
  places = Reshape(group_places, flat)
  candidate_scores = Reshape(group_scores, flat)
  candidate_shape = Shape(places)
  candidate_classes = Expand(classes, candidate_shape)
"""
_BEST_OF_ALL = """
  flat_scores = Reshape(all_scores, flat)
  candidate_scores, entries = TopK(flat_scores, before)
  places = Div(entries, num_classes)
  first_entries = Mul(places, num_classes)
  candidate_classes = Sub(entries, first_entries)
"""

# NonMaxSuppression takes every group for a picture of its own, and its result becomes a mask: the order in which it
# names what it keeps does not matter, and nothing behind it has a size that depends on the picture. Boxes are taken by
# GatherElements: of GatherND OpenVINO makes a Broadcast of what is gathered from, and with that behind them it (2026.4)
# computes some networks in 8-bit integers wrongly.
_NMS = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
nms (float[batch, {boxes}, 4] all_boxes, float[batch, {boxes}, {labels}] all_scores) =>
    (float[batch, {after}, 4] boxes, float[batch, {after}] scores, int64[batch, {after}] class_ids,
     int64[batch] counts)
<
  int64[1] before = {{{before}}}, int64[1] after = {{{after}}}, int64 num_classes = {{{labels}}},
  int64[1, {candidates}] classes = {{{classes}}}, int64 no_class = {{-1}},
  int64[2] flat = {{0, -1}}, int64[3] boxes_of_group = {{-1, {before}, 4}},
  int64[3] scores_of_group = {{-1, 1, {before}}}, int64[2] rows_of_group = {{-1, {before}}},
  int64[1] last = {{-1}}, int64[1] second = {{1}}, int64[2] group_and_place = {{0, 2}},
  float zero = {{0}}, float none = {{-1}}, float[1] iou = {{{iou}}}, float[1] below = {{{below}}}
>
{{
  {best}
  place_index = Unsqueeze(places, last)
  place_of_side = Concat<axis = 2>(place_index, place_index, place_index, place_index)
  candidates = GatherElements<axis = 1>(all_boxes, place_of_side)
  boxes_in = Reshape(candidates, boxes_of_group)
  scores_in = Reshape(candidate_scores, scores_of_group)
  kept = NonMaxSuppression(boxes_in, scores_in, before, iou, below)
  where = Gather<axis = 1>(kept, group_and_place)
  number = Shape<end = 1>(where)
  marks = ConstantOfShape<value = float[1] {{1}}>(number)
  rows = Reshape(candidate_scores, rows_of_group)
  nothing = Mul(rows, zero)
  marked = ScatterND(nothing, where, marks)
  mask = Greater(marked, zero)
  kept_rows = Where(mask, rows, none)
  all_shape = Shape(candidate_scores)
  left = Reshape(kept_rows, all_shape)
  top_scores, top = TopK(left, after)
  there = GreaterOrEqual(top_scores, zero)
  ones = Cast<to = 7>(there)
  counts = ReduceSum<keepdims = 0>(ones, second)
  scores = Where(there, top_scores, zero)
  top_classes = GatherElements<axis = 1>(candidate_classes, top)
  class_ids = Where(there, top_classes, no_class)
  top_index = Unsqueeze(top, last)
  top_of_side = Concat<axis = 2>(top_index, top_index, top_index, top_index)
  top_boxes = GatherElements<axis = 1>(candidates, top_of_side)
  there_box = Unsqueeze(there, last)
  boxes = Where(there_box, top_boxes, zero)
}}
"""


def nms_graph(
    spec: ModelSpec, selection: Selection, opset: int, ir_version: int, *, suppresses_equal: bool = False
) -> Any:
    """A model of inputs ``all_boxes`` and ``all_scores`` and outputs ``boxes, scores, class_ids, counts``.

    Args:
        spec: of the network before it.
        selection: threshold and figures.
        opset: of the operators; 18 or higher.
        ir_version: of the file.
        suppresses_equal: whether the runtime takes an IoU of exactly the threshold for too much; by ONNX's rule, and by
            ours, it is not.
    """
    import onnx

    iou = np.float32(selection.nms.iou)
    if suppresses_equal:  # some runtimes take the least numbers of all for 0
        iou = max(np.nextafter(iou, np.float32(2)), np.finfo(np.float32).tiny)
    # The operator keeps what is above its threshold, and a box of exactly our threshold is to be kept.
    below = np.nextafter(np.float32(selection.score), np.float32(-1)) if selection.score > 0 else np.float32(-1)

    room = nms_room(spec, selection)
    candidates = room.groups * room.before
    text = _NMS.format(
        ir_version=ir_version,
        opset=opset,
        boxes=spec.boxes.num_boxes,
        labels=len(spec.labels),
        before=room.before,
        after=room.after,
        candidates=candidates,
        classes=", ".join(str(i // room.before) for i in range(candidates)),
        below=repr(float(below)),
        iou=repr(float(iou)),
        best=_BEST_OF_ALL if selection.nms.class_agnostic else _BEST_OF_EACH_CLASS,
    )
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for constant in list(model.graph.initializer):
        if constant.name not in used:  # of the other kind of groups; runtimes would warn of it
            model.graph.initializer.remove(constant)
    return model
