"""Reaching a job server: a real HTTP server on loopback that answers as Ray's dashboard would, or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from crossover.platform.cluster.jobs.server import connect
from crossover.platform.cluster.jobs.submitting import Submission, submit_study
from crossover.trainers.errors import CrossoverError

MakeStudy = Callable[..., Any]


@dataclass
class Dashboard:
    """What it answers, and what it was asked."""

    url: str
    token: str | None = None
    body: bytes = json.dumps({"version": "4", "ray_version": ray.__version__}).encode()
    code: int = 200
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seen.append(self.path)
            code, body = served.code, served.body
            given = self.headers.get("Authorization")
            if served.token is not None and given != f"Bearer {served.token}":
                code, body = (401, b"Unauthorized") if given is None else (403, b"Forbidden")
            elif self.path == "/api/jobs/":
                body = b"[]"
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Dashboard(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_given_address_is_used_whatever_ray_address_says(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.9:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.9:8265")
    server = connect(dashboard.url + "/")
    assert server.ray_version == ray.__version__
    assert server.jobs() == []
    assert "/api/jobs/" in dashboard.seen


def test_a_token_is_sent_wherever_it_is_kept(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dashboard.token = "secret"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret\n")
    assert connect(dashboard.url).token_from == str(tmp_path / ".ray" / "auth_token")
    (tmp_path / "elsewhere").write_text("secret\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert connect(dashboard.url).token_from == str(tmp_path / "elsewhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    server = connect(dashboard.url)
    assert (server.token_from, server.jobs()) == ("RAY_AUTH_TOKEN", [])


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "asks for a token, and none is known: set RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "secret"}, "asks for a token, and none is known"),
        ({"RAY_AUTH_TOKEN": "another"}, "refuses the token of RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "no token: /nowhere cannot be read"),
        ({"RAY_AUTH_TOKEN_PATH": "/dev/null"}, "no token: /dev/null is empty"),
        ({"RAY_AUTH_MODE": "token"}, "auth_token cannot be read"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_one_error(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    dashboard.token = "secret"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CrossoverError, match=message) as raised:
        connect(dashboard.url)
    assert "secret" not in str(raised.value)
    assert "another:" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "no cluster is named: give --address"),
        ("ray://127.0.0.1:10001", "is no URL of a dashboard"),
        ("127.0.0.1:6379", "is no URL of a dashboard"),
        ("file:///etc/passwd", "is no URL of a dashboard"),
        ("http://127.0.0.1:1", r"nothing answers at http://127.0.0.1:1 \(.*refused\)"),
        ("http://no-such-host.invalid:8265", "nothing answers at http://no-such-host.invalid:8265"),
        ("http://127.0.0.1:99999", "nothing answers at"),
    ],
)
def test_an_address_that_is_none_is_one_error(address: str | None, message: str) -> None:
    with pytest.raises(CrossoverError, match=message):
        connect(address)


@pytest.mark.parametrize(
    ("code", "body"), [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b"\xff\xfe"), (404, b""), (500, b"oh")]
)
def test_another_server_at_the_address_is_one_error(dashboard: Dashboard, code: int, body: bytes) -> None:
    dashboard.code, dashboard.body = code, body
    with pytest.raises(CrossoverError, match="is no dashboard of Ray's"):
        connect(dashboard.url)


def test_another_version_of_ray_is_refused_before_anything_is_sent(dashboard: Dashboard, tiny_study: MakeStudy) -> None:
    dashboard.body = json.dumps({"ray_version": "2.48.0"}).encode()
    server = connect(dashboard.url)
    with pytest.raises(CrossoverError, match=rf"runs Ray 2\.48\.0, and this is Ray {ray.__version__}"):
        submit_study(server, Submission(tiny_study(storage="/shared/runs")))
    assert not [path for path in dashboard.seen if path != "/api/version"]
