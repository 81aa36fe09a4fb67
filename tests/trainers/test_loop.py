from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import loop_examples as example
import numpy as np
import pytest
import torch

from crossover.trainers import loop
from crossover.trainers.checkpoint import read_tensors
from crossover.trainers.config import TrialConfig
from crossover.trainers.errors import CrossoverError, RecordError
from crossover.trainers.evaluate import score
from crossover.trainers.loop import LegEnd, train
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives import LossSum
from crossover.trainers.record import TrialRecord
from crossover.trainers.record_writer import RecordWriter
from crossover.trainers.rows import Evaluation
from crossover.trainers.run import Progress, StopRequest
from crossover.trainers.training_state import derived_seed
from crossover.trainers.trial_setup import open_setup

pytestmark = pytest.mark.integration


def rows_of(config: TrialConfig, folder: Path) -> list[Evaluation]:
    train(config, example.ScriptedRun(folder))
    return TrialRecord(folder).evaluations()


@pytest.fixture(scope="module", params=example.OBJECTIVES, ids=lambda s: s["objective.name"])
def finished(
    request: pytest.FixtureRequest, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrialConfig, example.ScriptedRun, LegEnd]:
    run = example.ScriptedRun(tmp_path_factory.mktemp("trial"))
    config = example.config(tiny_corpus, **request.param)
    return config, run, train(config, run)


Finished = tuple[TrialConfig, example.ScriptedRun, LegEnd]


def test_a_finished_run_tells_its_rows_and_its_end(finished: Finished) -> None:
    config, run, leg = finished
    record = TrialRecord(run.directory)
    rows = record.evaluations()
    assert leg.status == "ended" and leg.end is not None
    assert leg.end == record.end()
    assert leg.end.stop_reason == "completed"
    assert example.bits(run.evaluations) == example.bits(rows)
    assert [row.step for row in rows] == [4, 5, 6, 8, 10, 12, 15, 19, 20]
    assert rows[-1].epoch == config.schedule.epochs
    assert rows[-1].tokens_seen == 5 * 250
    assert rows[-1].val_loss < rows[0].val_loss, "it learns"


def test_the_end_is_that_of_the_best_row(finished: Finished) -> None:
    _, run, leg = finished
    rows = TrialRecord(run.directory).evaluations()
    best = min(rows, key=lambda row: row.val_loss)
    assert leg.end is not None
    assert (leg.end.best_step, leg.end.best_epoch) == (best.step, best.epoch)
    assert (leg.end.best_val_loss, leg.end.best_bits_per_byte) == (best.val_loss, best.val_bits_per_byte)
    assert leg.end.final_bits_per_byte == rows[-1].val_bits_per_byte
    assert leg.end.eval_flops > rows[-1].eval_flops, "the test counts"


def test_losses_of_a_row_are_those_of_its_windows(finished: Finished) -> None:
    _, run, _ = finished
    record = TrialRecord(run.directory)
    facts = record.window_facts("validation")
    for row in record.evaluations():
        nats = record.window_nats(row.step).astype(np.float64).sum()
        assert row.val_loss == pytest.approx(nats / facts.num_tokens.sum(), rel=1e-12)
        assert row.val_bits_per_byte == pytest.approx(nats / math.log(2) / facts.num_bytes.sum(), rel=1e-12)


def test_rises_are_over_the_best_of_the_rows_before(finished: Finished) -> None:
    _, run, _ = finished
    best = math.inf
    for row in TrialRecord(run.directory).evaluations():
        assert row.rise_over_best == pytest.approx(max(0.0, row.val_loss - best) if best < math.inf else 0.0, abs=1e-6)
        assert (row.rise_over_best_se == 0) == (row.val_loss < best)
        best = min(best, row.val_loss)
        assert row.best_val_loss == best


