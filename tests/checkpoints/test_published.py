"""The table of published checkpoints, and names where a model is asked for."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ssdcam
from ssdcam.checkpoints.families import FAMILIES
from ssdcam.checkpoints.known import all_known, check_name, have
from ssdcam.checkpoints.labels import VOC
from ssdcam.checkpoints.published import EMBEDDED_FACTS, PUBLISHED, Facts, Published
from ssdcam.checkpoints.resolve import EMBEDDED, fetch, open_checkpoint
from ssdcam.errors import CheckpointError, WrongUsageError

from ..conftest import TINY_LABELS
from .families.small import save_faces
from .web import Web, serving

Publish = Callable[..., Published]


@pytest.mark.parametrize("one", PUBLISHED.values(), ids=PUBLISHED)
def test_the_table(one: Published) -> None:
    assert one.url.startswith("https://")
    assert re.fullmatch(r"[a-z0-9-]+", one.name)
    assert one.facts.labels in {"voc", "coco", "face"}
    assert (one.facts.map is None) == (one.facts.metric is None)
    assert one.facts.map is None or 0 < one.facts.map < 1
    assert one.facts.licence
    assert one.family in FAMILIES or one.url.endswith(".tflite")
    assert one.sha256 is None or re.fullmatch(r"[0-9a-f]{8,64}", one.sha256)
    if in_name := re.search(r"-([0-9a-f]{8})\.pth$", one.url):
        assert one.sha256 == in_name[1]


def test_the_table_has_a_place_for_each() -> None:
    assert len({one.path for one in PUBLISHED.values()}) == len(PUBLISHED)
    assert len({one.url for one in PUBLISHED.values()}) == len(PUBLISHED)
    assert not PUBLISHED.keys() & set(EMBEDDED)


@pytest.mark.parametrize("name", EMBEDDED)
def test_facts_about_the_embedded_ones(name: str) -> None:
    spec = open_checkpoint(name).spec
    facts = EMBEDDED_FACTS[name]
    assert facts.licence == spec.provenance["licence"]
    assert facts.labels != "voc" or set(spec.labels) == set(VOC)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("faces-slim", "face_ultralight/version-slim-320.pth"),
        ("faces-rfb", "face_ultralight/version-RFB-320.pth"),
        ("ssd300-mobilenet-v1-coco-tensorflow", "coco_ssd_mobilenet_v1/detect.tflite"),
    ],
)
def test_hashes_of_files_that_are_at_hand(name: str, file: str, shared: Path) -> None:
    content = (shared / "weights" / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PUBLISHED[name].sha256
    assert round(len(content) / 1e6, 1) == PUBLISHED[name].megabytes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSDCAM_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SSDCAM_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_faces(tmp_path_factory.mktemp("faces") / "faces.pth").read_bytes()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as web:
        yield web


@pytest.fixture
def publish(web: Web, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Publish a file under a name."""

    def publish(content: bytes, hashed: bool = True, name: str = "small-faces") -> Published:
        web.files[f"/{name}.pth"] = content
        sha256 = hashlib.sha256(content).hexdigest() if hashed else None
        one = Published(
            name, f"{web.address}/{name}.pth", Facts("face", 0.5, "WIDER FACE val", "MIT"), "a test",
            "ultralight-faces", sha256, round(len(content) / 1e6, 1),
        )  # fmt: skip
        monkeypatch.setitem(PUBLISHED, name, one)
        return one

    return publish


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


