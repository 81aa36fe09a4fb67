"""Training tokens a second inside a study with two trials at once, against two bare loops at once.

Both train the same two configurations, one thread each, and are timed after their first epoch. The study's time is that
of its trials without their evaluations, but with checkpoints, polls and the driver beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from harness import Goal, publish

OBJECTIVES = ("autoregressive", "masked_diffusion")
DATA = {"corpus": "python-stdlib", "unique_tokens": 24_576, "sequence_length": 128, "seed": 0}
SETTINGS = {
    "model.num_layers": 4,
    "model.width": 96,
    "schedule.batch_size": 16,
    "evaluation.validation_windows": 64,
    "evaluation.test_windows": 64,
}


def study_document(epochs: float) -> dict[str, Any]:
    """Two strata without anything to tune: one trial each, both at once."""
    return {
        "name": "throughput",
        "data": DATA,
        "fixed": {**SETTINGS, "schedule.epochs": epochs},
        "axes": {"objective.name": {"choice": list(OBJECTIVES), "role": "scientific"}},
        "stopping": {"rule": "none"},
        "resources": {"workers": 1, "cpus_per_worker": 1},
    }


def in_a_study(epochs: float) -> float:
    """Training tokens a second of both trials together."""
    from crossover.trainers.record import TrialRecord

    with tempfile.TemporaryDirectory(prefix="cx") as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(yaml.safe_dump(study_document(epochs)), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("crossover")), "run", str(folder / "study.yaml")]
        own = {"RAY_TMPDIR": str(folder / "ray"), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(
            [*command, "--storage", name], env={**os.environ, **own}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the study ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        trials = [TrialRecord(path) for path in sorted((folder / "throughput" / "trials").iterdir())]
        assert len(trials) == len(OBJECTIVES)
        return sum(_rate(trial.evaluations()) for trial in trials)


def _rate(rows: list[Any]) -> float:
    first, last = rows[0], rows[-1]
    seconds = (last.wall_seconds - last.eval_seconds) - (first.wall_seconds - first.eval_seconds)
    return float((last.tokens_seen - first.tokens_seen) / seconds)


def in_bare_loops(epochs: float) -> float:
    """Training tokens a second of both processes together."""
    command = [sys.executable, __file__, "--epochs", str(epochs), "--bare"]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in OBJECTIVES]
    return sum(float(json.loads(process.communicate()[0].splitlines()[-1])) for process in processes)


def bare_loop(objective: str, epochs: float) -> float:
    """Tokens a second of one loop after its first epoch."""
    from bare_loop import BareLoop

    from crossover.trainers.config import config_from_dotted
    from crossover.trainers.data import TrainingSubset, open_corpus

    data = {f"data.{name}": value for name, value in DATA.items()}
    settings = {**data, **SETTINGS, "schedule.epochs": epochs, "objective.name": objective, "execution.threads": 1}
    config = config_from_dotted(settings)
    corpus = open_corpus(config.data.corpus)
    subset = TrainingSubset(corpus, config.data.unique_tokens, config.data.sequence_length, config.data.seed)
    loop = BareLoop(config, corpus.vocabulary)
    size = config.schedule.batch_size
    steps_per_epoch = subset.num_sequences // size
    tokens, start = 0, time.perf_counter()
    for step in range(round(epochs * steps_per_epoch)):
        if step == steps_per_epoch:
            tokens, start = 0, time.perf_counter()
        batch = subset.batch(step * size, size, config.seed)
        loop.step(batch)
        tokens += batch.num_tokens
    return tokens / (time.perf_counter() - start)


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--bare", metavar="OBJECTIVE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps(bare_loop(arguments.bare, arguments.epochs)))
        return
    pairs = []
    for _ in range(arguments.repeats):
        pairs.append((in_a_study(arguments.epochs), in_bare_loops(arguments.epochs)))
        print(f"study {pairs[-1][0]:,.0f}, bare loops {pairs[-1][1]:,.0f} tokens/s", flush=True)
    study, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
    rows = [
        {"what": "two trials of a study", "training tokens/s": study, "repeats": len(pairs)},
        {"what": "two bare loops", "training tokens/s": bare, "repeats": len(pairs)},
    ]
    publish("study_throughput", rows, [Goal("study / bare loops", study / bare, at_least=0.95)])


if __name__ == "__main__":
    main()
