"""Annealed branches: what a separate annealed run gives, at no cost to the run that they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import loop_examples as example
import pytest
import torch

from crossover.trainers import loop
from crossover.trainers.checkpoint import read_tensors
from crossover.trainers.config import AnnealingConfig
from crossover.trainers.errors import ConfigError
from crossover.trainers.loop import train
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.schedule import branch_ends

pytestmark = pytest.mark.integration

BRANCHES = {"annealing.first_epoch": 1.5, "annealing.fraction": 0.3}
OF_BRANCHES = {"train_flops", "eval_flops", "branch_flops", "branch", "decides"}
MIXTURE = {"model.num_experts": 4, "model.granularity": 2, "model.balancing": "bias"}
RUNS = [example.AUTOREGRESSIVE, example.MASKED_DIFFUSION | {"schedule.name": "constant"} | MIXTURE]


def rows_of(folder: Path, branch: str) -> list[Evaluation]:
    return [row for row in TrialRecord(folder).evaluations() if row.branch == branch]


def comparable(rows: list[Evaluation]) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if name not in OF_BRANCHES} for row in example.bits(rows)]


def run(corpus: Path, folder: Path, settings: dict[str, Any]) -> Path:
    train(example.config(corpus, **settings), example.ScriptedRun(folder))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with branches that nothing happened to."""
    return run(tiny_corpus, tmp_path_factory.mktemp("undisturbed"), BRANCHES)


