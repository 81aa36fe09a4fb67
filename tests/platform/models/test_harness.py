from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossover.platform.models import harness
from crossover.platform.models.harness import HarnessRequests, harness_model
from crossover.trainers.errors import ConfigError
from crossover.trainers.tasks.evaluation import evaluate_tasks
from crossover.trainers.tasks.questions import TaskError
from crossover.trainers.trained import open_model

Call = Callable[..., Any]
LM_EVAL = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="needs lm-evaluation-harness: pip install -e '.[eval]'"
)


@dataclass
class Request:
    """What the harness hands over."""

    args: tuple[Any, ...]
    task_name: str = "task"
    doc_id: int = 0


@torch.no_grad()
def test_likelihoods_are_sums_over_what_follows(counting_ar: Path) -> None:
    asked = HarnessRequests(counting_ar, device="cpu")
    (found, is_greedy), (unlikely, is_greedy_too) = asked.loglikelihood(
        [Request(("one two three fo", "ur "), doc_id=1), Request(("one two three fo", "\x01\x02\x03"), doc_id=2)]
    )
    model = asked.trained.model
    tokens = [257, *b"one two three four "]
    with asked.trained.runtime.autocast():
        log_p = model(torch.tensor([tokens]), causal=True)[0].float().log_softmax(-1)
    expected = sum(float(log_p[place, tokens[place + 1]]) for place in range(16, 19))
    assert found == pytest.approx(expected, abs=0.05)
    assert (is_greedy, is_greedy_too) == (True, False)
    assert unlikely < found


def test_rolling_likelihoods_are_those_of_the_pieces(counting_ar: Path, counting_mdm: Path) -> None:
    text = "one two three four five six seven eight nine ten "
    for folder in (counting_ar, counting_mdm):
        asked = HarnessRequests(folder, device="cpu")
        (whole, empty) = asked.loglikelihood_rolling([Request((text,)), Request(("",))])
        parts = asked.loglikelihood([Request(("", text[:32]), doc_id=0), Request(("", text[32:]), doc_id=1)])
        tolerance = 0.05 if folder == counting_ar else 6.0  # other masks
        assert whole == pytest.approx(sum(nats for nats, _ in parts), abs=tolerance)
        assert empty == 0.0


def test_generation_ends_where_it_is_told_to(counting_ar: Path) -> None:
    asked = HarnessRequests(counting_ar, device="cpu")
    told = {"max_gen_toks": 8, "do_sample": False}
    whole, cut = asked.generate_until(
        [Request(("one two three fo", {**told})), Request(("one two three fo", {**told, "until": [" "]}))]
    )
    assert whole.startswith("ur ")
    assert cut == "ur"


def test_a_continuation_longer_than_the_context_is_refused(counting_ar: Path) -> None:
    with pytest.raises(TaskError, match="a continuation of 33 tokens"):
        HarnessRequests(counting_ar).loglikelihood([Request(("a", "b" * 33))])


def test_without_the_library_one_message_says_how_to_get_it(
    counting_ar: Path, monkeypatch: pytest.MonkeyPatch, crossover: Call
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(harness.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"crossover\[eval\]"):
        harness_model(counting_ar)
    done = crossover("lm-eval", "run", "--model", "crossover")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: lm-evaluation-harness is not installed here")


def local_task(folder: Path, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """A task of the harness over a file of ours."""
    (folder / "task.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return {
        "task": "counting",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "task.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_target": "label",
        "doc_to_choice": "endings",
        "target_delimiter": " ",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }


@LM_EVAL
@pytest.mark.slow
def test_the_harness_gives_our_accuracies_on_a_local_task(
    counting_ar: Path, counting_mdm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    random = np.random.default_rng(0)
    questions = [
        {
            "context": " ".join(words[start : start + 3]),
            "endings": [words[int(place)] for place in random.permutation(10)[:4]],
            "label": int(random.integers(4)),
        }
        for start in random.integers(0, 7, size=40).tolist()
    ]
    task = local_task(tmp_path, questions)
    for folder in (counting_ar, counting_mdm):
        found = lm_eval.simple_evaluate(
            model=harness_model(folder, num_masks=128, device="cpu"), tasks=[task], bootstrap_iters=0
        )
        scores = found["results"]["counting"]
        (ours,) = evaluate_tasks(open_model(folder), [tmp_path / "task.jsonl"], num_masks=128)
        tolerance = 1e-9 if folder == counting_ar else 0.1  # bounds by other masks
        assert scores["acc,none"] == pytest.approx(ours.accuracy, abs=tolerance)
        assert scores["acc_norm,none"] == pytest.approx(ours.accuracy_norm, abs=tolerance)


@LM_EVAL
@pytest.mark.slow
def test_its_command_line_knows_our_model(
    counting_ar: Path, tmp_path: Path, crossover: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    questions = [{"context": "one two", "endings": ["three", "\x01\x02\x03\x04\x05"], "label": 0}] * 4
    task = local_task(tmp_path, questions)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "counting.yaml").write_text(yaml.safe_dump(task))
    done = crossover(
        *("lm-eval", "run", "--model", "crossover", "--model_args", f"checkpoint={counting_ar}"),
        *("--tasks", "counting", "--include_path", tmp_path / "tasks"),
    )
    assert done.code == 0
    assert "|counting|" in done.out.replace(" ", "")
    assert "|acc|" in done.out.replace(" ", "").replace("↑", "").replace("||", "|") or "acc" in done.out
