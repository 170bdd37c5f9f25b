"""What the processor has instructions for."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from ssdcam.cpu import computes_int8, cpu_features

CPUINFO = """processor\t: 0
model name\t: a CPU
flags\t\t: fpu sse2 {features}
bugs\t\t: avx_vnni

processor\t: 1
flags\t\t: fpu sse2 {features}
"""


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("features", "expected"),
    [("avx2", False), ("avx2 avx_vnni", True), ("avx512f avx512_vnni", True), ("amx_int8", True), ("avx512f", False)],
)
def test_by_features(cpuinfo: Path, features: str, expected: bool) -> None:
    cpuinfo.write_text(CPUINFO.format(features=features))
    assert cpu_features(cpuinfo) == {"fpu", "sse2", *features.split()}
    assert computes_int8(cpuinfo) is expected


def test_arm_is_not_measured(cpuinfo: Path) -> None:
    cpuinfo.write_text("Features\t: fp asimd asimddp i8mm\n")
    assert cpu_features(cpuinfo) == {"fp", "asimd", "asimddp", "i8mm"}
    assert not computes_int8(cpuinfo)


@pytest.mark.parametrize("there", [True, False])
def test_where_there_is_no_such_file_opencv_is_asked(
    cpuinfo: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cpu_features(cpuinfo) == frozenset()
    monkeypatch.setattr(cv2, "checkHardwareSupport", lambda feature: there and feature == 23)
    assert computes_int8(cpuinfo) is there


def test_opencv_means_the_same() -> None:
    if not cpu_features():
        pytest.skip("this system has no /proc/cpuinfo")
    assert cv2.checkHardwareSupport(23) == ("avx512_vnni" in cpu_features())
