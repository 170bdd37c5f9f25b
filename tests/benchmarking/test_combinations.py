"""What is tried, and what is refused."""

from __future__ import annotations

import pytest

from ssdcam.benchmarking.combinations import BASELINE, Combination, combinations, start_engine
from ssdcam.checkpoints.checkpoint import Checkpoint
from ssdcam.detection.engines import ENGINES, EngineKind
from ssdcam.detection.int8 import Calibration
from ssdcam.errors import WrongUsageError


def test_all_of_a_cpu() -> None:
    found = combinations(None, None, ["cpu"])
    assert found[0] == Combination(BASELINE, "fp32", "cpu"), "plain torch, the baseline, comes first"
    assert {one.engine for one in found} == {BASELINE, *ENGINES}
    assert len(set(found)) == len(found)
    assert [one.precision for one in found if one.engine == "openvino"] == ["fp32", "bf16", "fp16", "int8"]
    for name in ENGINES:
        assert Combination(name, "fp32", "cpu") in found


def test_engines_are_tried_on_the_devices_that_they_have() -> None:
    found = combinations(["openvino", "torch"], None, ["cpu", "cuda:0"])
    assert {one.device for one in found if one.engine == "openvino"} == {"cpu"}
    assert {one.device for one in found if one.engine == "torch"} == {"cpu", "cuda:0"}
    assert Combination("torch", "fp16", "cuda:0") in found
    assert Combination("torch", "fp16", "cpu") not in found, "a CPU is slow in it"


def test_what_is_asked_for_is_tried() -> None:
    assert combinations(["torch", "torch"], ["fp16", "int8"], ["cpu"]) == [
        Combination("torch", "fp16", "cpu"),
        Combination("torch", "int8", "cpu"),
    ]
    assert combinations([BASELINE], ["fp16"], ["cpu"]) == [Combination(BASELINE, "fp32", "cpu")]
    assert combinations(["openvino"], ["fp32"], ["cuda:0"]) == [Combination("openvino", "fp32", "cuda:0")]


def test_int8_is_calibrated_on_made_up_pictures_if_it_must_be(
    tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Calibration | None] = []
    monkeypatch.setattr(EngineKind, "start", lambda *how: given.append(how[-1]))
    for precision in ("int8", "fp32"):
        start_engine(Combination("openvino", precision, "cpu"), tiny_checkpoint, None)
    first, second = given
    assert first is not None
    assert (len(first.batch), first.only_if_needed) == (16, True)
    assert second is None


def test_unknown_engine() -> None:
    with pytest.raises(WrongUsageError, match="engine 'tensorrt' is none of torch-eager, torch"):
        combinations(["tensorrt"], None, ["cpu"])


def test_unknown_precision() -> None:
    with pytest.raises(WrongUsageError, match="precision 'int4' is none of auto, fp32, fp16, bf16, int8"):
        combinations(["torch"], ["fp32", "int4"], ["cpu"])
