"""Every layout gives the same data set, and damage is named and skipped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssdcam.datasets import (
    Dataset,
    DatasetError,
    Sample,
    check_images,
    coco_file,
    dataset_splits,
    open_dataset,
    read_picture,
)

from . import made
from .made import LABELS, LAYOUTS, SPLITS, TRAIN, VAL, Photos, Thing


def by_name(dataset: Dataset) -> dict[str, Sample]:
    return {sample.path.stem: sample for sample in dataset.samples}


def assert_holds(dataset: Dataset, photos: Photos) -> None:
    samples = by_name(dataset)
    assert list(samples) == list(photos)
    for name, things in photos.items():
        sample = samples[name]
        assert (sample.width, sample.height) == (made.WIDTH, made.HEIGHT)
        assert sample.boxes.dtype == np.float32
        np.testing.assert_allclose(sample.boxes, np.reshape([t.box for t in things], (-1, 4)), atol=1e-4)
        assert [dataset.labels[i] for i in sample.class_ids] == [t.label for t in things]
        assert sample.difficult.tolist() == [t.difficult for t in things]
        assert read_picture(sample).shape == (made.HEIGHT, made.WIDTH, 3)


@pytest.mark.parametrize("name", LAYOUTS)
class TestEveryLayout:
    @pytest.fixture
    def path(self, name: str, tmp_path: Path) -> Path:
        return LAYOUTS[name](tmp_path / "data")

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_gives_what_was_put_in(self, path: Path, split: str) -> None:
        dataset = open_dataset(path, split)
        assert (dataset.labels, dataset.problems, dataset.skipped) == (LABELS, (), 0)
        assert_holds(dataset, SPLITS[split])

    def test_without_a_split_is_everything(self, path: Path) -> None:
        dataset = open_dataset(path)
        assert dataset.labels == LABELS
        assert_holds(dataset, {**TRAIN, **VAL})

    def test_names_its_parts(self, path: Path) -> None:
        assert sorted(split.removesuffix("2017") for split in dataset_splits(path)) == ["train", "val"]
        with pytest.raises(DatasetError, match=r"has no part 'test'; its parts are train"):
            open_dataset(path, "test")

    @pytest.mark.parametrize("split", ["train", None])
    def test_hidden_files_are_none_of_its(self, path: Path, split: str | None) -> None:
        """macOS adds ``._a.jpg`` and ``._a.txt`` on disks of other systems; programs keep thumbnails."""
        for file in [each for each in path.rglob("*") if each.is_file()]:
            file.with_name(f"._{file.name}").write_bytes(b"\0\x05\x16\x07")
            thumbnails = file.parent / ".thumbnails"
            thumbnails.mkdir(exist_ok=True)
            (thumbnails / file.name).write_bytes(file.read_bytes())
        dataset = open_dataset(path, split)
        assert (dataset.labels, dataset.problems, dataset.skipped) == (LABELS, (), 0)
        assert_holds(dataset, TRAIN if split else {**TRAIN, **VAL})

    def test_counts_by_other_labels(self, path: Path) -> None:
        dataset = open_dataset(path, "train", labels=("PottedPlant", "Cat"))
        samples = by_name(dataset)
        assert dataset.labels == ("PottedPlant", "Cat")
        assert (samples["a"].class_ids.tolist(), samples["c"].class_ids.tolist()) == ([1], [0, 1])
        (problem,) = dataset.problems
        assert "'dog' is none of the labels: left out, 1 in all" in problem

    def test_missing_and_broken_pictures_are_skipped(self, path: Path) -> None:
        (missing,) = path.rglob("a.jpg")
        missing.unlink()
        (broken,) = path.rglob("c.jpg")
        broken.write_bytes(b"\xff\xd8\xff no picture")
        dataset = check_images(open_dataset(path, "train"))
        assert list(by_name(dataset)) == ["b"]
        assert dataset.skipped == 2
        assert sorted(Path(problem.split(":")[0]).stem for problem in dataset.problems) == ["a", "c"]


class TestBoxes:
    @pytest.mark.parametrize(
        ("box", "complaint"),
        [
            ((30, 10, 30, 20), "has no area"),  # no width
            ((40, 10, 30, 20), "has no area"),  # ends before it starts
            ((30, 10, 31, 20), "has no area"),  # xmin is xmax
            ((90, 10, 99, 20), "lies outside the picture of 80x64"),
            ((-9, 10, 0, 20), "lies outside"),
            ((float("nan"), 10, 30, 20), "is no box"),
            ((0, 0, float("inf"), 20), "is no box"),
        ],
    )
    def test_bad_ones_are_problems(
        self, tmp_path: Path, box: tuple[float, float, float, float], complaint: str
    ) -> None:
        root = made.voc(tmp_path)
        made.write(root / "Annotations/d.xml", made.voc_xml([Thing("dog", (1, 1, 9, 9)), Thing("cat", box)]))
        dataset = open_dataset(root, "val")
        (problem,) = dataset.problems
        assert problem.startswith(f"{root / 'Annotations/d.xml'}: object 2: ")
        assert complaint in problem
        assert by_name(dataset)["d"].boxes.tolist() == [[1, 1, 9, 9]]

    @pytest.mark.parametrize("name", ["coco", "yolo"])
    def test_bad_ones_are_problems_elsewhere(self, tmp_path: Path, name: str) -> None:
        root = LAYOUTS[name](tmp_path)
        if name == "coco":
            whole = made.coco_json(VAL)
            whole["annotations"][0]["bbox"] = [5, 5, -2, 4]
            whole["annotations"].append({"id": 5, "image_id": 11, "category_id": 3, "bbox": [float("nan"), 1, 2, 3]})
            made.write(root / "val.json", json.dumps(whole))
            places = ["val.json: annotations[2]", "val.json: annotations[0]"]
        else:
            made.write(root / "labels/val/d.txt", "1 .5 .5 0 .5\n\n0 nan .5 .5 .5\n")
            places = ["d.txt: line 1", "d.txt: line 3"]
        dataset = open_dataset(root, "val")
        assert len(dataset.samples) == 2
        assert [place in problem for place, problem in zip(places, dataset.problems, strict=True)] == [True, True]

    def test_others_are_clipped(self, tmp_path: Path) -> None:
        root = made.voc(tmp_path)
        made.write(root / "Annotations/d.xml", made.voc_xml([Thing("dog", (-5, 10, 99, 70))]))
        dataset = open_dataset(root, "val")
        assert by_name(dataset)["d"].boxes.tolist() == [[0, 10, 80, 64]]
        assert dataset.problems == ()


class TestVoc:
    def test_broken_annotations_are_named(self, tmp_path: Path) -> None:
        root = made.voc(tmp_path)
        made.write(root / "Annotations/a.xml", "<annotation><object>")
        (root / "Annotations/c.xml").unlink()
        made.write(root / "Annotations/b.xml", made.voc_xml([Thing("", (1, 1, 2, 2))]).replace(">1<", ">one<"))
        dataset = open_dataset(root, "train")
        assert dataset.skipped == 2
        assert [line.removeprefix(f"{root}/Annotations/")[:18] for line in dataset.problems] == [
            "a.xml: line 1: is ",
            "b.xml: object 1: h",
            "c.xml: no such fil",
        ]

    @pytest.mark.parametrize(
        ("text", "other", "complaint", "skipped"),
        [
            ("<width>80<", "<width>wide<", "a.xml: size/width is 'wide', not a number", 1),
            ("<height>64<", "<height>1e999<", "a.xml: size/height is '1e999', not a number", 1),
            ("<xmin>1<", "<xmin>left<", "a.xml: object 1: bndbox/xmin is 'left', not a number", 0),
            ("<ymin>1<", "<ymin>99<", "a.xml: object 1: the box (1, 99, 40, 32) has no area", 0),
            ("<annotation>", '<?xml version="1.0" encoding="nosuch"?><annotation>', "a.xml: ", 1),
        ],
    )
    def test_numbers_that_are_none_are_named(
        self, text: str, other: str, complaint: str, skipped: int, tmp_path: Path
    ) -> None:
        root = made.voc(tmp_path)
        annotation = root / "Annotations/a.xml"
        assert text in annotation.read_text()
        annotation.write_text(annotation.read_text().replace(text, other, 1))
        dataset = open_dataset(root, "train")
        assert dataset.skipped == skipped
        [problem] = dataset.problems
        assert problem.removeprefix(f"{root}/Annotations/").startswith(complaint)
        assert len(dataset.samples) == 3 - skipped

    @pytest.mark.parametrize("flag", ["", " -1", "  1"])
    def test_names_may_have_spaces(self, tmp_path: Path, flag: str) -> None:
        root = made.voc(tmp_path)
        for number, name in enumerate("ac"):
            for path in (root / f"Annotations/{name}.xml", root / f"JPEGImages/{name}.jpg"):
                path.rename(path.with_stem(f"a photo {number}"))
        made.write(root / "ImageSets/Main/train.txt", f"a photo 0{flag}\r\na photo 1{flag}\r\nno photo{flag}\r\n")
        dataset = open_dataset(root, "train")
        assert [len(sample.boxes) for sample in dataset.samples] == [2, 2]
        assert dataset.problems == (f"{root / 'Annotations/no photo.xml'}: no such file",)

    def test_a_size_that_nobody_states_is_read(self, tmp_path: Path) -> None:
        root = made.voc(tmp_path)
        text = made.voc_xml([Thing("dog", (1, 1, 99, 99))])
        made.write(root / "Annotations/d.xml", text.replace("<width>80</width>", "<width>0</width>"))
        assert by_name(open_dataset(root, "val"))["d"].boxes.tolist() == [[1, 1, 80, 64]]

    def test_difficult_ones_are_marked(self, tmp_path: Path) -> None:
        root = made.voc(tmp_path)
        made.write(root / "Annotations/d.xml", made.voc_xml([Thing("dog", (1, 1, 9, 9), difficult=True)]))
        assert by_name(open_dataset(root, "val"))["d"].difficult.tolist() == [True]

    def test_what_lies_beside_is_val_as_valid_too(self, tmp_path: Path) -> None:
        root = made.voc_roboflow(tmp_path)
        (root / "val").rename(root / "valid")
        assert dataset_splits(root) == ("train", "valid")
        assert_holds(open_dataset(root, "val"), VAL)

    def test_a_folder_of_labelimg(self, tmp_path: Path) -> None:
        root = made.voc_roboflow(tmp_path) / "train"
        assert dataset_splits(root) == ()
        dataset = open_dataset(root)
        assert dataset.labels == LABELS
        assert_holds(dataset, TRAIN)
        assert [sample.id for sample in dataset.samples] == ["a", "b", "c"]
        (root / "b.xml").unlink()  # not labelled yet
        (root / "c.xml").write_text("<annotation>")
        dataset = open_dataset(root)
        assert list(by_name(dataset)) == ["a"]
        assert dataset.skipped == 2
        bare, broken = dataset.problems
        assert bare == f"{root}: 1 without an .xml, such as b.jpg: left out"
        assert broken.startswith(f"{root / 'c.xml'}: line 1: ")

    @pytest.mark.parametrize(
        "names",
        [
            ("Annotations", "JPEGImages"),
            ("annotations", "images"),
            ("Annotations", "images"),  # as Label Studio exports it
            ("annotations/xmls", "images"),  # as Oxford's pets are
        ],
    )
    def test_a_folder_for_either_without_lists(self, names: tuple[str, str], tmp_path: Path) -> None:
        root = made.voc_roboflow(tmp_path) / "train"
        for suffix, name in zip((".xml", ".jpg"), names, strict=True):
            (root / name).mkdir(parents=True)
            for file in root.glob(f"*{suffix}"):
                file.rename(root / name / file.name)
        assert dataset_splits(root) == ()
        dataset = open_dataset(root)
        assert dataset.labels == LABELS
        assert_holds(dataset, TRAIN)
        (root / names[1] / "b.jpg").unlink()
        dataset = open_dataset(root)
        assert "b" not in by_name(dataset)
        assert dataset.problems == (f"{root / names[1] / 'b.jpg'}: no such picture",)

    @pytest.mark.parametrize("names", [("Annotations", "images"), ("annotations", "images")])
    def test_a_folder_for_either_in_every_part(self, names: tuple[str, str], tmp_path: Path) -> None:
        root = made.voc_roboflow(tmp_path)
        for split in SPLITS:
            for suffix, name in zip((".xml", ".jpg"), names, strict=True):
                (root / split / name).mkdir()
                for file in (root / split).glob(f"*{suffix}"):
                    file.rename(root / split / name / file.name)
        assert dataset_splits(root) == ("train", "val")
        for split, photos in SPLITS.items():
            dataset = open_dataset(root, split)
            assert dataset.labels == LABELS
            assert_holds(dataset, photos)
        ids = [sample.id for sample in open_dataset(root).samples]
        assert ids == ["train/a", "train/b", "train/c", "val/d", "val/e"]

    def test_the_folder_around_one_that_lists_divide_is_none(self, tmp_path: Path) -> None:
        made.voc(tmp_path / "VOCdevkit/VOC2007")
        with pytest.raises(DatasetError, match="is no data set"):
            dataset_splits(tmp_path / "VOCdevkit")

    def test_annotations_beside_pictures_and_in_a_folder_too(self, tmp_path: Path) -> None:
        root = made.voc_roboflow(tmp_path)
        (root / "train").rename(root / "images")
        (root / "annotations").mkdir()
        for file in (root / "images").glob("*.xml"):
            (root / "annotations" / file.name).write_bytes(file.read_bytes())
        paths = [sample.path for sample in open_dataset(root).samples]
        assert len(paths) == len(set(paths)) == len(TRAIN) + len(VAL)

    @pytest.mark.parametrize("name", LAYOUTS)
    def test_annotations_beside_pictures_make_no_other_layout_theirs(self, name: str, tmp_path: Path) -> None:
        root = LAYOUTS[name](tmp_path)
        labels, ids = open_dataset(root).labels, [sample.id for sample in open_dataset(root).samples]
        if name != "voc_roboflow":
            for picture in [*root.rglob("*.jpg")]:
                made.write(picture.with_suffix(".xml"), made.voc_xml([Thing("other", (1, 1, 9, 9))]))
        assert (open_dataset(root).labels, [sample.id for sample in open_dataset(root).samples]) == (labels, ids)

    def test_the_real_one(self, shared: Path) -> None:
        train, val = (open_dataset(shared / "data/voc", split) for split in ("train", "val"))
        assert (len(train.samples), len(val.samples)) == (3506, 1002)
        assert train.labels == val.labels
        assert len(train.labels) == 20
        assert train.problems == val.problems == ()


class TestCoco:
    def test_a_json_alone(self, tmp_path: Path) -> None:
        path = made.write(tmp_path / "truth.json", json.dumps(made.coco_json(VAL)))
        dataset = open_dataset(path, "val", pictures=False)
        assert [sample.id for sample in dataset.samples] == ["11", "12"]
        assert dataset.samples[0].areas is not None
        assert dataset.samples[0].areas.tolist() == [64.0]
        with pytest.raises(DatasetError, match="no such picture"):
            open_dataset(path, "val")

    def test_the_folder_of_a_part_as_roboflow_exports_it(self, tmp_path: Path) -> None:
        root = made.coco_roboflow(tmp_path)
        assert dataset_splits(root / "val") == ()
        dataset = open_dataset(root / "val")
        assert [sample.path for sample in dataset.samples] == [s.path for s in open_dataset(root, "val").samples]
        assert dataset.problems == ()
        assert coco_file(root / "val", None) == root / "val/_annotations.coco.json" == coco_file(root, "val")

    @pytest.mark.parametrize(
        "name",
        [
            "images/{}.jpg",  # as Label Studio writes them, beside the folder
            r"images\{}.jpg",
            r"C:\data\images\{}.jpg",
            "/home/somebody/{}.jpg",
            "../../label-studio/data/media/upload/1/{}.jpg",
        ],
    )
    def test_names_of_another_machine(self, tmp_path: Path, name: str) -> None:
        root = made.coco(tmp_path)
        truth = made.coco_json(VAL)
        for image in truth["images"]:
            image["file_name"] = name.format(str(image["file_name"]).removesuffix(".jpg"))
        dataset = open_dataset(made.write(root / "result.json", json.dumps(truth)))
        assert dataset.problems == ()
        assert_holds(dataset, VAL)

    def test_names_whose_photos_would_be_one(self, tmp_path: Path) -> None:
        root = made.coco(tmp_path)
        truth = made.coco_json(VAL)
        truth["images"][0]["file_name"], truth["images"][1]["file_name"] = "/old/day/d.jpg", "/old/night/d.jpg"
        with pytest.raises(DatasetError, match=r"/old/day/d\.jpg: no such picture"):
            open_dataset(made.write(root / "result.json", json.dumps(truth)))

    def test_broken_entries_are_named(self, tmp_path: Path) -> None:
        root = made.coco(tmp_path)
        whole = made.coco_json(VAL)
        whole["annotations"] += [{"image_id": 99, "category_id": 3}, {"image_id": 11, "category_id": 4}]
        whole["images"].append({"file_name": "x.jpg"})
        made.write(root / "val.json", json.dumps(whole))
        dataset = open_dataset(root, "val")
        assert len(dataset.samples) == 2
        assert dataset.skipped == 1
        assert [line.removeprefix(f"{root / 'val.json'}: ") for line in dataset.problems] == [
            "images[2]: id is missing",
            "annotations[2]: image_id 99 is not among the images",
            "annotations[3]: category_id 4 is not among the categories",
        ]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [("{", "line 1: is no JSON"), ("[]", "not a JSON object"), ('{"images": []}', "categories is missing")],
    )
    def test_a_broken_file_is_an_error(self, tmp_path: Path, text: str, complaint: str) -> None:
        path = made.write(tmp_path / "truth.json", text)
        with pytest.raises(DatasetError, match=complaint):
            open_dataset(path)

    def test_images_of_one_id_are_named_and_left_out(self, tmp_path: Path) -> None:
        root = made.coco(tmp_path)
        whole = made.coco_json(TRAIN)
        whole["images"][2]["id"] = 11
        for annotation in whole["annotations"]:
            annotation["image_id"] = 11
        whole["images"].append(whole["images"][1])  # the same one twice does no harm
        path = made.write(root / "train.json", json.dumps(whole))
        dataset = open_dataset(root, "train")
        assert list(by_name(dataset)) == ["b"]
        assert dataset.skipped == 2
        told = f"{path}: id 11 is of 2 images, such as a.jpg and c.jpg: left out"
        assert dataset.problems == (told, f"{root / 'images/b.jpg'}: is named more than once, and counted once")

    def test_crowds_are_difficult(self, tmp_path: Path) -> None:
        path = made.write(tmp_path / "x.json", json.dumps(made.coco_json({"d": [Thing("dog", (1, 1, 9, 9), True)]})))
        assert open_dataset(path, pictures=False).samples[0].difficult.tolist() == [True]


class TestYolo:
    def test_broken_lines_are_named(self, tmp_path: Path) -> None:
        root = made.yolo(tmp_path)
        made.write(root / "labels/val/d.txt", "1 .5 .5 .5 .5\n3 .5 .5 .5 .5\n1 .5 .5\n1 .5 .5 .5 x\n1.5 .5 .5 .5 .5\n")
        made.write(root / "labels/val/z.txt", "1 .5 .5 .5 .5\n")
        dataset = open_dataset(root, "val")
        assert len(by_name(dataset)["d"].boxes) == 1
        assert [line.removeprefix(f"{root}/labels/val/") for line in dataset.problems] == [
            "z.txt: there is no picture for it",
            "d.txt: line 2: class 3 is not one of the 3 that are named",
            "d.txt: line 3: holds 3 values, not class, cx, cy, width and height, nor class and outline",
            "d.txt: line 4: holds something that is no number",
            "d.txt: line 5: class 1.5 is not one of the 3 that are named",
        ]

    def test_an_outline_becomes_its_extent(self, tmp_path: Path) -> None:
        root = made.yolo(tmp_path)
        made.write(root / "labels/val/d.txt", "0 .25 .25 .5 .25 .5 .75\n")
        assert by_name(open_dataset(root, "val"))["d"].boxes.tolist() == [[20, 16, 40, 48]]

    def test_a_score_behind_the_box_is_left_out(self, tmp_path: Path) -> None:
        """Proposals have one, which people correct and train on."""
        root = made.yolo(tmp_path)
        path = next(iter(sorted((root / "labels/train").glob("*.txt"))))
        path.write_text("0 0.5 0.5 0.25 0.5 0.7800\n")
        scored = open_dataset(root, "train")
        path.write_text("0 0.5 0.5 0.25 0.5\n")
        plain = open_dataset(root, "train")
        assert scored.problems == plain.problems == ()
        for one, other in zip(scored.samples, plain.samples, strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)

    def test_a_gif_is_a_picture(self, tmp_path: Path) -> None:
        root = made.yolo(tmp_path)
        before = open_dataset(root, "train")
        first = before.samples[0].path
        image = read_picture(before.samples[0])
        assert cv2.imwrite(str(first.with_suffix(".gif")), image)
        first.unlink()
        after = open_dataset(root, "train")
        assert after.problems == ()
        assert {sample.path.suffix for sample in after.samples} >= {".gif"}
        [gif] = [sample for sample in after.samples if sample.path.suffix == ".gif"]
        assert (gif.height, gif.width) == image.shape[:2] == read_picture(gif).shape[:2]

    @pytest.mark.parametrize(
        ("train", "val"),
        [
            (r"images\train", r".\images\val"),
            ("../images/train", "../images/val"),
            ("/home/somebody/data/images/train", "/home/somebody/data/images/val"),
            (r"C:\data\images\train", r"C:\data\images\val"),
            ("[data/images/train]", "[data/images/val]"),
        ],
    )
    @pytest.mark.parametrize("key", ["val", "valid"])
    def test_paths_of_another_machine(self, tmp_path: Path, train: str, val: str, key: str) -> None:
        root = made.yolo(tmp_path)
        text = f"path: /home/somebody/data\ntrain: {train}\n{key}: {val}\nnames: [cat, dog, potted plant]\n"
        made.write(root / "data.yaml", text)
        for split, photos in SPLITS.items():
            dataset = open_dataset(root, split)
            assert dataset.problems == ()
            assert_holds(dataset, photos)

    @pytest.mark.parametrize(("train", "val"), [("images/train", "/x/images"), ("/x/train/images", "/x/valid/images")])
    def test_nothing_is_judged_by_what_it_learnt_from(self, tmp_path: Path, train: str, val: str) -> None:
        """``images`` is there, but holds the other part, too."""
        root = made.yolo(tmp_path)
        made.write(root / "data.yaml", f"train: {train}\nval: {val}\nnames: [cat, dog, potted plant]\n")
        with pytest.raises(DatasetError, match=f"{val}: no such folder"):
            open_dataset(root, "val")

    @pytest.mark.parametrize("line", [r".\images\{}.jpg", "/home/somebody/images/{}.jpg", "data/images/{}.jpg"])
    def test_lists_of_another_machine(self, tmp_path: Path, line: str) -> None:
        root = made.yolo_lists(tmp_path)
        for split, photos in SPLITS.items():
            made.write(root / f"{split}.txt", "".join(f"{line.format(name)}\n" for name in photos))
            dataset = open_dataset(root, split)
            assert dataset.problems == ()
            assert_holds(dataset, photos)

    def test_a_list_whose_photos_would_be_one(self, tmp_path: Path) -> None:
        """Cameras count from 1 in every folder: only one of these can be the photo that is there."""
        root = made.yolo_lists(tmp_path)
        names = [name for photos in SPLITS.values() for name in photos]
        lines = [*(f"/old/images/{name}.jpg" for name in names), f"/old/night/images/{names[0]}.jpg"]
        made.write(root / "train.txt", "".join(f"{line}\n" for line in lines))
        dataset = open_dataset(root, "train")
        assert sorted(by_name(dataset)) == sorted(names[1:])
        assert dataset.skipped == 2
        assert all("/old/" in problem for problem in dataset.problems)

    def test_no_list_leads_to_what_another_part_may_mean(self, tmp_path: Path) -> None:
        root = made.yolo_lists(tmp_path)
        for split in ("train", "val"):
            made.write(root / f"{split}.txt", "".join(f"/old/{split}/images/{name}.jpg\n" for name in TRAIN))
            with pytest.raises(DatasetError, match=f"/old/{split}/images/"):
                open_dataset(root, split)

    @pytest.mark.parametrize("above", ["data", "images"])
    def test_as_cvat_exports_it(self, tmp_path: Path, above: str) -> None:
        """YOLO 1.1: lists that name the folders as darknet is to see them, annotations beside the pictures."""
        tmp_path /= above  # which may lie in a folder of this name by chance
        for split, folder, photos in (("train", "obj_train_data", TRAIN), ("valid", "obj_valid_data", VAL)):
            made.write(tmp_path / f"{split}.txt", "".join(f"data/{folder}/{name}.jpg\n" for name in photos))
            for name, things in photos.items():
                made.photo(tmp_path / folder / f"{name}.jpg")
                made.write(tmp_path / folder / f"{name}.txt", made.yolo_txt(things))
        made.write(tmp_path / "obj.names", "\n".join(LABELS))
        made.write(tmp_path / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n")
        for split, photos in SPLITS.items():
            dataset = open_dataset(tmp_path, split)
            assert dataset.problems == ()
            assert_holds(dataset, photos)

    @pytest.mark.parametrize("name", ["photos", "images"])
    def test_a_folder_of_labelimg(self, tmp_path: Path, name: str) -> None:
        root = tmp_path / name
        for photo, things in TRAIN.items():
            made.photo(root / f"{photo}.jpg")
            made.write(root / f"{photo}.txt", made.yolo_txt(things))
        with pytest.raises(DatasetError, match=r"beside each, and classes\.txt"):
            open_dataset(root)
        made.write(root / "classes.txt", "\n".join(LABELS))
        assert dataset_splits(root) == ()
        dataset = open_dataset(root)
        assert (dataset.labels, dataset.problems) == (LABELS, ())
        assert_holds(dataset, TRAIN)

    def test_parts_that_are_called_as_in_cvat(self, tmp_path: Path) -> None:
        root = made.yolo_plain(tmp_path)
        for split, name in (("train", "Train"), ("val", "Validation")):
            for folder in ("images", "labels"):
                (root / folder / split).rename(root / folder / name)
        assert dataset_splits(root) == ("Train", "Validation")
        for split, photos in SPLITS.items():
            assert_holds(open_dataset(root, split), photos)
        with pytest.raises(DatasetError, match=r"has no part 'test'; its parts are Train, Validation"):
            open_dataset(root, "test")

    def test_a_part_that_is_not_there(self, tmp_path: Path) -> None:
        root = made.yolo(tmp_path)
        with (root / "data.yaml").open("a") as file:
            file.write("test: images/test\n")
        assert_holds(open_dataset(root, "train"), TRAIN)
        dataset = open_dataset(root)
        assert_holds(dataset, {**TRAIN, **VAL})
        assert dataset.problems == (f"{root}/images/test: no such folder",)
        with pytest.raises(DatasetError, match="images/test: no such folder"):
            open_dataset(root, "test")

    def test_undivided(self, tmp_path: Path) -> None:
        root = made.yolo_lists(tmp_path)
        for split in SPLITS:
            (root / f"{split}.txt").unlink()
        assert dataset_splits(root) == ()
        assert_holds(open_dataset(root), {**TRAIN, **VAL})
        with pytest.raises(DatasetError, match="it is not divided"):
            open_dataset(root, "val")

    @pytest.mark.parametrize(
        ("names", "labels"),
        [
            ("[no, 'on', 3]", ("no", "on", "3")),
            ('{0: cat, 2: "it\'s"}', ("cat", "class 1", "it's")),
            ("\n- cat # one\n- 'a: b'\n- c", ("cat", "a: b", "c")),
        ],
    )
    def test_names_stay_texts(self, tmp_path: Path, names: str, labels: tuple[str, ...]) -> None:
        root = made.yolo(tmp_path)
        made.write(root / "data.yaml", f"train: images/train\nval: images/val\nnames: {names}\n")
        assert open_dataset(root / "data.yaml", "val").labels == labels

    def test_classes_of_one_name_are_one(self, tmp_path: Path) -> None:
        """As categories of one name are in a COCO json, and objects of one name in VOC's."""
        root = made.yolo(tmp_path)
        made.write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, cat, dog]\n")
        dataset = open_dataset(root, "train")
        assert dataset.labels == ("cat", "dog")
        assert dataset.problems == (f"{root}: 2 classes are called 'cat': counted as one",)
        samples = by_name(dataset)
        assert [samples[name].class_ids.tolist() for name in "abc"] == [[0, 0], [], [1, 0]]

    def test_nobody_names_the_classes(self, tmp_path: Path) -> None:
        root = made.yolo_plain(tmp_path)
        (root / "labels/classes.txt").unlink()
        with pytest.raises(DatasetError, match=r"nothing names the classes: there is no classes\.txt"):
            open_dataset(root)

    @pytest.mark.parametrize("text", ["a: [", "- a", "names: {x: cat}\nval: images/val"])
    def test_a_broken_description_is_an_error(self, tmp_path: Path, text: str) -> None:
        root = made.yolo(tmp_path)
        made.write(root / "data.yaml", text)
        with pytest.raises(DatasetError, match=r"data\.yaml"):
            open_dataset(root, "val")


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_what_is_named_twice_counts_once(tmp_path: Path, kind: str) -> None:
    root = getattr(made, kind)(tmp_path)
    before = open_dataset(root, "train")
    if kind == "voc":
        names = root / "ImageSets/Main/train.txt"
        first = names.read_text().split()[0]
        names.write_text(f"{names.read_text()}{first}\n")
    else:
        (path,) = root.rglob("*train*.json")
        whole = json.loads(path.read_text())
        whole["images"].append(whole["images"][0])
        path.write_text(json.dumps(whole))
    after = open_dataset(root, "train")
    assert [sample.id for sample in after.samples] == [sample.id for sample in before.samples]
    [problem] = after.problems
    assert problem == f"{before.samples[0].path}: is named more than once, and counted once"


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"looked for ImageSets/Main/\*\.txt \(VOC\); .*\(COCO\); .*\(YOLO\); .*\.xml"
    ):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")