def test_the_test_windows_were_scored_at_the_kept_best_weights(finished: Finished) -> None:
    config, run, leg = finished
    record, setup = TrialRecord(run.directory), open_setup(config)
    model = Transformer(setup.shape, config.regularization)
    model.load_state_dict(read_tensors(record.best_weights()))
    evaluation = config.evaluation
    validation = score(model, setup.objective, setup.validation, evaluation.masks_per_window, evaluation.seed)
    test = score(model, setup.objective, setup.test, evaluation.test_masks_per_window, evaluation.seed)
    assert leg.end is not None
    assert validation.loss == leg.end.best_val_loss
    assert (test.loss, test.bits_per_byte) == (leg.end.test_loss, leg.end.test_bits_per_byte)
    np.testing.assert_array_equal(record.test_window_nats(), test.nats_W)
    assert leg.end.eval_seconds is not None
    assert record.evaluations()[-1].eval_seconds < leg.end.eval_seconds < leg.end.wall_seconds


def test_a_trial_that_has_ended_is_left_as_it_is(finished: Finished) -> None:
    config, run, leg = finished
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")}
    again = example.ScriptedRun(run.directory)
    assert train(config, again) == leg
    assert again.evaluations == again.asked == []
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")} == before


def test_every_activity_is_shown(finished: Finished) -> None:
    _, run, _ = finished
    assert {progress.activity for progress in run.asked} == {"training", "validating", "testing"}
    assert run.asked[0].step == 0
    assert all(progress.num_steps == 20 for progress in run.asked)
    assert any(progress.tokens_per_second for progress in run.asked)


def test_facts_say_where_the_numbers_come_from(finished: Finished) -> None:
    config, run, _ = finished
    facts = TrialRecord(run.directory).facts()
    assert facts is not None
    assert TrialConfig.model_validate(facts.config) == config
    assert facts.is_bound == (config.objective.name == "masked_diffusion")
    assert (
        facts.packages["torch"] == torch.__version__.partition("+")[0] or facts.packages["torch"] == torch.__version__
    )
    last = TrialRecord(run.directory).evaluations()[-1]
    assert last.train_flops == facts.flops_per_token * last.tokens_seen
    assert last.train_flops_6nd == 6 * facts.num_params_active * last.tokens_seen


def test_the_same_seed_gives_the_same_rows_and_another_seed_gives_others(tiny_corpus: Path, tmp_path: Path) -> None:
    rows = [
        rows_of(example.config(tiny_corpus, seed=seed), tmp_path / name)
        for name, seed in zip("abc", (3, 3, 4), strict=True)
    ]
    assert example.bits(rows[0]) == example.bits(rows[1])
    assert all(a.val_loss != b.val_loss for a, b in zip(rows[0], rows[2], strict=True))


def test_evaluations_polls_and_checkpoints_do_not_disturb_training(tiny_corpus: Path, tmp_path: Path) -> None:
    often = example.config(tiny_corpus, checkpoint__interval_seconds=1e-9, evaluation__ratio=1.01)
    seldom = example.config(tiny_corpus, checkpoint__poll_seconds=1e9, evaluation__ratio=100.0)
    losses = [{row.step: row.val_loss for row in rows_of(c, tmp_path / n)} for n, c in (("o", often), ("s", seldom))]
    assert set(losses[1]) == {4, 20}
    assert {step: losses[0][step] for step in (4, 20)} == losses[1]