class TestByName:
    def test_is_downloaded_once(
        self, faces: bytes, publish: Publish, web: Web, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        publish(faces)
        spec = open_checkpoint("small-faces").spec
        assert spec.provenance["family"] == FAMILIES["ultralight-faces"].title
        assert spec.provenance["url"] == f"{web.address}/small-faces.pth"
        assert spec.provenance["licence"] == "MIT"
        assert (cache / "small-faces.pth").read_bytes() == faces
        size = round(len(faces) / 1e6, 1)
        assert caplog.messages == [
            f"downloading small-faces ({size} MB) from {web.address}/small-faces.pth to {cache / 'small-faces.pth'}"
        ]
        assert open_checkpoint("small-faces").spec == spec
        assert ssdcam.load("small-faces", offline=True).labels == ("face",)
        assert len(web.asked) == 1

    def test_without_a_hash_what_came_is_named(
        self, faces: bytes, publish: Publish, caplog: pytest.LogCaptureFixture
    ) -> None:
        publish(faces, hashed=False)
        assert open_checkpoint("small-faces").spec.labels == ("face",)
        digest = hashlib.sha256(faces).hexdigest()
        assert caplog.messages[1].endswith(f"states no hash to check it by; the SHA-256 of what came is {digest}")

    @pytest.mark.parametrize("content", [b"<!doctype html><title>Please log in</title>", b"", b"PK\x03\x04 cut"])
    def test_what_is_no_checkpoint_is_not_kept(self, content: bytes, publish: Publish, cache: Path) -> None:
        publish(content, hashed=False)
        with pytest.raises(CheckpointError, match=r"small-faces\.pth: what came is not what was published: .*not kept"):
            open_checkpoint("small-faces")
        assert list(cache.glob("small*")) == []

    def test_an_existing_file_wins(self, publish: Publish, web: Web, tiny_model: Path) -> None:
        publish(b"")
        for name in ("small-faces", "voc"):
            Path(name).write_bytes(tiny_model.read_bytes())
            assert open_checkpoint(name).spec.labels == TINY_LABELS
        assert open_checkpoint().spec.labels != TINY_LABELS
        assert fetch("small-faces") is None
        assert not web.asked

    def test_a_folder_does_not(self, faces: bytes, publish: Publish) -> None:
        publish(faces)
        for name in ("small-faces", "voc"):
            Path(name).mkdir()
        assert open_checkpoint("small-faces").spec.labels == ("face",)
        assert set(open_checkpoint("voc").spec.labels) == set(VOC)

    @pytest.mark.parametrize("choice", [{"family": "amdegroot"}, {"boxes": "coco"}])
    @pytest.mark.parametrize("name", ["small-faces", "voc"])
    def test_what_is_known_of_a_name_is_not_chosen(
        self, name: str, choice: dict[str, str], publish: Publish, web: Web
    ) -> None:
        publish(b"")
        with pytest.raises(WrongUsageError, match=f"what {name} is, is known"):
            open_checkpoint(name, **choice)  # type: ignore[arg-type]
        assert not web.asked

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("ssd300-vgg16-cocoo", "ssd300-vgg16-coco"),
            ("ssdlite320", "ssdlite320-mobilenet-v3-coco"),
            ("face-slim", "faces-slim"),
            ("vocc", "voc"),
        ],
    )
    def test_a_misspelt_one(self, name: str, hint: str) -> None:
        with pytest.raises(WrongUsageError, match=f"^{name}: no such .*; did you mean {hint}"):
            open_checkpoint(name)

    def test_one_like_no_other(self) -> None:
        with pytest.raises(WrongUsageError, match=r"`ssdcam weights list` shows$"):
            open_checkpoint("qqqq")

    @pytest.mark.parametrize("name", ["voc.pth", "weights/voc", "./voc"])
    def test_a_path_is_no_misspelt_name(self, name: str) -> None:
        with pytest.raises(WrongUsageError, match=f"^{re.escape(name)}: no such checkpoint file$"):
            open_checkpoint(name)


@pytest.mark.usefixtures("no_network")
class TestOffline:
    LINE = r"{0} is not here, and ssdcam is offline: fetch {1} in another way and put it at {2}"

    def expect(self, name: str) -> str:
        one = PUBLISHED[name]
        return "^" + re.escape(self.LINE.format(name, one.url, one.path)) + "$"

    def test_by_option(self, cache: Path) -> None:
        for start in (open_checkpoint, ssdcam.load, fetch, have):
            with pytest.raises(CheckpointError, match=self.expect("ssd300-vgg16-coco")):
                start("ssd300-vgg16-coco", offline=True)  # type: ignore[operator]
        assert not cache.exists()

    @pytest.mark.parametrize("value", ["1", "yes"])
    def test_by_the_environment(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSDCAM_OFFLINE", value)
        with pytest.raises(CheckpointError, match=self.expect("faces-rfb")):
            open_checkpoint("faces-rfb")

    @pytest.mark.parametrize("value", ["0", ""])
    def test_not_so(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSDCAM_OFFLINE", value)
        with pytest.raises(AssertionError, match="the network was touched"):
            open_checkpoint("faces-rfb")

    def test_what_was_put_there_by_hand(self, faces: bytes) -> None:
        path = PUBLISHED["faces-slim"].path
        path.parent.mkdir(parents=True)
        path.write_bytes(faces)
        assert open_checkpoint("faces-slim", offline=True).spec.labels == ("face",)

    def test_the_embedded_one(self) -> None:
        assert set(open_checkpoint("voc", offline=True).spec.labels) == set(VOC)


class TestKnown:
    def test_all_of_them(self, faces: bytes, publish: Publish, cache: Path) -> None:
        publish(faces)
        before = {one.name: one for one in all_known()}
        assert list(before) == [*EMBEDDED, *PUBLISHED]
        assert before["voc"].published is None
        assert before["voc"].megabytes == pytest.approx(6.7, abs=0.1)
        assert before["small-faces"].path is None
        have("small-faces")
        after = {one.name: one for one in all_known()}
        assert after["small-faces"].path == cache / "small-faces.pth"
        assert after["small-faces"].megabytes == len(faces) / 1e6

    def test_what_is_there_is_compared(self, faces: bytes, publish: Publish, web: Web, cache: Path) -> None:
        publish(faces)
        assert have("small-faces") == have("small-faces") == cache / "small-faces.pth"
        assert len(web.asked) == 1
        (cache / "small-faces.pth").write_bytes(faces[:-1])
        with pytest.raises(CheckpointError, match=r"small-faces\.pth: is not what was published: .* remove it"):
            have("small-faces")

    def test_an_embedded_one(self) -> None:
        assert have("voc") is None

    def test_names(self) -> None:
        check_name("voc")
        check_name("faces-rfb")
        with pytest.raises(WrongUsageError, match="did you mean faces-"):
            check_name("faces")


@pytest.fixture(autouse=True)
def _hear_notes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ssdcam")
