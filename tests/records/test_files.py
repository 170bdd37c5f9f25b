"""What each format's files look like to other programs, and how files of other programs are read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ssdcam.errors import RecordError
from ssdcam.records import read_coco_results, read_records
from ssdcam.records.yolo import read_yolo

from .samples import LABELS, TWO, as_json, read, record, write

FRAME = record("clips/v.mp4", TWO, frame=3, time=0.12)


def test_csv_has_a_row_a_detection(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    write(path, [record('a "1".jpg', TWO), record("empty.jpg"), FRAME])
    assert path.read_bytes().decode() == (
        "source,frame,time,width,height,label,class_id,score,x1,y1,x2,y2\r\n"
        '"a ""1"".jpg",,,640,480,person,0,0.9131,48.2,240.1,195.0,371.4\r\n'
        '"a ""1"".jpg",,,640,480,"chaise, longue",2,0.5,0.0,0.0,640.0,480.0\r\n'
        "clips/v.mp4,3,0.12,640,480,person,0,0.9131,48.2,240.1,195.0,371.4\r\n"
        'clips/v.mp4,3,0.12,640,480,"chaise, longue",2,0.5,0.0,0.0,640.0,480.0\r\n'
    )


def test_csv_is_utf8_and_changes_no_text_that_is_text(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    odd = ["=1+1", "@x", "-1", "рыба", r"C:\new\u0041", " edges ", "a\nb\r\nc\rd", "'", "\0"]
    bad_bytes = b"\xff.jpg".decode("utf-8", "surrogateescape")
    write(path, [record(name, TWO[:1]) for name in [*odd, bad_bytes]])
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [*odd, r"\udcff.jpg"]


def test_csv_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(
        b"\xef\xbb\xbflabel,note,source,y2,x2,y1,x1,score,class_id,height,width,time,frame\n"
        b"cat,hello,v.mp4,4,3,2,1,0.5,7.0,480.0,640.0,0.5,12.0\n\n"
        b"dog,,v.mp4,4,3,2,1,0.75,8.0,480.0,640.0,0.5,12.0"
    )
    [found] = read(path)
    assert (found["frame"], found["width"]) == (12, 640)
    assert [(one["label"], one["class_id"], one["box"]) for one in found["detections"]] == [
        ("dog", 8, [1.0, 2.0, 3.0, 4.0]),
        ("cat", 7, [1.0, 2.0, 3.0, 4.0]),
    ]


def test_coco_is_a_data_set_whose_annotations_are_results(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write(path, [record("a.jpg", TWO), record("empty.jpg"), FRAME])
    whole = json.loads(path.read_text("utf-8"))
    assert whole["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "empty.jpg", "width": 640, "height": 480},
        {"id": 3, "file_name": "clips/v.mp4", "width": 640, "height": 480, "frame": 3, "time": 0.12},
    ]
    assert whole["categories"] == [{"id": i, "name": name} for i, name in enumerate(LABELS, 1)]
    assert [one["id"] for one in whole["annotations"]] == [1, 2, 3, 4]
    assert [one["image_id"] for one in whole["annotations"]] == [1, 1, 3, 3]
    assert whole["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [48.2, 240.1, 146.8, 131.3],
        "score": 0.9131,
        "area": 19274.84,
        "iscrowd": 0,
    }
    assert whole["annotations"][1]["category_id"] == 3


GROUND_TRUTH = {
    "images": [
        {"id": 42, "file_name": "b.jpg", "width": 10, "height": 20},
        {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480, "license": 1},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
}


def test_a_coco_data_set_is_read_with_a_score_of_one_and_classes_counted_without_gaps(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(GROUND_TRUTH))
    empty, full = read(path)
    assert empty == {"source": "b.jpg", "width": 10, "height": 20, "detections": []}
    assert full["detections"] == [{"label": "toothbrush", "class_id": 2, "score": 1.0, "box": [1.0, 2.0, 4.0, 6.0]}]


def results_files(tmp_path: Path, results: Any) -> tuple[Path, Path]:
    (tmp_path / "gt.json").write_text(json.dumps(GROUND_TRUTH))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path / "results.json", tmp_path / "gt.json"


def test_plain_coco_results_are_read_with_their_ground_truth(tmp_path: Path) -> None:
    scores = [0.25, 0.75]
    results = [{"image_id": 42, "category_id": 13, "bbox": [1.5, 2, 3, 4], "score": score} for score in scores]
    records = as_json(read_coco_results(*results_files(tmp_path, results)))
    assert [one["source"] for one in records] == ["b.jpg", "a.jpg"]
    assert records[1]["detections"] == []
    assert records[0]["detections"] == [
        {"label": "stop sign", "class_id": 1, "score": score, "box": [1.5, 2.0, 4.5, 6.0]} for score in (0.75, 0.25)
    ]


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        ({"image_id": 8}, r"annotations\[1\]: image_id 8 is not among the images"),
        ({"image_id": [7]}, r"annotations\[1\]: image_id is \[7\], not an id"),
        ({"category_id": 2}, r"annotations\[1\]: category_id 2 is not among the categories"),
        ({"bbox": [1, 2, 3]}, r"annotations\[1\]: bbox"),
        ({"bbox": [1, 2, -3, 4]}, r"annotations\[1\]: the box .* ends before it starts"),
        ({"score": None}, r"annotations\[1\]: score is None"),
    ],
)
def test_results_that_fit_nothing_are_named(tmp_path: Path, result: dict[str, Any], complaint: str) -> None:
    good = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    files = results_files(tmp_path, [good, good | result])
    with pytest.raises(RecordError, match=f"results.json: {complaint}"):
        list(read_coco_results(*files))


def test_results_and_data_set_in_the_wrong_order_are_noticed(tmp_path: Path) -> None:
    results, truth = results_files(tmp_path, [])
    with pytest.raises(RecordError, match=r"gt\.json: is no list of COCO results"):
        list(read_coco_results(truth, results))
    with pytest.raises(RecordError, match=r"results\.json: is no COCO file"):
        list(read_records(results))


def test_voc_has_the_elements_of_voc_and_counts_pixels_from_one(tmp_path: Path) -> None:
    write(f"voc:{tmp_path}", [FRAME])
    root = ElementTree.fromstring((tmp_path / "v_000003.xml").read_bytes())
    texts = {element.tag: element.text for element in root if element.text and element.text.strip()}
    assert texts == {"filename": "v.mp4", "path": "clips/v.mp4", "frame": "3", "time": "0.12", "segmented": "0"}
    assert [element.text for element in root.find("size") or ()] == ["640", "480", "3"]
    person, chaise = root.findall("object")
    assert [person.findtext(tag) for tag in ("name", "score", "class_id", "difficult")] == [
        "person",
        "0.9131",
        "0",
        "0",
    ]
    tags = ("xmin", "ymin", "xmax", "ymax")
    assert [person.findtext(f"bndbox/{tag}") for tag in tags] == ["49.2", "241.1", "195.0", "371.4"]
    assert [chaise.findtext(f"bndbox/{tag}") for tag in tags] == ["1.0", "1.0", "640.0", "480.0"]


def voc_file(*objects: str, size: str = "<size><width>500</width><height>375</height><depth>3</depth></size>") -> str:
    return f"<annotation><folder>VOC2007</folder><filename>000001.jpg</filename>{size}{''.join(objects)}</annotation>"


def voc_object(name: str, box: str = "<xmin>1</xmin><ymin>1</ymin><xmax>500</xmax><ymax>375</ymax>") -> str:
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def test_voc_of_others_is_read(tmp_path: Path) -> None:
    from_zero = "<xmin> 0 </xmin><ymax>9.5</ymax><ymin>0</ymin><xmax>1</xmax>"
    (tmp_path / "1.xml").write_text(voc_file(voc_object("dog"), voc_object("person &amp; co", from_zero)))
    (tmp_path / "2.xml").write_text(voc_file(voc_object("cat"), voc_object("dog")))
    (tmp_path / "notes.txt").write_text("not XML")
    first, second = read(f"voc:{tmp_path}")
    assert (first["source"], first["width"], first["height"]) == ("000001.jpg", 500, 375)
    assert first["detections"] == [
        {"label": "dog", "class_id": 0, "score": 1.0, "box": [0.0, 0.0, 500.0, 375.0]},
        {"label": "person & co", "class_id": 1, "score": 1.0, "box": [0.0, 0.0, 1.0, 9.5]},
    ]
    assert [one["class_id"] for one in second["detections"]] == [2, 0]


def test_voc_entities_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "ha">{entities}]>{voc_file(voc_object("&e9;"))}'
    (tmp_path / "bomb.xml").write_text(bomb)
    with pytest.raises(RecordError, match=r"bomb\.xml: line 1"):
        list(read_records(f"voc:{tmp_path}"))


def test_yolo_has_a_line_a_detection_a_list_of_labels_and_an_index(tmp_path: Path) -> None:
    write(f"yolo:{tmp_path}", [record("p/a.jpg", TWO), record("p/empty.jpg"), FRAME], labels=(*LABELS, "two\nlines"))
    files = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    lines = (
        "0 0.19000000 0.63697917 0.22937500 0.27354167 0.9131\n2 0.50000000 0.50000000 1.00000000 1.00000000 0.5000\n"
    )
    assert files == {
        "a.txt": lines,
        "empty.txt": "",
        "v_000003.txt": lines,
        "classes.txt": "person\ndining table\nchaise, longue\ntwo\\u000alines\n",
        "index.jsonl": '{"file": "a.txt", "source": "p/a.jpg", "width": 640, "height": 480}\n'
        '{"file": "empty.txt", "source": "p/empty.jpg", "width": 640, "height": 480}\n'
        '{"file": "v_000003.txt", "source": "clips/v.mp4", "frame": 3, "time": 0.12, "width": 640, "height": 480}\n',
    }


def test_yolo_of_others_is_read_with_sizes_and_labels_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("1 0.5 0.5 0.5 0.5 0.25\r\n\r\n0 0.5 0.5 1 1 0.75\r\n")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("x\r\ny\r\n")
    sizes = {"a": (100, 200), "b": (10, 20)}
    first, second = as_json(read_yolo(tmp_path, sizes=sizes.__getitem__, labels=["cat", "dog"]))
    assert first == {
        "source": "a",
        "width": 100,
        "height": 200,
        "detections": [{"label": "dog", "class_id": 1, "score": 1.0, "box": [25.0, 50.0, 75.0, 150.0]}],
    }
    assert [one["label"] for one in second["detections"]] == ["cat", "dog"]
    assert next(read_yolo(tmp_path, sizes=sizes.__getitem__)).detections.labels == ("y",)


def test_yolo_boxes_of_others_may_reach_outside_but_not_by_rounding(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("x\n")
    (tmp_path / "a.txt").write_text("0 0.104167 0.979167 0.208335 0.041667\n0 0.1 0.5 0.4 0.2\n")
    (one,) = read_yolo(tmp_path, sizes={"a": (100, 200)}.__getitem__)
    assert one.detections.boxes[0, 0] == 0
    assert one.detections.boxes[0, 3] == 200
    assert one.detections.boxes[1, 0] == pytest.approx(-10)


def test_an_earlier_run_leaves_the_index_of_a_yolo_folder(tmp_path: Path) -> None:
    write(f"yolo:{tmp_path}", [record("old.jpg", TWO)])
    write(f"yolo:{tmp_path}", [record("new.jpg", TWO)])
    assert [one["source"] for one in read(f"yolo:{tmp_path}")] == ["new.jpg"]


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_pictures_of_one_name_do_not_overwrite_each_other(form: str, tmp_path: Path) -> None:
    sources = ["a/dog.jpg", "b/dog.jpg", "b/dog.png", "classes.jpg", "a/dog.mp4"]
    records = [record(source, TWO) for source in sources]
    write(f"{form}:{tmp_path}", records)
    assert {one["source"] for one in read(f"{form}:{tmp_path}")} == set(sources)


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_reading_is_lazy(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, [record("a.jpg", TWO), record("b.jpg", TWO), record("c.jpg", TWO)])
    with path.open("ab") as file:
        file.write(b"damage\n")
    records = read_records(path)
    assert [next(records).source for _ in range(2)] == ["a.jpg", "b.jpg"]
    with pytest.raises(RecordError):
        list(records)
