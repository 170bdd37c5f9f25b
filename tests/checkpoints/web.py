"""A web server of this process' own, with the ill manners of real ones, and what it was asked."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..waiting import GUARD


@dataclass
class Web:
    """What the server has, how it behaves and what it was asked.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        files: contents by path.
        ranges: whether it gives parts.
        etag, modified: what it says of every file; None is nothing.
        length: whether it says how long a file is.
        redirects: where paths lead.
        answers: status codes of the next requests, in place of what was asked for.
        cuts: bytes after which the next answers break off; None is not at all.
        resets: whether what breaks off is reset, as by a firewall, and not closed.
        claims: what the next answers with a part say of it, in place of the truth.
        hold: answers stop half-way through the body until it is set, where it is given.
        asked: headers of each request, with its path as ``path``.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    length: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    cuts: list[int | None] = field(default_factory=list)
    resets: bool = False
    claims: list[str] = field(default_factory=list)
    hold: threading.Event | None = None
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("range") for headers in self.asked]


@contextmanager
def serving() -> Iterator[Web]:
    """A running server."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            web.asked.append({**{key.lower(): value for key, value in self.headers.items()}, "path": self.path})
            path = self.path.removeprefix(web.address)  # a proxy is asked for whole addresses
            if web.answers and (code := web.answers.pop(0)) != 200:
                self.send_error(code)
            elif path in web.redirects:
                self.send_response(302)
                self.send_header("Location", web.redirects[path])
                self.end_headers()
            elif path not in web.files:
                self.send_error(404)
            else:
                self._send(web.files[path])

        def _send(self, content: bytes) -> None:
            start = self._start(content)
            if start > len(content) or (start and start == len(content)):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                truth = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", web.claims.pop(0) if web.claims else truth)
            for name, value in (("ETag", web.etag), ("Last-Modified", web.modified)):
                if value:
                    self.send_header(name, value)
            if web.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = web.cuts.pop(0) if web.cuts else None
            self._write(content[start:][:cut])
            if web.resets and cut is not None:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def _start(self, content: bytes) -> int:
            wanted = self.headers["Range"]
            if not (wanted and web.ranges) or self.headers["If-Range"] not in (None, web.etag, web.modified):
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def _write(self, body: bytes) -> None:
            half = len(body) // 2 if web.hold else len(body)
            try:
                self.wfile.write(body[:half])
                if web.hold:
                    web.hold.wait(GUARD)
                    self.wfile.write(body[half:])
            except OSError:  # whoever asked has gone
                return

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                return

        def log_message(self, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            if web.hold:
                web.hold.set()
            server.shutdown()
            thread.join()


def nowhere() -> str:
    """An address that nobody answers at."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
