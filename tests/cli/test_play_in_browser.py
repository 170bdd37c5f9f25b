"""What ``ssdcam video`` writes plays in a browser."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ..media import clips
from ..media.sources.videos import make_video
from .running import GUARD, run

PAGE = b"""<!doctype html><video id="v" src="/video" muted autoplay></video><script>
const v = document.getElementById("v");
const tell = how => fetch("/told?how=" + how + "&at=" + v.currentTime + "&long=" + v.duration
    + "&size=" + v.videoWidth + "x" + v.videoHeight + "&error=" + (v.error ? v.error.code : ""));
v.playbackRate = 2;
v.addEventListener("ended", () => tell("ended"));
v.addEventListener("error", () => tell("error"));
</script>"""


class Theatre:
    """A page with a video, and what it tells."""

    def __init__(self, video: Path) -> None:
        self.told: dict[str, str] = {}
        self.done = threading.Event()
        theatre = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place = urlsplit(self.path)
                body, kind = PAGE, "text/html"
                if place.path == "/video":
                    body, kind = video.read_bytes(), "video/mp4"
                elif place.path == "/told":
                    theatre.told = {name: values[0] for name, values in parse_qs(place.query).items()}
                    theatre.done.set()
                    body = b""
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no Chromium")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return {
        "sound": clips.film(tmp_path / "sound.mp4", seconds=2.0),
        "odd": make_video(tmp_path / "odd.mp4", range(40), size=(97, 73), pixels="yuv444p"),
        "ten bit": make_video(tmp_path / "ten.mp4", range(40), pixels="yuv420p10le"),
    }


@pytest.fixture
def theatre(request: pytest.FixtureRequest) -> Iterator[Theatre]:
    shown = Theatre(request.getfixturevalue("tmp_path") / "out.mp4")
    yield shown
    shown.server.shutdown()
    shown.server.server_close()


@pytest.mark.parametrize(
    ("name", "size", "seconds"), [("sound", "64x48", 2.0), ("odd", "98x74", 4 / 3), ("ten bit", "96x72", 4 / 3)]
)
def test_h264_plays_to_its_end(
    browser: str, tmp_path: Path, sources: dict[str, Path], theatre: Theatre, name: str, size: str, seconds: float
) -> None:
    assert run("video", sources[name], "-o", tmp_path / "out.mp4").returncode == 0
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
    ).split()
    process = subprocess.Popen(
        [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", theatre.url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert theatre.done.wait(GUARD), "the browser never told anything"
    finally:
        process.terminate()
        process.wait(GUARD)
    assert theatre.told["how"] == "ended", theatre.told
    assert theatre.told["size"] == size
    assert float(theatre.told["at"]) == pytest.approx(seconds, abs=0.1)
    assert float(theatre.told["long"]) == pytest.approx(seconds, abs=0.1)
