"""What tests of whole studies share: a study of made-up words, and the processes of `crossover run` that work on it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from made_words import write_words

PATIENCE_SECONDS = 240
# what clock and machine say of an evaluation
TIMES = {"wall_seconds", "eval_seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
NOT_COMPARED = {"git_commit", *TIMES}
TWO_STRATA = {
    "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
}
_MARK = "CROSSOVER_TEST_RUN"


def write_study(folder: Path, *, unique_tokens: int = 2048, fixed: dict[str, Any], **sections: Any) -> Path:
    """A study file in the folder, and its corpus of made-up words.

    Args:
        folder: an empty one.
        unique_tokens: of the study.
        fixed: settings beside those of a model of one layer that is evaluated quickly.
        sections: of the study: axes, search, ...
    """
    from crossover.trainers.data import prepare_corpus

    prepare_corpus([write_words(folder / "text")], folder / "corpus")
    document = {
        "name": "words",
        "data": {"corpus": str(folder / "corpus"), "unique_tokens": unique_tokens, "sequence_length": 32},
        "fixed": {
            "model.num_layers": 1,
            "model.width": 32,
            "schedule.warmup_steps": 2,
            "evaluation.ratio": 1.5,
            "evaluation.validation_windows": 16,
            "evaluation.test_windows": 16,
            "execution.precision": "float32",
            **fixed,
        },
        **sections,
    }
    (folder / "words.yaml").write_text(yaml.safe_dump(document))
    return folder / "words.yaml"


class Commands:
    """Starts `crossover`, and finds and ends the processes of what it started, and no others.

    Args:
        environment: variables beside those of this process; RAY_ADDRESS is none of them unless it is given here.
    """

    def __init__(self, **environment: str) -> None:
        self._mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        ours = {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", _MARK: self._mark}
        self._environment = {**inherited, **ours, **environment}
        self._started: list[subprocess.Popen[str]] = []

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        """A process group of its own, as a shell gives it."""
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("crossover")), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def call(self, *arguments: object) -> tuple[int, str]:
        """A command to its end: its exit code and what it said."""
        return finished(self.begin(*arguments))

    def processes(self) -> list[int]:
        """Everything that was started here and what came of it."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue  # gone, or somebody else's
        return found

    def kill_everything(self) -> None:
        """Leaves nothing of what was started here."""
        for pid in self.processes():
            kill(pid)
        for process in self._started:
            process.wait()


class Runs(Commands):
    """`crossover run` of one study.

    Args:
        study_file: that is run.
        environment: see `Commands`.
    """

    def __init__(self, study_file: Path, **environment: str) -> None:
        super().__init__(**environment)
        self._study_file = study_file

    def start(self, storage: Path, *overrides: str) -> subprocess.Popen[str]:
        """Begins it, with these values of dotted paths over those of the file."""
        changes = [part for override in overrides for part in ("--set", override)]
        return self.begin("run", self._study_file, "--storage", storage, *changes)

    def run(self, storage: Path, *overrides: str) -> tuple[int, str]:
        """To its end: its exit code and what it said."""
        return finished(self.start(storage, *overrides))


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a command that ends by itself, and what it said."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output


def kill(pid: int) -> None:
    """Ends a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Waits for what no process of ours stands for, and says for what in vain."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until a study has come so far; its driver must be alive."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, f"it ended before: {process.communicate()[0]}"
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.02)
