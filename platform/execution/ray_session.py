"""The Ray that a study runs on: one that is there already, the one that RAY_ADDRESS names, or one of its own.

An own Ray has a dashboard only for a study that runs in Ray Train, whose cleaner of placement groups is blind without
it: it costs seconds of start and 150 MB.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from crossover.trainers.errors import CrossoverError

__all__ = ["environment", "ray_session"]

_TUNE_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the study asks its trials to stop, Tune would end them
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # JSON and CSV are given; TensorBoard's would cost more than both
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the study says them
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints a box even when it is told to be silent
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_HOST_AND_PORT = re.compile(r"[^/]+:[0-9]+")
_PATIENCE_SECONDS = 10.0
_QUIET = ("ray", "ray.tune", "ray.train", "ray.data")


@contextmanager
def ray_session(*, dashboard: bool = False) -> Iterator[None]:
    """Ray, for as long as it is needed; only what was started here is ended.

    Args:
        dashboard: whether an own Ray has one.
    """
    with environment(_TUNE_SETTINGS), _quiet():
        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        _connect(os.environ.get("RAY_ADDRESS") or "local", dashboard)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str, dashboard: bool) -> None:
    own: dict[str, Any] = {"include_dashboard": dashboard} if address == "local" else {}
    try:
        if _HOST_AND_PORT.fullmatch(address):  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_SECONDS).close()
        with _own_handler_of_sigterm():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RaySystemError) as error:
        where = "Ray cannot be started on this machine" if own else f"no Ray answers at RAY_ADDRESS = {address}"
        remedy = "see the message" if own else "start it there, or unset RAY_ADDRESS to use this machine alone"
        raise CrossoverError(f"{where} ({error}): {remedy}") from error


@contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """`ray.init` sets one that ends the process at once, and trials are to leave with a checkpoint first."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """These variables of the process, while this lasts."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _QUIET]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
