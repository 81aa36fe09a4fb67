"""What tests of the platform share: one Ray for the whole session, the command in this process, a corpus that takes no
time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_words import write_words

# `synthetic_study` is imported by name: with `--import-mode=importlib` a test's folder is no path entry.
sys.path.append(str(Path(__file__).parent / "analysis"))

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of this test session alone, with two CPUs; it ends with the session, and nothing else is touched."""
    import ray

    folder = tempfile.mkdtemp(prefix="cx-ray")  # short: Ray's sockets live in it
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=50, _temp_dir=folder
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_stray_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that is not marked `ray` leaves none: many calls of Ray start a whole session when there is none yet."""
    had_one = _has_ray()
    yield
    if _has_ray() and not had_one and request.node.get_closest_marker("ray") is None:
        sys.modules["ray"].shutdown()
        pytest.fail("it started a Ray session: mark it `ray`, and use `ray_session`")


def _has_ray() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def crossover(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process."""
    from crossover.platform.cli import main

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["crossover", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert isinstance(code, int | None)
        return Done(code or 0, captured.out, captured.err)

    return call


def is_one_message(done: Done) -> bool:
    """Exit code 2, nothing but one line for the user, and no traceback."""
    lines = done.err.strip().splitlines()
    return (done.code, done.out, len(lines)) == (2, "", 1) and lines[0].startswith("error: ")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of about 100,000 tokens of made-up words."""
    from crossover.trainers.data import prepare_corpus

    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    prepare_corpus([write_words(tmp_path_factory.mktemp("text"))], folder)
    return folder


def tiny_document(corpus: Path, **changes: Any) -> dict[str, Any]:
    """A study of two strata whose trials take a fraction of a second."""
    document: dict[str, Any] = {
        "name": "tiny",
        "data": {"corpus": str(corpus), "unique_tokens": 2048, "sequence_length": 32},
        "fixed": {
            "model.num_layers": 1,
            "model.width": 32,
            "schedule.epochs": 2,
            "schedule.warmup_steps": 2,
            "evaluation.ratio": 2.0,
            "evaluation.validation_windows": 16,
            "evaluation.test_windows": 16,
            "execution.precision": "float32",
            "execution.threads": 1,
            "checkpoint.poll_seconds": 0.05,
        },
        "axes": {
            "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
            "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
        },
        "search": {"sampler": "random", "trials": 2, "scheduler": "none"},
    }
    for path, value in changes.items():
        section, _, name = path.partition("__")
        if name:
            document.setdefault(section, {})[name.replace("__", ".")] = value
        else:
            document[section] = value
    return document


@pytest.fixture(scope="session")
def tiny_study(tiny_corpus: Path) -> Any:
    """Makes tiny studies: `tiny_study(search__trials=3, fixed__schedule__epochs=4)`."""
    from crossover.platform.study import study_of

    return lambda **changes: study_of(tiny_document(tiny_corpus, **changes), "a test's study")


@pytest.fixture(scope="session")
def tiny_study_file(tiny_corpus: Path) -> Any:
    """Writes such a study to a file."""
    import yaml

    def write(path: Path, **changes: Any) -> Path:
        path.write_text(yaml.safe_dump(tiny_document(tiny_corpus, **changes)))
        return path

    return write