@pytest.fixture(scope="module", params=RUNS, ids=lambda s: s["objective.name"])
def branched(request: pytest.FixtureRequest, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings: dict[str, Any] = request.param
    return settings, run(tiny_corpus, tmp_path_factory.mktemp("branched"), settings | BRANCHES)


def test_the_run_is_that_without_branches_bit_for_bit(branched: Any, tiny_corpus: Path, tmp_path: Path) -> None:
    settings, folder = branched
    plain = run(tiny_corpus, tmp_path, settings)
    assert comparable(rows_of(folder, "stable")) == comparable(rows_of(plain, "stable"))
    ends = [TrialRecord(path).end() for path in (folder, plain)]
    assert ends[0] is not None and ends[1] is not None
    assert ends[0].test_loss == ends[1].test_loss
    weights = [read_tensors(TrialRecord(path).best_weights()) for path in (folder, plain)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_each_branch_ends_where_a_run_of_its_length_ends_bit_for_bit(
    branched: Any, tiny_corpus: Path, tmp_path: Path
) -> None:
    """A WSD run of the same length that decays over the same steps, evaluated raw: no difference to be within."""
    settings, folder = branched
    annealed = rows_of(folder, "annealed")
    assert [row.step for row in annealed] == [9, 16, 26]
    for row, begin in zip(annealed, (6, 12, 20), strict=True):
        separate = {
            "schedule.name": "wsd", "schedule.decay_fraction": (row.step - begin) / row.step,
            "schedule.final_fraction": 0.0, "schedule.epochs": row.step * 5 / 20, "averaging.horizon_fraction": 0.0,
            "stopping.rule": "none",
        }  # fmt: skip
        rows = rows_of(run(tiny_corpus, tmp_path / str(begin), settings | separate), "stable")
        assert rows[-1].step == row.step
        for name in ("val_loss", "val_bits_per_byte", "tokens_seen", "epoch", "learning_rate", "grad_norm"):
            assert getattr(row, name) == getattr(rows[-1], name), name
        assert row.raw_val_loss == row.val_loss


def test_flops_of_branches_are_counted_once(branched: Any) -> None:
    _, folder = branched
    record = TrialRecord(folder)
    rows, end, facts = record.evaluations(), record.end(), record.facts()
    assert end is not None and facts is not None
    stable, annealed = rows_of(folder, "stable"), rows_of(folder, "annealed")
    before = [row.tokens_seen for row in stable if row.step in (6, 12, 20)]
    trained = before[-1] + sum(row.tokens_seen - tokens for row, tokens in zip(annealed, before, strict=True))
    assert end.train_flops == pytest.approx(facts.flops_per_token * trained)
    flops = [row.train_flops for row in rows]
    assert flops == sorted(flops)
    assert annealed[-1].train_flops == pytest.approx(end.train_flops)
    assert end.eval_flops > len(rows) * rows[0].eval_flops
    assert [row.decides for row in rows] == [row.branch == "stable" for row in rows]


def test_decisions_can_be_taken_on_the_branches(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = run(tiny_corpus, tmp_path, BRANCHES | {"annealing.decides": True})
    record, annealed = TrialRecord(folder), rows_of(tmp_path, "annealed")
    end, best = record.end(), min(annealed, key=lambda row: row.val_loss)
    assert end is not None
    assert [row.decides for row in record.evaluations()] == [row.branch == "annealed" for row in record.evaluations()]
    assert (end.best_step, end.best_val_loss) == (best.step, best.val_loss)
    assert end.final_bits_per_byte == annealed[-1].val_bits_per_byte
    assert record.best_step() == best.step
    nats, facts = record.window_nats(best.step), record.window_facts("validation")
    assert best.val_loss == pytest.approx(nats.sum() / facts.num_tokens.sum(), rel=1e-6)
    assert end.test_loss is not None


@pytest.mark.parametrize("decides", [False, True])
def test_a_run_interrupted_on_a_branch_makes_it_again_and_goes_on_the_same(
    decides: bool, tiny_corpus: Path, tmp_path: Path, undisturbed: Path
) -> None:
    settings = BRANCHES | {"annealing.decides": decides}
    expected = run(tiny_corpus, tmp_path / "whole", settings) if decides else undisturbed
    config, heard = example.config(tiny_corpus, **settings), []

    def answer(progress: Progress) -> StopRequest | None:
        """Once on each branch, at its second step, and once between two."""
        if progress.step in (8, 11, 14, 22) and progress.step not in heard:
            heard.append(progress.step)
            return StopRequest("interrupted", "the test said so")
        return None

    folder = tmp_path / "interrupted"
    legs = [train(config, example.ScriptedRun(folder, answer=answer)) for _ in range(5)]
    assert [leg.status for leg in legs] == ["interrupted"] * 4 + ["ended"]
    rows, wanted = (TrialRecord(path).evaluations() for path in (folder, expected))
    assert example.bits(rows) == example.bits(wanted)
    assert legs[-1].end is not None
    end = TrialRecord(expected).end()
    assert end is not None
    assert legs[-1].end.test_loss == end.test_loss
    assert legs[-1].end.train_flops == end.train_flops


def test_a_final_stop_on_a_branch_ends_the_run_without_its_row(tiny_corpus: Path, tmp_path: Path) -> None:
    def answer(progress: Progress) -> StopRequest | None:
        return StopRequest("budget", "spent") if progress.step == 13 else None

    leg = train(example.config(tiny_corpus, **BRANCHES), example.ScriptedRun(tmp_path, answer=answer))
    assert leg.end is not None
    assert leg.end.stop_reason == "budget"
    assert [row.step for row in rows_of(tmp_path, "annealed")] == [9]
    assert rows_of(tmp_path, "stable")[-1].step == 12
    assert leg.end.tokens_seen == 750


def test_nothing_of_a_branch_is_in_a_checkpoint(
    tiny_corpus: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits are due at every step here, and a kill on a branch leaves the run before it."""
    branch_step: Callable[..., None] = loop.branch_step

    def killing(setup: Any, state: Any, *arguments: Any) -> None:
        branch_step(setup, state, *arguments)
        if state.step == 15:
            raise KeyboardInterrupt

    config = example.config(tiny_corpus, **BRANCHES, **{"checkpoint.interval_seconds": 1e-9})
    monkeypatch.setattr(loop, "branch_step", killing)
    with pytest.raises(KeyboardInterrupt):
        train(config, example.ScriptedRun(tmp_path / "killed"))
    monkeypatch.undo()
    train(config, example.ScriptedRun(tmp_path / "killed"))
    rows, wanted = (TrialRecord(path).evaluations() for path in (tmp_path / "killed", undisturbed))
    assert example.bits(rows) == example.bits(wanted)


def test_branches_lie_on_a_grid_and_never_on_a_step_that_has_a_row() -> None:
    config = AnnealingConfig(first_epoch=1.5, ratio=2.0, fraction=0.3)
    assert branch_ends(config, 4.0, 20, frozenset({8, 20})) == {6: 9, 12: 16, 20: 26}
    assert branch_ends(config, 4.0, 20, frozenset({8, 9, 10, 20})) == {6: 11, 12: 16, 20: 26}
    assert branch_ends(config, 4.0, 6, frozenset({6})) == {6: 8}
    assert branch_ends(AnnealingConfig(first_epoch=0.01, ratio=1.5), 4.0, 3, frozenset({3})) == {1: 2, 2: 4, 3: 5}
    assert branch_ends(AnnealingConfig(), 4.0, 20, frozenset()) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"annealing.first_epoch": 6.0}, ["annealing.first_epoch = 6", "schedule.epochs = 5"]),
        ({"annealing.first_epoch": 1.0, "schedule.name": "cosine"}, ["schedule.name is cosine", "to constant"]),
        ({"annealing.first_epoch": 1.0, "annealing.fraction": 1.5}, ["annealing.fraction", "less than or equal to 1"]),
    ],
)
def test_branches_that_do_not_fit_are_refused(settings: dict[str, Any], words: list[str], tiny_corpus: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        example.config(tiny_corpus, **settings)
    for word in words:
        assert word in str(caught.value)