def test_rows_that_follow_one_another_fast_share_a_commit(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    commit = RecordWriter.commit

    def counting(self: RecordWriter, rows: Any, *arguments: Any, **keywords: Any) -> None:
        commits.append(len(rows))
        commit(self, rows, *arguments, **keywords)

    monkeypatch.setattr(RecordWriter, "commit", counting)
    at_once = rows_of(example.config(tiny_corpus), tmp_path / "at once")
    assert commits == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    commits.clear()
    together = rows_of(example.config(tiny_corpus, checkpoint__min_interval_seconds=60), tmp_path / "together")
    assert commits == [9]
    assert example.bits(together) == example.bits(at_once)
    kept = TrialRecord(tmp_path / "together")
    assert [kept.window_nats(row.step).shape for row in together] == [(24,)] * 9
    assert kept.best_step() == min(together, key=lambda row: row.val_loss).step


def test_a_row_that_waits_for_its_commit_is_kept_by_an_interruption(tiny_corpus: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> StopRequest | None:
        after = (progress.step, progress.activity) == (5, "training")
        return StopRequest("interrupted", "Ctrl-C") if after else None

    config = example.config(tiny_corpus, checkpoint__min_interval_seconds=60, checkpoint__poll_seconds=1e9)
    assert train(config, example.ScriptedRun(tmp_path / "a", answer=interrupt)).status == "interrupted"
    assert [row.step for row in TrialRecord(tmp_path / "a").evaluations()] == [4, 5]
    assert example.bits(rows_of(config, tmp_path / "a")) == example.bits(rows_of(config, tmp_path / "b"))


def test_raw_loss_is_missing_where_weights_are_averaged_and_the_same_where_not(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    assert [row.raw_val_loss for row in rows_of(example.config(tiny_corpus), tmp_path / "on")] == [None] * 9
    off = rows_of(example.config(tiny_corpus, averaging__horizon_fraction=0), tmp_path / "off")
    assert [row.raw_val_loss for row in off] == [row.val_loss for row in off]


def test_a_tiny_subset_is_learned_by_heart_and_the_detector_stops_it(tiny_corpus: Path, tmp_path: Path) -> None:
    config = example.config(
        tiny_corpus,
        data__unique_tokens=64,
        regularization__dropout=0.0,
        schedule__epochs=400,
        stopping__patience=2,
    )
    leg = train(config, example.ScriptedRun(tmp_path))
    assert leg.end is not None
    assert leg.end.stop_reason == "overfit"
    assert "nats per token" in leg.end.stop_evidence
    rows = TrialRecord(tmp_path).evaluations()
    assert leg.end.tokens_seen == rows[-1].tokens_seen < 400 * 64
    assert leg.end.best_step is not None and leg.end.best_step < rows[-2].step
    assert all(row.rise_over_best > 2 * row.rise_over_best_se for row in rows[-2:])
    assert rows[-1].train_loss is not None and rows[-1].train_loss < 0.5 < rows[-1].val_loss


@pytest.mark.parametrize("reason", ["budget", "pruned"])
def test_a_final_request_evaluates_what_was_trained_and_ends(reason: Any, tiny_corpus: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> StopRequest | None:
        return StopRequest(reason, "5 of 4 FLOPs are used") if progress.step == 7 else None

    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, answer=stop))
    assert leg.end is not None
    assert (leg.end.stop_reason, leg.end.stop_evidence) == (reason, "5 of 4 FLOPs are used")
    assert [row.step for row in TrialRecord(tmp_path).evaluations()] == [4, 5, 6, 7]
    assert leg.end.test_loss is not None


def test_a_final_request_right_after_an_evaluation_adds_no_row(tiny_corpus: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> StopRequest | None:
        return StopRequest("budget", "spent") if (progress.step, progress.activity) == (5, "training") else None

    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, answer=stop))
    assert leg.end is not None and leg.end.tokens_seen == TrialRecord(tmp_path).evaluations()[-1].tokens_seen


def test_a_run_that_is_stopped_before_its_first_step_measured_nothing(tiny_corpus: Path, tmp_path: Path) -> None:
    run = example.ScriptedRun(tmp_path, answer=lambda progress: StopRequest("budget", "spent"))
    leg = train(example.config(tiny_corpus), run)
    assert leg.end is not None
    assert leg.end.eval_seconds == 0.0
    measured = leg.end.model_dump(
        exclude={"stop_reason", "stop_evidence", "tokens_seen", "wall_seconds", "eval_seconds"}
    )
    assert {name for name, value in measured.items() if value is not None} == {"train_flops", "eval_flops"}
    assert measured["train_flops"] == measured["eval_flops"] == leg.end.tokens_seen == 0


def test_a_final_request_outlives_a_kill_during_the_test(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> StopRequest | None:
        return StopRequest("budget", "spent") if progress.step == 7 else None

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, answer=stop))
    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path))
    assert leg.end is not None
    assert (leg.end.stop_reason, TrialRecord(tmp_path).evaluations()[-1].step) == ("budget", 7)


