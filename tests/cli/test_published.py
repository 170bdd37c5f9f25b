"""Published checkpoints by name, from outside: listed, downloaded, used; whatever comes in between."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ssdcam.checkpoints.checkpoint import load_checkpoint
from ssdcam.checkpoints.published import PUBLISHED

from .. import pictures
from ..checkpoints.families.small import save_faces
from ..checkpoints.web import Web, nowhere, serving
from ..datasets import made
from ..media.sources.videos import make_video
from ..waiting import finish, wait_until
from .commands import Terminal
from .running import one_line, records, run, start

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_faces(tmp_path_factory.mktemp("faces") / "version-test-320.pth")


@dataclass(frozen=True)
class Here:
    """A world in which ``small-faces`` is published on a server of ours.

    Attributes:
        web: the server.
        folder: the current folder, with a picture ``a.jpg``.
        faces: what is published.
        command: ``ssdcam`` in that world.
        env: its environment.
        path: where the file will be.
    """

    web: Web
    folder: Path
    faces: Path
    command: list[str]
    env: dict[str, str]
    path: Path

    def run(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, command=self.command, cwd=self.folder, env={**self.env, **env})

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return start(*arguments, command=self.command, cwd=self.folder, env=self.env)

    def wait_for_half(self, process: subprocess.Popen[str]) -> int:
        """Wait until half of the file has come, and the server waits, too; its size."""
        part, half = self.path.with_name(f"{self.path.name}.part"), self.faces.stat().st_size // 2
        wait_until(lambda: part.exists() and part.stat().st_size >= half, process)
        return half


@pytest.fixture
def here(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSDCAM_OFFLINE", raising=False)
    pictures.photo(tmp_path / "a.jpg")
    with serving() as web:
        web.files["/version-test-320.pth"] = faces.read_bytes()
        digest = hashlib.sha256(faces.read_bytes()).hexdigest()
        table = [
            ["small-faces", f"{web.address}/version-test-320.pth", digest[:8], 1.1],
            ["no-hash", f"{web.address}/version-test-320.pth", None, None],
            ["wrong-hash", f"{web.address}/version-test-320.pth", "01234567", 1.1],
            ["gone", f"{web.address}/gone.pth", "01234567", 1.1],
            ["far", "http://far.invalid/far.pth", digest, 1.1],
            ["unreachable", f"{nowhere()}/x.pth", digest, 1.1],
        ]
        (tmp_path / "table.json").write_text(json.dumps(table))
        command = [sys.executable, str(Path(__file__).with_name("published_here.py")), str(tmp_path / "table.json")]
        env = {"SSDCAM_HOME": str(tmp_path / "cache")}
        yield Here(web, tmp_path, faces, command, env, tmp_path / "cache/weights/version-test-320.pth")


def kept(here: Here) -> list[str]:
    """What is in the cache, but for locks."""
    return sorted(path.name for path in here.path.parent.glob("[!.]*"))


class TestList:
    def test_for_people(self, here: Here) -> None:
        here.path.parent.mkdir(parents=True)
        here.path.write_bytes(here.faces.read_bytes())
        done = here.run("weights", "list")
        assert (done.returncode, done.stderr) == (0, "")
        rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
        assert rows["name"] == ["name", "labels", "size", "mAP", "licence", "here"]
        assert rows["voc"][1:5] == ["voc", "6.7", "MB", "0.601"]
        assert rows["voc"][-2:] == ["Apache-2.0", "embedded"]
        assert rows["ssd300-vgg16-coco"][1:] == "coco 142.6 MB 0.251 COCO val2017 BSD-3-Clause -".split()
        assert rows["small-faces"][-2:] == ["MIT", str(here.path)]
        assert rows.keys() >= PUBLISHED.keys()
        assert not here.web.asked

    def test_json(self, here: Here) -> None:
        done = here.run("weights", "list", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        listed = {one["name"]: one for one in json.loads(done.stdout)}
        assert listed["voc"]["embedded"] is True
        assert listed["ssd300-vgg16-coco"] == {
            "name": "ssd300-vgg16-coco",
            "embedded": False,
            "labels": "coco",
            "megabytes": 142.6,
            "map": 0.251,
            "metric": "COCO val2017",
            "licence": "BSD-3-Clause",
            "path": None,
            "publisher": "torchvision",
            "url": "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth",
            "sha256": "b556d3b4",
        }


class TestDownload:
    def test_and_then_it_is_there(self, here: Here) -> None:
        done = here.run("weights", "download", "small-faces", "voc", "small-faces")
        assert (done.returncode, done.stdout) == (0, f"small-faces: {here.path}\nvoc: comes along with ssdcam\n")
        url = f"{here.web.address}/version-test-320.pth"
        assert one_line(done.stderr) == f"note: downloading small-faces (1.1 MB) from {url} to {here.path}"
        assert here.path.read_bytes() == here.faces.read_bytes()
        again = here.run("weights", "download", "small-faces")
        assert (again.returncode, again.stdout, again.stderr) == (0, f"small-faces: {here.path}\n", "")
        assert len(here.web.asked) == 1
        assert kept(here) == ["version-test-320.pth"]

    def test_what_fails_does_not_keep_the_rest_from_coming(self, here: Here) -> None:
        done = here.run("weights", "download", "gone", "wrong-hash", "small-faces", "-q")
        assert (done.returncode, done.stdout) == (1, f"small-faces: {here.path}\n")
        first, second = done.stderr.splitlines()
        assert first.startswith(f"error: {here.web.address}/gone.pth: cannot be downloaded: 404 ")
        assert "what came is not what was published" in second
        assert kept(here) == ["version-test-320.pth"]

    def test_a_name_that_is_none_is_told_before(self, here: Here) -> None:
        done = here.run("weights", "download", "small-faces", "smal-faces")
        assert (done.returncode, done.stdout) == (2, "")
        assert "`ssdcam weights list` shows; did you mean small-faces" in one_line(done.stderr)
        assert not here.web.asked

    def test_an_interrupted_one_goes_on(self, here: Here) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            here.web.hold = threading.Event()
            here.web.asked.clear()
            here.path.unlink(missing_ok=True)
            process = here.start("weights", "download", "small-faces")
            half = here.wait_for_half(process)
            process.send_signal(number)
            said, _ = finish(process)
            assert said == ""
            assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
            assert kept(here) == ["version-test-320.pth.part", "version-test-320.pth.part.json"]
            here.web.hold.set()
            done = here.run("weights", "download", "small-faces", "-q")
            assert (done.returncode, done.stderr) == (0, "")
            assert here.web.ranges_asked == [None, f"bytes={half}-"]
            assert here.path.read_bytes() == here.faces.read_bytes()
            assert kept(here) == ["version-test-320.pth"]

    def test_two_at_once(self, here: Here) -> None:
        here.web.hold = threading.Event()
        first = here.start("weights", "download", "small-faces")
        here.wait_for_half(first)
        second = here.start("weights", "download", "small-faces")
        assert second.stderr is not None
        assert "downloading small-faces" in second.stderr.readline()
        assert second.stderr.readline() == f"note: {here.path}: another process is downloading it: waiting\n"
        here.web.hold.set()
        for process in (first, second):
            said, _ = finish(process)
            assert (process.returncode, said) == (0, f"small-faces: {here.path}\n")
        assert len(here.web.asked) == 1
        assert here.path.read_bytes() == here.faces.read_bytes()

    def test_the_second_goes_on_where_the_first_was_killed(self, here: Here) -> None:
        here.web.hold = threading.Event()
        first = here.start("weights", "download", "small-faces")
        half = here.wait_for_half(first)
        second = here.start("weights", "download", "small-faces")
        assert second.stderr is not None
        assert second.stderr.readline()
        assert "waiting" in second.stderr.readline()
        here.web.hold.set()
        here.web.hold = None
        first.kill()
        finish(first)
        finish(second)
        assert second.returncode == 0
        # The first may have got more, or all, between the two lines above.
        assert here.web.ranges_asked in ([None], [None, f"bytes={half}-"])
        assert here.path.read_bytes() == here.faces.read_bytes()

    def test_through_a_proxy(self, here: Here) -> None:
        here.web.files["http://far.invalid/far.pth"] = here.faces.read_bytes()
        done = here.run("weights", "download", "far", "-q", http_proxy=here.web.address)
        assert (done.returncode, done.stderr) == (0, "")
        assert [asked["path"] for asked in here.web.asked] == ["http://far.invalid/far.pth"]

    def test_progress_on_a_terminal(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in here.env.items():
            monkeypatch.setenv(name, value)
        here.web.hold = threading.Event()
        terminal = Terminal("weights", "download", "small-faces", command=here.command, cwd=here.folder)
        total = here.faces.stat().st_size / 1e6
        terminal.read_until(f"/{total:.1f} MB".encode())
        here.web.hold.set()
        assert terminal.end() == 0
        assert b"downloading small-faces (1.1 MB)" in terminal.seen
        assert f"small-faces: {here.path}".encode() in terminal.seen.replace(b"\r\n", b"")


class TestUse:
    def test_detects_as_the_file_does(self, here: Here) -> None:
        options = ("--json", "--score", "0.3", "--engine", "torch")
        by_name = here.run("image", "a.jpg", "-m", "small-faces", *options)
        assert by_name.returncode == 0
        assert one_line(by_name.stderr).startswith("note: downloading small-faces")
        by_file = here.run("image", "a.jpg", "-m", here.faces, *options)
        assert (by_file.returncode, by_file.stderr) == (0, "")
        assert records(by_name.stdout) == records(by_file.stdout)
        assert len(records(by_name.stdout)[0]["detections"]) > 3
        again = here.run("image", "a.jpg", "-m", "small-faces", "--offline", *options)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout == by_name.stdout
        assert len(here.web.asked) == 1

    def test_info_and_convert(self, here: Here) -> None:
        info = here.run("weights", "info", "small-faces", "-q")
        assert (info.returncode, info.stderr) == (0, "")
        facts = dict(line.split(maxsplit=1) for line in info.stdout.splitlines())
        assert facts["url"] == f"{here.web.address}/version-test-320.pth"
        assert facts["licence"] == "MIT"
        out = here.folder / "out.safetensors"
        done = here.run("weights", "convert", "small-faces", "-o", out, "--offline")
        assert (done.returncode, done.stderr) == (0, "")
        spec = load_checkpoint(out).spec
        assert spec.labels == ("face",)
        assert spec.provenance["licence"] == "MIT"

    def test_without_a_hash(self, here: Here) -> None:
        done = here.run("weights", "info", "no-hash", "--json")
        assert done.returncode == 0
        digest = hashlib.sha256(here.faces.read_bytes()).hexdigest()
        assert done.stderr.splitlines()[1].endswith(f"the SHA-256 of what came is {digest}")

    def test_a_wrong_hash(self, here: Here) -> None:
        done = here.run("image", "a.jpg", "-m", "wrong-hash", "-q")
        assert (done.returncode, done.stdout) == (1, "")
        assert "not 01234567; not kept" in one_line(done.stderr)
        assert kept(here) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ("image", "a.jpg", "-m", "small-faces"),
            ("video", "a.mp4", "--json", "-m", "small-faces"),
            ("webcam", "a.mp4", "--no-window", "--json", "-m", "small-faces"),
            ("eval", "voc", "-m", "small-faces"),
            ("boxes", "voc", "-m", "small-faces"),
            ("train", "voc", "-m", "small-faces", "-o", "run", "--resume"),
            ("weights", "info", "small-faces"),
            ("weights", "convert", "small-faces", "-o", "out.safetensors"),
            ("weights", "download", "small-faces"),
        ],
    )
    def test_offline(self, arguments: tuple[str, ...], here: Here) -> None:
        made.voc(here.folder / "voc")
        make_video(here.folder / "a.mp4", range(3))
        url = f"{here.web.address}/version-test-320.pth"
        by_hand = f"fetch {url} in another way and put it at {here.path}"
        line = f"error: small-faces is not here, and ssdcam is offline: {by_hand}"
        by_option = here.run(*arguments, "--offline")
        by_environment = here.run(*arguments, SSDCAM_OFFLINE="1")
        for done in (by_option, by_environment):
            assert (done.returncode, done.stdout, one_line(done.stderr)) == (1, "", line)
        assert not here.web.asked

    def test_no_network(self, here: Here) -> None:
        done = here.run("image", "a.jpg", "-m", "unreachable", "-q")
        assert (done.returncode, done.stdout) == (1, "")
        url = json.loads((here.folder / "table.json").read_text())[-1][1]
        path = here.path.with_name("x.pth")
        assert one_line(done.stderr) == (
            f"error: {url}: cannot be downloaded: Connection refused; fetch {url} in another way and put it at {path}"
        )

    @pytest.mark.parametrize("choice", [("--family", "amdegroot"), ("--boxes", "coco")])
    def test_what_is_known_is_not_chosen(self, choice: tuple[str, str], here: Here) -> None:
        done = here.run("image", "a.jpg", "-m", "small-faces", *choice)
        assert done.returncode == 2
        assert one_line(done.stderr).startswith("error: what small-faces is, is known")
        assert not here.web.asked
