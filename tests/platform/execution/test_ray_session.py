from __future__ import annotations

import os
import signal
from types import FrameType

import pytest
import ray

from crossover.platform.execution.ray_session import ray_session
from crossover.trainers.errors import CrossoverError


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_cluster_that_does_not_answer_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(CrossoverError, match=f"no Ray answers at RAY_ADDRESS = {address}"), ray_session():
        pass


def test_cluster_that_answers_and_does_not_let_in_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise ray.exceptions.RaySystemError("Failed to connect to GCS")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(CrossoverError, match="no Ray answers at RAY_ADDRESS = auto"), ray_session():
        pass


@pytest.mark.ray
def test_session_that_is_there_is_used_and_left(ray_session_of_tests: None) -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("TUNE_")}
    with ray_session():
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert ray.is_initialized()
    assert {name: value for name, value in os.environ.items() if name.startswith("TUNE_")} == before


@pytest.fixture
def ray_session_of_tests(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("ray_session")


def test_who_hears_sigterm_still_does_once_ray_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def heard(number: int, frame: FrameType | None) -> None:
        pass

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.signal(signal.SIGTERM, heard)
    try:
        with ray_session():
            assert signal.getsignal(signal.SIGTERM) is heard
    finally:
        signal.signal(signal.SIGTERM, before)
