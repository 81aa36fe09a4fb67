"""Multiple choice by likelihood, against lm-evaluation-harness with `transformers` on the same weights and questions.

One small run of each objective is trained for a moment, for time does not depend on what it knows; the autoregressive
one is exported and loaded by the harness's own class for `transformers`, in float32 and in bfloat16. Questions are made
by `crossover data make-task`: four endings of 32 bytes after 80. An item is one ending. A bound costs as many passes an
item as it has masks, so passes stand beside items. Last, what evaluation takes of a trial's time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import Goal, medians_in_turn, publish

from crossover.platform.models.export_format import export_checkpoint
from crossover.platform.models.harness import HarnessRequests
from crossover.trainers.config import config_from_dotted
from crossover.trainers.data import open_corpus
from crossover.trainers.loop import train
from crossover.trainers.record import TrialRecord
from crossover.trainers.run import AloneRun
from crossover.trainers.tasks.evaluation import evaluate_tasks
from crossover.trainers.tasks.make_task import TaskShape, make_task
from crossover.trainers.tasks.questions import Task, read_task
from crossover.trainers.trained import open_model

AR, MDM = "autoregressive", "masked_diffusion"
MASKS = 32
CORPUS = "python-stdlib"


def trained_model(folder: Path, objective: str, num_layers: int, width: int, threads: int) -> Path:
    """One epoch over a little text."""
    settings = {
        "data.corpus": CORPUS,
        "data.unique_tokens": 8192,
        "data.sequence_length": 128,
        "model.num_layers": num_layers,
        "model.width": width,
        "objective.name": objective,
        "schedule.epochs": 1,
        "evaluation.validation_windows": 8,
        "evaluation.test_windows": 8,
        "execution.threads": threads,
    }
    train(config_from_dotted(settings), AloneRun(folder / objective))
    return folder / objective


def requests_of(task: Task) -> list[Any]:
    """As the harness's own tasks of this form ask."""
    from lm_eval.api.instance import Instance

    return [
        Instance("loglikelihood", {}, (question.context, question.separator + ending), place, ("task", number, 1))
        for number, question in enumerate(task.questions)
        for place, ending in enumerate(question.endings)
    ]


def their_answers(folder: Path, requests: list[Any], dtype: str, batch_size: int) -> Callable[[], object]:
    """The harness with `transformers`."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), device="cpu", dtype=dtype, batch_size=batch_size, max_length=128)
    return lambda: model.loglikelihood(requests, disable_tqdm=True)


def evaluation_share(folder: Path) -> float:
    """Of the trial's time, the test included."""
    end = TrialRecord(folder).end()
    assert end is not None and end.eval_seconds is not None
    return end.eval_seconds / end.wall_seconds


def main() -> None:
    """Make models and questions, then ask in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="of the harness")
    parser.add_argument("--trial", type=Path, nargs="*", default=(), help="finished trials: their share of evaluation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shape = (arguments.layers, arguments.width, arguments.threads)
        models = {name: trained_model(folder, name, *shape) for name in (AR, MDM)}
        export_checkpoint(models[AR], folder / "exported", "huggingface")
        make_task(open_corpus(CORPUS), folder / "task.jsonl", TaskShape(num_questions=arguments.questions))
        requests = requests_of(read_task(folder / "task.jsonl"))
        torch.set_num_threads(arguments.threads)
        trained = {name: open_model(path) for name, path in models.items()}
        harness = HarnessRequests(models[AR], device="cpu")
        answers: dict[str, Callable[[], object]] = {
            "lm-eval, transformers float32": their_answers(
                folder / "exported", requests, "float32", arguments.batch_size
            ),
            "lm-eval, transformers bfloat16": their_answers(
                folder / "exported", requests, "bfloat16", arguments.batch_size
            ),
            "crossover, AR": lambda: evaluate_tasks(trained[AR], [folder / "task.jsonl"]),
            "crossover, AR, asked by lm-eval": lambda: harness.loglikelihood(requests),
            f"crossover, MDM, {MASKS} masks": lambda: evaluate_tasks(trained[MDM], [folder / "task.jsonl"], MASKS),
        }
        seconds = medians_in_turn(answers, arguments.repeats)
    passes = {name: MASKS if "MDM" in name else 1 for name in seconds}
    rows = [
        {
            "model": name,
            "items/s": len(requests) / value,
            "passes/s": passes[name] * len(requests) / value,
            "layers x width": f"{arguments.layers} x {arguments.width}",
        }
        for name, value in seconds.items()
    ]
    theirs = min(value for name, value in seconds.items() if name.startswith("lm-eval"))
    goals = [
        Goal("AR items/s over lm-eval's faster", theirs / seconds["crossover, AR"], at_least=1.0),
        Goal("MDM passes/s over its items/s", MASKS * theirs / seconds[f"crossover, MDM, {MASKS} masks"], at_least=1.0),
        *(Goal(f"evaluation's share of {path.name}", evaluation_share(path), at_most=0.15) for path in arguments.trial),
    ]
    publish("multiple_choice", rows, goals)


if __name__ == "__main__":
    main()
