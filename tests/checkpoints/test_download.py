"""Downloads from a server that breaks off, lies, changes its mind or is not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request

import numpy as np
import pytest

from ssdcam.checkpoints import download as module
from ssdcam.checkpoints.download import download, sha256_of
from ssdcam.errors import CheckpointError

from ..cli.commands import unprivileged
from ..waiting import GUARD
from .web import Web, nowhere, serving

OLD, NEW = (np.random.default_rng(seed).bytes(300_000 + seed) for seed in range(2))
SHA = hashlib.sha256(NEW).hexdigest()
CHANGED_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    with serving() as web:
        web.files["/a.pth"] = NEW
        yield web


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights" / "a.pth"


def leavings(target: Path) -> set[str]:
    """What lies beside the target, but for the lock."""
    return {path.name for path in target.parent.iterdir() if path != target and not path.name.startswith(".")}


def leave_part(target: Path, web: Web, content: bytes, **origin: Any) -> None:
    """What a run that was cut off leaves."""
    target.parent.mkdir(parents=True)
    target.with_name("a.pth.part").write_bytes(content)
    said = {"url": f"{web.address}/a.pth", "validator": '"one"', **origin}
    target.with_name("a.pth.part.json").write_text(json.dumps(said))


def assert_there(target: Path, content: bytes = NEW) -> None:
    assert target.read_bytes() == content
    assert leavings(target) == set()


def test_a_file(web: Web, target: Path) -> None:
    told: list[tuple[int, int | None]] = []
    digest = download(f"{web.address}/a.pth", target, sha256=SHA, progress=lambda *now: told.append(now))
    assert digest == SHA
    assert_there(target)
    assert told[0] == (0, len(NEW))
    assert told[-1] == (len(NEW), len(NEW))
    assert told == sorted(told)
    assert len(web.asked) == 1
    assert web.asked[0]["user-agent"].startswith("ssdcam/")
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("sha256", [None, SHA[:8], SHA])
@pytest.mark.parametrize("length", [True, False])
def test_hash_or_none_length_or_none(sha256: str | None, length: bool, web: Web, target: Path) -> None:
    web.length = length
    assert download(f"{web.address}/a.pth", target, sha256=sha256) == SHA
    assert_there(target)


def test_what_is_there_is_not_fetched(web: Web, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"there")
    assert download(f"{web.address}/a.pth", target) is None
    assert target.read_bytes() == b"there"
    assert not web.asked


class TestBrokenConnections:
    def test_goes_on_where_it_broke_off(self, web: Web, target: Path) -> None:
        web.cuts = [100_000, 50_000, 1]
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert_there(target)
        assert web.ranges_asked == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]
        assert [headers.get("if-range") for headers in web.asked] == [None, *['"one"'] * 3]

    def test_as_often_as_it_goes_forward(self, web: Web, target: Path) -> None:
        web.cuts = [1000] * 12
        download(f"{web.address}/a.pth", target)
        assert_there(target)
        assert len(web.asked) == 13

    def test_gives_up_where_it_does_not(self, web: Web, target: Path) -> None:
        web.cuts = [100_000] + [0] * 20
        with pytest.raises(CheckpointError, match=r"a\.pth: cannot be downloaded: the connection ended after 100,000"):
            download(f"{web.address}/a.pth", target)
        assert not target.exists()
        assert len(web.asked) == 1 + 4
        web.cuts = []
        download(f"{web.address}/a.pth", target)
        assert web.ranges_asked[-1] == "bytes=100000-"
        assert_there(target)

    def test_a_server_that_always_breaks_off_and_cannot_resume(self, web: Web, target: Path) -> None:
        web.ranges, web.cuts = False, [100_000] * 50
        with pytest.raises(CheckpointError, match="the connection ended after"):
            download(f"{web.address}/a.pth", target)
        assert len(web.asked) == 1 + 4

    def test_goes_on_after_a_reset(self, web: Web, target: Path) -> None:
        web.cuts, web.resets = [100_000, 50_000], True
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert_there(target)
        assert len(web.asked) == 3

    @pytest.mark.parametrize("claim", ["bytes 5-9/300001", "bytes */300001", "nonsense"])
    def test_starts_anew_where_another_part_is_sent(self, claim: str, web: Web, target: Path) -> None:
        leave_part(target, web, NEW[:1234])
        web.claims = [claim]
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert web.ranges_asked == ["bytes=1234-", None]
        assert_there(target)

    @pytest.mark.parametrize("codes", [[500], [503, 502, 504], [429, 408]])
    def test_trouble_that_passes(self, codes: list[int], web: Web, target: Path) -> None:
        web.answers = [*codes]
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert_there(target)
        assert len(web.asked) == len(codes) + 1

    def test_trouble_that_stays(self, web: Web, target: Path) -> None:
        web.answers = [503] * 50
        with pytest.raises(CheckpointError, match=r"cannot be downloaded: 503 Service Unavailable; fetch http"):
            download(f"{web.address}/a.pth", target)
        assert not target.exists()

    def test_silence(self, web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_TIMEOUT", 0.2)
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/a.pth"
            with pytest.raises(CheckpointError, match="cannot be downloaded: timed out; fetch"):
                download(url, target)

    @pytest.mark.parametrize("address", [nowhere(), "http://nosuch.invalid"], ids=["refused", "unknown"])
    def test_nobody_there(self, address: str, web: Web, target: Path) -> None:
        url = f"{address}/a.pth"
        with pytest.raises(CheckpointError) as caught:
            download(url, target)
        assert re.fullmatch(
            rf"{re.escape(url)}: cannot be downloaded: [^;\n]{{5,}}; "
            rf"fetch {re.escape(url)} in another way and put it at {re.escape(str(target))}",
            str(caught.value),
        )


class TestResuming:
    def test_an_earlier_run(self, web: Web, target: Path) -> None:
        leave_part(target, web, NEW[:1234])
        told: list[tuple[int, int | None]] = []
        download(f"{web.address}/a.pth", target, sha256=SHA, progress=lambda *now: told.append(now))
        assert web.ranges_asked == ["bytes=1234-"]
        assert told[0] == (1234, len(NEW))
        assert_there(target)

    def test_by_its_date(self, web: Web, target: Path) -> None:
        web.etag, web.modified = 'W/"weak"', CHANGED_DATE
        web.cuts = [1000]
        download(f"{web.address}/a.pth", target)
        assert web.asked[1]["if-range"] == CHANGED_DATE
        assert_there(target)

    def test_a_file_that_changed(self, web: Web, target: Path) -> None:
        leave_part(target, web, OLD[:1234], validator='"old"')
        download(f"{web.address}/a.pth", target)
        assert web.asked[0]["if-range"] == '"old"'
        assert len(web.asked) == 1
        assert_there(target)

    def test_a_file_that_changed_and_does_not_say_so(self, web: Web, target: Path) -> None:
        web.etag = None
        leave_part(target, web, OLD[:1234], validator=None)
        download(f"{web.address}/a.pth", target, sha256=SHA[:8])
        assert web.ranges_asked == ["bytes=1234-", None]
        assert_there(target)

    def test_without_hash_and_date_from_the_start(self, web: Web, target: Path) -> None:
        web.etag = None
        leave_part(target, web, NEW[:1234], validator=None)
        download(f"{web.address}/a.pth", target)
        assert web.ranges_asked == [None]
        assert_there(target)

    @pytest.mark.parametrize("origin", [{"url": "http://elsewhere/a.pth"}, {"validator": 7}])
    def test_a_part_of_something_else(self, origin: dict[str, Any], web: Web, target: Path) -> None:
        leave_part(target, web, OLD[:1234], **origin)
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert_there(target)

    @pytest.mark.parametrize("said", [b"", b"[]", b"{", b'{"url": 1}', b"\xff"])
    def test_a_part_of_nobody_knows_what(self, said: bytes, web: Web, target: Path) -> None:
        leave_part(target, web, OLD[:1234])
        target.with_name("a.pth.part.json").write_bytes(said)
        download(f"{web.address}/a.pth", target)
        assert web.ranges_asked == [None]
        assert_there(target)

    def test_a_server_that_cannot(self, web: Web, target: Path) -> None:
        web.ranges = False
        leave_part(target, web, NEW[:1234])
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert web.ranges_asked == ["bytes=1234-"]
        assert_there(target)

    def test_a_part_that_is_whole(self, web: Web, target: Path) -> None:
        leave_part(target, web, NEW)
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert len(web.asked) == 1
        assert_there(target)

    def test_a_part_that_is_longer_than_the_whole(self, web: Web, target: Path) -> None:
        leave_part(target, web, NEW + b"more")
        download(f"{web.address}/a.pth", target, sha256=SHA)
        assert web.ranges_asked == [f"bytes={len(NEW) + 4}-", None]
        assert_there(target)


class TestWhatCame:
    def test_a_wrong_hash(self, web: Web, target: Path) -> None:
        with pytest.raises(CheckpointError, match=f"its SHA-256 is {SHA}, not 01234567; not kept"):
            download(f"{web.address}/a.pth", target, sha256="01234567")
        assert list(target.parent.glob("a*")) == []

    def test_no_checkpoint(self, web: Web, target: Path) -> None:
        def check(path: Path) -> None:
            assert path.read_bytes() == NEW
            assert not target.exists()
            raise CheckpointError("it is a web page")

        with pytest.raises(CheckpointError, match=r"a\.pth: what came is not what was published: it is a web page"):
            download(f"{web.address}/a.pth", target, check=check)
        assert list(target.parent.glob("a*")) == []

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
    def test_an_answer_that_is_none(self, code: int, web: Web, target: Path) -> None:
        web.answers = [code]
        with pytest.raises(CheckpointError, match=rf"a\.pth: cannot be downloaded: {code} \w+.*; fetch .* put it at "):
            download(f"{web.address}/a.pth", target)
        assert len(web.asked) == 1
        assert list(target.parent.glob("a*")) == []


class TestRedirects:
    def test_followed(self, web: Web, target: Path) -> None:
        web.redirects = {"/old": f"{web.address}/a.pth"}
        web.cuts = [1000]
        download(f"{web.address}/old", target, sha256=SHA)
        assert_there(target)
        assert web.ranges_asked == [None, None, "bytes=1000-", "bytes=1000-"]

    def test_in_a_circle(self, web: Web, target: Path) -> None:
        web.redirects = {"/a": f"{web.address}/b", "/b": f"{web.address}/a"}
        with pytest.raises(CheckpointError, match=r"/a: cannot be downloaded: 302 [^\n]*; fetch"):
            download(f"{web.address}/a", target)

    def test_to_a_file_of_ours(self, web: Web, target: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        web.redirects = {"/a.pth": (tmp_path / "secret").as_uri()}
        with pytest.raises(CheckpointError, match="cannot be downloaded: 302"):
            download(f"{web.address}/a.pth", target)
        assert not target.exists()

    @pytest.mark.parametrize(("leads_to", "followed"), [("https://b/x", True), ("http://b/x", False)])
    def test_never_from_https_to_http(self, leads_to: str, followed: bool) -> None:
        def redirect() -> Request | None:
            asked = Request("https://a/x")
            return module._SafeRedirects().redirect_request(asked, BytesIO(), 302, "Found", Message(), leads_to)

        if followed:
            request = redirect()
            assert request is not None
            assert request.full_url == leads_to
        else:
            with pytest.raises(CheckpointError, match=r"https://a/x: leads to http://b/x, which is not https"):
                redirect()


def test_a_proxy(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.address)
    web.files["http://far.invalid/a.pth"] = NEW
    download("http://far.invalid/a.pth", target, sha256=SHA)
    assert web.asked[0]["path"] == "http://far.invalid/a.pth"
    assert web.asked[0]["host"] == "far.invalid"
    assert_there(target)


class TestTheDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)]
        if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small disk cannot be mounted: that takes root and Linux")
        yield tmp_path
        subprocess.run(["umount", str(tmp_path)], check=True)

    def test_no_room_is_told_before(self, web: Web, small_disk: Path) -> None:
        target = small_disk / "a.pth"
        with pytest.raises(CheckpointError, match=r"no room for it: 0\.3 MB are missing, 0\.1 MB free"):
            download(f"{web.address}/a.pth", target)
        assert not target.exists()

    def test_no_room_is_met_on_the_way(self, web: Web, small_disk: Path) -> None:
        web.length = False
        target = small_disk / "a.pth"
        with pytest.raises(CheckpointError, match=r"a\.pth: cannot be written: No space left on device"):
            download(f"{web.address}/a.pth", target)
        assert not target.exists()
        assert len(web.asked) == 1

    def test_it_goes_on_when_there_is_room(self, web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = module._copy

        def full(response: Any, file: Any, *rest: Any) -> int:
            file.write(response.read(1000))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, "_copy", full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            download(f"{web.address}/a.pth", target)
        monkeypatch.setattr(module, "_copy", copy)
        download(f"{web.address}/a.pth", target)
        assert web.ranges_asked == [None, "bytes=1000-"]
        assert_there(target)

    def test_a_folder_closed_to_us(self, web: Web, tmp_path: Path) -> None:
        prefix = unprivileged()
        if prefix is None:
            pytest.skip("root passes over the modes of files")
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        script = (
            "import sys; from pathlib import Path; from ssdcam.checkpoints.download import download\n"
            "from ssdcam.errors import CheckpointError\n"
            "try: download(sys.argv[1], Path(sys.argv[2]))\n"
            "except CheckpointError as error: print(error)"
        )
        for path in (closed / "a.pth", closed / "new" / "a.pth"):
            command = [*prefix, sys.executable, "-c", script, f"{web.address}/a.pth", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
            assert (done.stdout, done.stderr) == (f"{path}: cannot be written: Permission denied\n", "")
        assert not web.asked

    def test_a_file_for_a_folder(self, web: Web, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(CheckpointError, match=r"a\.pth: cannot be written: Not a directory|File exists"):
            download(f"{web.address}/a.pth", tmp_path / "file" / "a.pth")


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(code: int, web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    download(f"{web.address}/a.pth", target, sha256=SHA)
    assert target.read_bytes() == NEW
    assert not target.with_name(".a.pth.mark").exists()


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(NEW)
    assert sha256_of(tmp_path / "a") == SHA
