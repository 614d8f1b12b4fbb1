"""Run a web server on this machine, with ranges, entity tags, redirects, and injected failures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Web:
    """Serves files from memory.

    Attributes:
        files: Path -> content.
        moved: Path -> new location.
        asked: (path, Range header) of each request.
        cut: Bytes of the file after which an answer ends, one for each of the next answers.
        failures: Number of next answers that are 503.
        ranges: Whether it can send a part.
        headers: Headers of every answer.
        tokens: Authorization header of each request.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.cut: list[int] = []
        self.failures = 0
        self.ranges = True
        self.headers: dict[str, str] = {}
        self.tokens: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(web: Self) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (self is the handler's)
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web._answer(self)

            def do_HEAD(self) -> None:
                web._answer(self, body=False)

            def log_message(self, *_: Any) -> None: ...

        return Handler

    def _answer(self, to: BaseHTTPRequestHandler, *, body: bool = True) -> None:
        path, wanted = to.path, to.headers.get("Range", "")
        self.asked.append((path, wanted))
        self.tokens.append(to.headers.get("Authorization", ""))
        if path in self.moved:
            self._head(to, 302, {"Location": self.url + self.moved[path], "Content-Length": "0"})
        elif self.failures:
            self.failures -= 1
            self._head(to, 503, {"Content-Length": "0"})
        elif path not in self.files:
            self._head(to, 404, {"Content-Length": "0"})
        else:
            self._send(to, self.files[path], wanted, body=body)

    def _send(self, to: BaseHTTPRequestHandler, content: bytes, wanted: str, *, body: bool) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        same = to.headers.get("If-Range", tag) == tag
        start = int(wanted[len("bytes=") : -1]) if wanted and self.ranges and same else 0
        size, headers = len(content), {"ETag": tag}
        if start >= size > 0:
            self._head(to, 416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(to, 206 if start else 200, headers | {"Content-Length": str(size - start)})
        stop = self.cut.pop(0) if self.cut and body else size
        if body:
            to.wfile.write(content[start:stop])
        to.close_connection = True

    def _head(self, to: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
        to.send_response(status)
        for name, value in (self.headers | dict(headers)).items():
            to.send_header(name, value)
        to.end_headers()
