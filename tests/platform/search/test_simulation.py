"""Virtual time: deterministic, nothing lost, FLOPs that add up, and the decisions of the real parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossover.platform.execution.decisions import LegEnded, LegStarted, RungDecided, Suggested
from crossover.platform.search.schedulers import Cohort, Reached, Standing
from crossover.platform.search.simulation import (
    Comparison,
    SimulatedStudy,
    Traits,
    World,
    compare,
    get_law,
    law_names,
    read_recorded,
    reference_of,
    simulate,
    simulate_seeds,
    summarize,
)
from crossover.platform.search.study_plan import scheduler_of
from crossover.platform.search.study_rungs import horizon_of
from crossover.platform.study import Study, StudyError, read_study
from crossover.platform.study.reading import study_of
from crossover.trainers.config import config_from_dotted
from crossover.trainers.errors import CrossoverError
from crossover.trainers.overfitting import build_rule

RECORD = Path(__file__).resolve().parents[2] / "data" / "crossover-cpu-evaluations.parquet"
SET_RULES = ("cohort_halving", "patient_halving", "hyperband", "median")


def a_study(trials: int = 9, **changes: Mapping[str, Any]) -> Study:
    """Two strata at the scale of the published law."""
    document: dict[str, Any] = {
        "name": "virtual",
        "data": {"corpus": "none", "unique_tokens": 100_000_000, "sequence_length": 1024},
        "fixed": {"model.size": "150M", "schedule.epochs": 81, "schedule.batch_size": 256, "evaluation.ratio": 1.3},
        "axes": {
            "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
            "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2], "role": "nuisance"},
            "optimizer.weight_decay": {"log_uniform": [0.03, 1.0], "role": "nuisance"},
        },
        "search": {"sampler": "random", "trials": trials},
    }
    for section, values in changes.items():
        document[section] = {**document.get(section, {}), **values}
    return study_of(document, "test")


def run(study: Study, law: str = "data_constrained", world: int = 0, slots: int = 4) -> SimulatedStudy:
    return simulate(study, World(study, get_law(law), world), slots)


def decisions(done: SimulatedStudy) -> set[tuple[object, ...]]:
    return {
        (line.stratum_label, one.trial_id, one.rung, one.action, one.reason)
        for line in done.log
        if isinstance(line, RungDecided)
        for one in line.decisions
    }


def table(done: SimulatedStudy) -> dict[str, tuple[object, ...]]:
    return {i: (trial.step, trial.best, trial.flops, done.ends[i]) for i, trial in done.trials.items()}


def test_one_seed_gives_one_study_and_another_seed_another() -> None:
    study = a_study(search={"scheduler": "patient_halving"})
    first, again, other = run(study), run(study), run(study, world=1)
    assert table(first) == table(again)
    assert first.path == again.path
    assert first.seconds == again.seconds
    assert table(first) != table(other)


@pytest.mark.parametrize("rule", SET_RULES)
def test_the_number_of_slots_changes_time_alone(rule: str) -> None:
    study = a_study(search={"scheduler": rule})
    one, many = run(study, slots=1), run(study, slots=7)
    assert table(one) == table(many)
    assert decisions(one) == decisions(many)
    assert many.seconds < one.seconds


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from((*SET_RULES, "asha", "none")),
    st.sampled_from(law_names()),
    st.integers(1, 6),
    st.integers(0, 50),
    st.sampled_from((None, 3e20, 2e21)),
)
def test_no_trial_is_lost_and_flops_add_up(rule: str, law: str, slots: int, seed: int, limit: float | None) -> None:
    study = a_study(6, search={"scheduler": rule, "seed": seed}, budget={} if limit is None else {"flops": limit})
    done = run(study, law, seed, slots)
    made = {line.trial_id for line in done.log if isinstance(line, Suggested)}
    assert made == set(done.ends)
    assert set(done.trials) <= made
    assert done.flops == pytest.approx(sum(trial.flops for trial in done.trials.values()), rel=1e-9)
    for trial in done.trials.values():
        life = trial.life
        assert trial.flops == pytest.approx(
            life.costs.token * life.tokens(trial.step)
            + len(trial.rows) * life.costs.validation
            + trial.tested * life.costs.test
        )
        assert [row.step for row in trial.rows] == sorted({row.step for row in trial.rows})
    legs: dict[str, list[object]] = {}
    for line in done.log:
        if isinstance(line, LegStarted | LegEnded):
            legs.setdefault(line.trial_id, []).append(type(line))
    for sequence in legs.values():
        assert sequence == [LegStarted, LegEnded] * (len(sequence) // 2)
    starts = np.cumsum(
        [1 if isinstance(x, LegStarted) else -1 for x in done.log if isinstance(x, LegStarted | LegEnded)]
    )
    assert max(starts) <= slots


def test_budget_is_exceeded_by_at_most_a_poll_and_an_evaluation_of_each_slot() -> None:
    limit, slots = 1e20, 4
    study = a_study(budget={"flops": limit, "split": "shared"}, search={"scheduler": "none"})
    world = World(study, get_law("data_constrained"), 0)
    done = simulate(study, world, slots, flops_per_second=1e14)
    assert done.stopped is not None
    assert "budget.flops" in done.stopped
    lives = [trial.life for trial in done.trials.values()]
    poll = max(life.config.checkpoint.poll_seconds for life in lives) * 1e14
    beyond = max(life.costs.validation + life.costs.test + 256 * 1024 * life.costs.token for life in lives)
    gaps = [  # rows tell what was spent: what has been trained since the last row of each is not known yet
        row.train_flops - before.train_flops
        for trial in done.trials.values()
        for before, row in zip(trial.rows, trial.rows[1:], strict=False)
    ]
    assert limit <= done.flops <= limit + slots * (poll + beyond + max(gaps, default=0.0))
    assert "budget" in done.ends.values()


def test_wall_time_ends_a_study_in_virtual_time() -> None:
    study = a_study(budget={"wall_seconds": 86_400.0}, search={"scheduler": "none"})
    done = run(study)
    assert done.stopped is not None
    assert "wall_seconds" in done.stopped
    assert done.seconds >= 86_400


def test_trials_end_by_the_real_stop_rule() -> None:
    done = run(a_study(4, search={"scheduler": "none"}, fixed={"model.size": "400M", "schedule.epochs": 400}))
    overfit = [trial for trial in done.trials.values() if trial.ended == "overfit"]
    assert overfit
    for trial in done.trials.values():
        rule = build_rule(trial.life.config.stopping)
        assert all(not rule.verdict(trial.rows[:n]).stop for n in range(1, len(trial.rows)))
        assert rule.verdict(trial.rows).stop == (trial.ended == "overfit")


@pytest.mark.parametrize("rule", SET_RULES)
def test_first_rung_is_decided_as_the_scheduler_decides_the_recorded_rows(rule: str) -> None:
    study = a_study(search={"scheduler": rule})
    done = run(study)
    scheduler, stratum = scheduler_of(study), study.strata()[0]
    lines = [line for line in done.searched if line.stratum_label == stratum.label]
    first = next(x for x in done.log if isinstance(x, RungDecided) and x.stratum_label == stratum.label)
    cohort = Cohort(len(lines), horizon_of(study, stratum))
    for line in lines:
        life = done.trials[line.trial_id].life
        rungs = scheduler.rungs(cohort, line.number)
        until = life.step_of(cohort.horizon.tokens(rungs[0])) if rungs else life.num_steps
        rows = []
        while not rows or (rows[-1].step < until and life.ending(len(rows) - 1) is None):
            rows.append(life.row(len(rows)))
        best, last = min(row.val_bits_per_byte for row in rows), rows[-1]
        flops, over = last.train_flops + last.eval_flops, life.ending(len(rows) - 1) is not None
        cohort.put(
            Standing(
                trial_id=line.trial_id,
                stratum=line.stratum_label,
                number=line.number,
                repeat=0,
                config_hash=line.config_hash,
                state="ended" if over else "paused",
                value=best,
                reached=() if over else (Reached(best, flops),),
                flops=flops,
                max_tokens=life.tokens(life.num_steps),
            )
        )
    by_hand = {(d.trial_id, d.rung, d.action, d.reason) for d in scheduler.decide(cohort)}
    assert {(d.trial_id, d.rung, d.action, d.reason) for d in first.decisions} == by_hand


def test_reference_is_every_configuration_to_its_own_end() -> None:
    study = a_study(search={"scheduler": "none"})
    world = World(study, get_law("data_constrained"), 0)
    done = simulate(study, world)
    reference = reference_of(world, done.searched)
    found = compare(done, reference, "none", 0)
    assert found.flops == pytest.approx(1)
    assert found.regret == 0
    assert not found.winner_stopped
    assert reference.best == min(trial.best for trial in done.trials.values() if trial.best is not None)


def test_patience_finds_what_halving_across_objectives_loses() -> None:
    study = a_study(16, fixed={"model.size": "400M", "schedule.epochs": 500, "evaluation.ratio": 1.25})
    rules = ("patient_halving", "asha")
    found = summarize(list(simulate_seeds(study, get_law("data_constrained"), range(3), rules)))
    patient, asha = found
    assert patient.lost == 0
    assert patient.flops_within is not None
    assert patient.flops_within < 1 / 3
    assert asha.lost > 0


def test_patience_is_not_spent_on_those_that_are_too_early_to_tell() -> None:
    """Seven evaluations by the last rung, one by the first: 3 of these 6 winners were stopped when those came first."""
    fixed = {
        "model.size": "400M",
        "schedule.epochs": 150,
        "evaluation.ratio": 1.5,
        "evaluation.first_epoch": 5,
    }
    axes = {
        "optimizer.weight_decay": {"log_uniform": [0.1, 1.6], "role": "nuisance"},
        "regularization.dropout": {"choice": [0.0, 0.1, 0.2, 0.3], "role": "nuisance"},
    }
    found = simulate_seeds(a_study(16, fixed=fixed, axes=axes), get_law("data_constrained"), range(6), SET_RULES[1:2])
    [patient] = summarize(list(found))
    assert patient.winners_stopped <= 1
    assert patient.lost == 0


def traits(settings: Mapping[str, Any], size: str = "150M") -> Traits:
    fixed = {"data.corpus": "none", "data.unique_tokens": 100_000_000, "model.size": size, "schedule.epochs": 1000.0}
    config = config_from_dotted({**fixed, "schedule.batch_size": 16, **settings})
    return Traits(config, {}, {}, {}, 0, int(float(size[:-1]) * 1e6), str(settings), 0)


def test_law_overfits_where_the_papers_do() -> None:
    """On 100M tokens AR of 140M parameters is best at 50 epochs, masked diffusion of 425M at 500 (arXiv 2507.15857)."""
    law, epochs = get_law("data_constrained"), np.geomspace(1, 1000, 400)
    common = {"optimizer.learning_rate": 2e-3, "optimizer.weight_decay": 0.1}
    ar = law.curve(traits({"objective.name": "autoregressive", **common}, "140M")).nats(epochs)
    mdm = law.curve(traits({"objective.name": "masked_diffusion", **common}, "425M")).nats(epochs)
    assert 35 < epochs[ar.argmin()] < 75
    assert epochs[mdm.argmin()] > 400
    assert ar[0] < mdm[0]
    assert mdm.min() < ar.min()


@pytest.mark.parametrize("name", law_names())
def test_every_law_is_finite_and_the_same_when_asked_again(name: str) -> None:
    law, epochs = get_law(name), np.geomspace(0.01, 1000, 50)
    for objective in ("autoregressive", "masked_diffusion"):
        one = law.curve(traits({"objective.name": objective}))
        assert np.isfinite(one.nats(epochs)).all()
        assert (one.nats(epochs) == law.curve(traits({"objective.name": objective})).nats(epochs)).all()


def test_axis_that_a_law_does_not_know_is_refused_by_name() -> None:
    study = a_study(axes={"regularization.mlp_dropout": {"uniform": [0.0, 0.3], "role": "nuisance"}})
    with pytest.raises(StudyError, match=r"axes\.regularization\.mlp_dropout: the law data_constrained does not know"):
        get_law("data_constrained").check(study)


def test_unknown_law_is_refused_with_those_there_are() -> None:
    with pytest.raises(CrossoverError, match=r"--curves lore: no law of that name, and no file: .*data_constrained"):
        get_law("lore")


def test_recorded_configuration_shows_its_own_curve() -> None:
    curves, study = read_recorded(RECORD), read_study("crossover-cpu")
    curves.check(study)
    stratum = next(s for s in study.strata() if s.settings.get("recipe") == "tuned")
    recorded = [t for t in curves.trials if all(t.settings.get(p) == v for p, v in stratum.settings.items())]
    for trial in recorded:
        nuisance = {p: v for p, v in trial.settings.items() if p in study.axes and p not in stratum.settings}
        config = study.trial_config(stratum, nuisance)
        asked = Traits(config, stratum.settings, nuisance, study.axes, trial.repeat, 1, "t", 0)
        same = [t for t in recorded if {p: t.settings[p] for p in nuisance} == nuisance]
        expected = same[trial.repeat % len(same)]
        assert curves.curve(asked).nats(expected.epochs) == pytest.approx(expected.nats)


def test_recorded_curves_refuse_a_stratum_that_was_not_recorded() -> None:
    with pytest.raises(StudyError, match=r"stratum objective=autoregressive: .* has no trial with these settings"):
        read_recorded(RECORD).check(a_study())


def test_bound_on_what_was_never_seen_is_one_percent_of_300() -> None:
    seen = Comparison("none", 0, 64, 1.0, 0.3, False, 0, 2, 0.0, 1.0)
    assert summarize([seen] * 300)[0].stopped_at_most == pytest.approx(1 - 0.05 ** (1 / 300))
    (summary,) = summarize([replace(seen, winner_stopped=True, regret=0.01), replace(seen, flops_within=None)])
    assert (summary.winners_stopped, summary.lost, summary.reached) == (1, 1, 1)


def test_table_without_the_columns_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    file.write_text("trial_id,epoch\na,1.0\n")
    with pytest.raises(StudyError, match="it has no column val_loss"):
        read_recorded(file)
    file.write_text("trial_id,epoch,val_loss\na,1.0,nan\n")
    with pytest.raises(StudyError, match="no trial has a finite val_loss"):
        read_recorded(file)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(StudyError, match="it is no table of evaluations"):
        read_recorded(tmp_path / "text.parquet")
