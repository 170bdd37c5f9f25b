"""What options describe, opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssdcam.cli import console
from ssdcam.cli.loading import calibration_pictures

from .. import pictures


def test_calibration_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder's own, or where it has none those of its folders, spread over all; what is damaged is named."""
    monkeypatch.setattr(console.log, "propagate", True)
    data = tmp_path / "set [1]"
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/c/3.png")):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.photo(data / name, 40 + seed, 30)
    (data / "a/labels.txt").write_text("cat")
    (data / "a/damaged.png").write_text("cat")
    assert [image.shape[1] for image in calibration_pictures(data)] == [40, 41, 42]
    assert [record.message.split(":")[0] for record in caplog.records] == [str(data / "a/damaged.png")]
    pictures.photo(data / "own.png", 50, 30)
    assert [image.shape[1] for image in calibration_pictures(data)] == [50]


def test_a_folder_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console.log, "propagate", True)
    assert list(calibration_pictures(tmp_path)) == []
    assert caplog.messages == [f"{tmp_path}: holds no pictures"]
