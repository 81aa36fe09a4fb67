"""moto's S3 server on loopback behind a gate: it throttles, drops, refuses and goes away when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pyarrow import fs as pa_fs

__all__ = ["Store"]

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_ANSWERS = {
    "throttle": ("503 Slow Down", _SLOW_DOWN),
    "expired": ("400 Bad Request", _EXPIRED),
    "denied": ("403 Forbidden", _DENIED),
}


class Store:
    """The server, and what it was asked.

    Attributes:
        requests: method and path of each.
        gate: what to do with a request, by its number and WSGI environment: an answer of `_ANSWERS`, `drop`, `cut`
            (half of what was promised), or None: what S3 does.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self._port = 0
        self.requests: list[str] = []
        self.gate: Callable[[int, dict[str, Any]], str | None] = lambda number, environ: None
        self.go_up()
        place = f"127.0.0.1:{self._port}"
        self.query = f"endpoint_override={place}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        system, _ = pa_fs.FileSystem.from_uri(self.uri("bucket"))
        system.create_dir("bucket")

    def uri(self, path: str) -> str:
        return f"s3://{path}?{self.query}"

    def open(self) -> None:
        """As S3 is."""
        self.gate = lambda number, environ: None
        self.requests.clear()

    def go_up(self) -> None:
        """Listens, at the same port as ever."""
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *said: Any, **more: Any) -> None:
                pass

        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True, request_handler=Silent)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def go_down(self) -> None:
        """Connections are refused from here on; what was stored stays."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def down_for(self, seconds: float) -> threading.Thread:
        """Goes down now, and up again after a while."""
        self.go_down()

        def wait() -> None:
            time.sleep(seconds)
            self.go_up()

        waiting = threading.Thread(target=wait)
        waiting.start()
        return waiting

    def close(self) -> None:
        self.go_down()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        answer = self.gate(len(self.requests), environ)
        if answer in _ANSWERS:
            status, body = _ANSWERS[answer]
            start(status, [("Content-Type", "application/xml")])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
        if answer == "drop":
            environ["werkzeug.socket"].close()
            return []
        if answer == "cut":
            body = b"".join(self._app(environ, lambda *given: None))
            start("206 Partial Content", [("Content-Length", str(len(body)))])
            return iter([body[: len(body) // 2]])
        return self._app(environ, start)
