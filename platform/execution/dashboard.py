"""`crossover dashboard`: optuna-dashboard over a study, also while it runs."""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import typer

from crossover.platform.execution.optuna_view import OptunaView
from crossover.platform.storage.views import StudyPlace
from crossover.trainers.errors import CrossoverError

__all__ = ["serve_dashboard"]

_HOST = "127.0.0.1"
_UPDATE_SECONDS = 5.0


def serve_dashboard(directory: str | Path, port: int, *, serve: bool = True) -> None:
    """Builds the view of a study's folder and serves it until it is interrupted.

    Args:
        directory: Folder of the study, or its URI in an object store: then the view lies in this machine's copy.
        port: Port on the loopback interface, 0 for any that is free. The dashboard has no passwords, so nobody on
            another machine can reach it.
        serve: False: only build the view.

    Raises:
        CrossoverError: the folder has no study, optuna-dashboard is not installed, or the port is taken.
    """
    place = StudyPlace.of(directory)
    view = OptunaView(place.path)
    typer.echo(f"view: {view.path} (optuna-dashboard {view.path} opens it too)")
    if not serve:
        return
    try:
        dashboard = importlib.import_module("optuna_dashboard")  # not a dependency: only for those who look
    except ImportError:
        raise CrossoverError(
            "optuna-dashboard is not installed: pip install optuna-dashboard, or give --no-serve to build the view only"
        ) from None
    try:
        server = make_server(_HOST, port, dashboard.wsgi(str(view.path)), handler_class=_Silent)
    except OSError as error:
        raise CrossoverError(f"port {port} cannot be used: {error.strerror}. Give another --port") from None
    ended = threading.Event()
    threading.Thread(target=_follow, args=(place, view, ended), daemon=True).start()
    typer.echo(f"dashboard: http://{_HOST}:{server.server_port}/ (Ctrl-C ends it; the study is not touched)")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
    ended.set()


class _Silent(WSGIRequestHandler):
    """Without a line for every request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _follow(place: StudyPlace, view: OptunaView, ended: threading.Event) -> None:
    while not ended.wait(_UPDATE_SECONDS):
        try:
            place.update()
            view.update()
        except CrossoverError as error:
            typer.echo(f"the view is not up to date: {error}", err=True)
