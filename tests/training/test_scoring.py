"""What the best weights are chosen by: stopped on the way, and with photos that disappear while a run lasts."""

from __future__ import annotations

from pathlib import Path

from ssdcam.training.scoring import scorer

from .scenes import draw, tiny


def test_heeds_the_stop(tmp_path: Path) -> None:
    dataset = draw(tmp_path, 20)
    assert scorer([dataset], "cpu", "voc")(tiny()) is not None
    stops = iter([False, True])
    assert scorer([dataset], "cpu", "voc", stop=lambda: next(stops))(tiny()) is None


def test_photos_that_are_gone_are_told_once_and_left_out(tmp_path: Path) -> None:
    dataset, other = draw(tmp_path / "a", 20), draw(tmp_path / "b", 4)
    whole = scorer([other], "cpu", "voc")(tiny())
    told: list[str] = []
    score = scorer([dataset, other], "cpu", "coco", warn=told.append)
    score(tiny())
    assert told == []
    gone = [sample.path for sample in dataset.samples[3:5]]
    for path in gone:
        path.unlink()
    assert score(tiny()) is not None
    assert score(tiny()) is not None
    assert told == [f"{path}: no such file" for path in gone]
    for sample in dataset.samples:
        sample.path.unlink(missing_ok=True)
    assert scorer([dataset, other], "cpu", "voc")(tiny()) == whole  # what shows nothing has no say
    assert scorer([dataset], "cpu", "coco")(tiny()) == 0