def test_a_request_during_the_test_does_not_change_why_the_trial_ended(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> StopRequest | None:
        return StopRequest("budget", "spent") if progress.activity == "testing" else None

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, answer=stop))
    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, answer=stop))
    assert leg.end is not None and leg.end.stop_reason == "completed"


def nan_loss_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = loop.train_step

    def breaking(setup: Any, state: Any) -> None:
        if state.step >= step:
            objective = setup.objective
            training_loss = objective.training_loss

            def broken(*arguments: Any, **keywords: Any) -> LossSum:
                loss = training_loss(*arguments, **keywords)
                return LossSum(loss.nats * math.nan, loss.num_tokens)

            monkeypatch.setattr(objective, "training_loss", broken)
        train_step(setup, state)

    monkeypatch.setattr(loop, "train_step", breaking)


def test_a_run_that_diverges_keeps_its_best(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan_loss_from(13, monkeypatch)
    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path))
    assert leg.end is not None
    assert leg.end.stop_reason == "diverged"
    assert "nan" in leg.end.stop_evidence
    assert leg.end.best_step == 12
    assert leg.end.test_loss is not None and math.isfinite(leg.end.test_loss)
    assert leg.end.final_bits_per_byte is None
    last = TrialRecord(tmp_path).evaluations()[-1]
    assert math.isnan(last.val_loss) and math.isnan(last.rise_over_best), "the divergence is seen in the rows"
    assert last.best_val_loss == leg.end.best_val_loss


def test_a_run_that_diverges_at_once_ends_with_nothing_measured(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan_loss_from(0, monkeypatch)
    leg = train(example.config(tiny_corpus), example.ScriptedRun(tmp_path))
    assert leg.end is not None
    assert leg.end.stop_reason == "diverged"
    end = leg.end.model_dump()
    for name in ("best_step", "best_val_loss", "best_bits_per_byte", "final_bits_per_byte", "test_loss"):
        assert end[name] is None, name
    assert TrialRecord(tmp_path).test_window_nats() is None
    assert TrialRecord(tmp_path).best_step() is None


def test_a_divergence_between_evaluations_is_seen_within_16_steps(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan_loss_from(5, monkeypatch)
    config = example.config(tiny_corpus, schedule__epochs=50, evaluation__ratio=100.0)
    leg = train(config, example.ScriptedRun(tmp_path))
    assert leg.end is not None and leg.end.stop_reason == "diverged"
    assert [row.step for row in TrialRecord(tmp_path).evaluations()] == [4, 16]


def test_the_folder_of_another_trial_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, until_tokens=1))
    with pytest.raises(RecordError, match="record of another trial"):
        train(example.config(tiny_corpus, seed=4), example.ScriptedRun(tmp_path))


def test_what_does_not_change_the_mathematics_may_change_between_legs(tiny_corpus: Path, tmp_path: Path) -> None:
    train(example.config(tiny_corpus), example.ScriptedRun(tmp_path, until_tokens=1))
    config = example.config(tiny_corpus, execution__precision="auto", checkpoint__interval_seconds=1.0)
    assert train(config, example.ScriptedRun(tmp_path)).status == "ended"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective.name": "autoregresive"}, "autoregressive"),
        ({"data.unique_tokens": 10**9}, "1,000,000,000"),
        ({"data.corpus": "/nowhere"}, "/nowhere"),
        ({"model.width": 33}, "33"),
    ],
)
def test_what_cannot_be_run_is_one_error_and_leaves_nothing(
    settings: dict[str, object], message: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(CrossoverError, match=message):
        train(example.config(tiny_corpus, **settings), example.ScriptedRun(tmp_path / "trial"))
    assert not (tmp_path / "trial").exists()


def test_seeds_are_of_their_own_for_each_seed_purpose_and_step() -> None:
    seeds = {derived_seed(s, p, n) for s in range(20) for p in ("noise", "dropout") for n in range(50)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, "noise", 2) == 8819438753163842083, "a change would change every run"
