"""Plans: the best of a law by hand, who is ahead, what would change it, what to run next; published laws; bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.append(str(Path(__file__).parent / "scaling_laws"))

from law_tables import AR, MDM, made_losses, made_table, true_crossing

from crossover.platform.analysis.published_laws import (
    LawFile,
    LawFileError,
    is_threshold,
    published_names,
    read_law,
    read_threshold,
)
from crossover.platform.analysis.recommendation import Plan, PlanError, flops_of, make_plan, parse_amount
from crossover.platform.analysis.recommendation.forecasts import forecasts_of_file, forecasts_of_fit
from crossover.platform.analysis.recommendation.launching import recommended_config
from crossover.platform.analysis.recommendation.planner import plan_of_study
from crossover.platform.analysis.recommendation.planning import plan_from_laws
from crossover.platform.analysis.scaling_laws import FitSettings, LawFit, fit_law
from crossover.platform.analysis.tables import load_study
from crossover.trainers.config import TrialConfig


@pytest.fixture(scope="module")
def fit() -> LawFit:
    settings = FitSettings(law="data-constrained", share="E+exponents", num_draws=60, held_out=False, profiles=False)
    return fit_law(made_table(unique=(25e6, 100e6)), settings)


def planned(fit: LawFit, unique: float, flops: float) -> Plan:
    return plan_from_laws(forecasts_of_fit(fit), unique, flops)


def test_the_plan_is_the_best_of_a_dense_grid(fit: LawFit) -> None:
    plan = planned(fit, 25e6, 1e17)
    assert plan.best.objective == "autoregressive"
    params = np.geomspace(1e5, 1e10, 20_000)
    losses = made_losses("data-constrained", AR, params, 1e17 / (6 * params), np.full(20_000, 25e6))
    assert plan.best.loss == pytest.approx(losses.min(), rel=0.01)
    assert plan.best.params == pytest.approx(params[losses.argmin()], rel=0.35)
    assert plan.best.low < plan.best.loss < plan.best.high
    assert plan.best.epochs == pytest.approx(plan.best.tokens / 25e6)
    assert plan.best.flops <= 1e17 * (1 + 1e-9)


def test_flops_that_give_nothing_are_not_spent(fit: LawFit) -> None:
    plan = planned(fit, 25e6, 1e22)
    ar = plan.best if plan.best.objective == "autoregressive" else plan.runner_up
    assert ar is not None
    assert ar.flops < 1e21


def test_the_objective_changes_at_the_crossing(fit: LawFit) -> None:
    critical = true_crossing(AR, MDM, 25e6)
    below, above = planned(fit, 25e6, critical / 4), planned(fit, 25e6, critical * 4)
    assert (below.best.objective, above.best.objective) == ("autoregressive", "masked_diffusion")
    assert below.runner_up is not None
    assert below.runner_up.objective == "masked_diffusion"
    assert (below.probability_best or 0) > 0.8
    change = next(words for words in below.changes if words.startswith("C above about"))
    assert float(change.split()[3].rstrip(":")) == pytest.approx(critical, rel=0.5)
    assert "mdm is ahead" in change


def test_beyond_the_data_the_interval_is_wider_and_it_warns(fit: LawFit) -> None:
    inside, beyond = planned(fit, 100e6, 1e18), planned(fit, 1e10, 1e23)
    assert inside.best.widened == 1
    assert not any("beyond what" in words for words in inside.warnings)
    assert beyond.best.beyond > 4
    assert beyond.best.widened > 1
    assert any("beyond what" in words for words in beyond.warnings)


def test_next_trials_are_those_whose_loss_moves_with_the_question(fit: LawFit) -> None:
    plan = planned(fit, 25e6, true_crossing(AR, MDM, 25e6))
    assert plan.next_trials
    per_flop = [trial.narrows_per_flop for trial in plan.next_trials]
    assert per_flop == sorted(per_flop, reverse=True)
    for trial in plan.next_trials:
        assert 0 < trial.narrows < 1
        assert trial.flops <= 0.25 * plan.flops
        assert trial.narrows_per_flop == pytest.approx(trial.narrows / trial.flops)


def test_a_trial_that_was_proposed_does_narrow_the_answer(fit: LawFit) -> None:
    """Weighing draws by how well they agree with a made-up outcome is what the trial would do: the interval shrinks."""
    ar, mdm = forecasts_of_fit(fit)
    plan = planned(fit, 25e6, true_crossing(AR, MDM, 25e6))
    trial = max(plan.next_trials, key=lambda t: t.narrows)
    best, second = plan.best, plan.runner_up
    assert second is not None
    by_name = {"ar": ar, "mdm": mdm, "autoregressive": ar, "masked_diffusion": mdm}
    points = [(by_name[c.objective], c.params, c.tokens) for c in (best, second)]
    logs = [f.log_losses(np.array([n]), np.array([d]), np.array([25e6]))[1:, 0] for f, n, d in points]
    asked = logs[0] - logs[1]
    forecast = by_name[trial.objective]
    seen = forecast.log_losses(
        np.array([trial.params]), np.array([trial.epochs * trial.unique_tokens]), np.array([trial.unique_tokens])
    )[1:, 0]
    weight = np.exp(-0.5 * ((seen - seen.mean()) / forecast.noise) ** 2)
    mean = np.average(asked, weights=weight)
    left = np.sqrt(np.average((asked - mean) ** 2, weights=weight))
    assert left < asked.std()


def test_a_law_file_gives_the_plan_of_the_fit_that_wrote_it(fit: LawFit, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text(fit.to_json(draws=True))
    ours, read = planned(fit, 25e6, 1e18), make_plan([str(path)], 25e6, 1e18)
    assert read.best.loss == pytest.approx(ours.best.loss)
    assert read.best.params == pytest.approx(ours.best.params, rel=1e-6)
    assert read.probability_best == ours.probability_best


def test_published_laws_can_be_read_and_say_what_the_papers_say() -> None:
    assert set(published_names()) == {
        *("chinchilla-besiroglu-2024", "muennighoff-2023", "prabhudesai-2025", "quokka-2025"),
    }
    critical = read_threshold("prabhudesai-2025")
    assert critical.flops(100e6) == pytest.approx(4.7e19, rel=0.01)
    assert critical.flops(500e6) == pytest.approx(1.6e21, rel=0.04)
    (quokka,) = forecasts_of_file("quokka-2025", read_law("quokka-2025"))
    params, tokens = quokka.best(100e6, 1e23)
    assert params == pytest.approx(95e6, rel=0.15)  # Table 4: 95M parameters, 356 epochs
    assert tokens / 100e6 == pytest.approx(356, rel=0.15)
    (chinchilla,) = forecasts_of_file("chinchilla-besiroglu-2024", read_law("chinchilla-besiroglu-2024"))
    params, tokens = chinchilla.best(1e13, 5.76e23)
    assert 15 < tokens / params < 35
    for name in published_names():
        assert (read_threshold if is_threshold(name) else read_law)(name).source


def test_without_a_study_published_laws_answer() -> None:
    above, below = make_plan([], 100e6, 1e21), make_plan([], 100e6, 1e18)
    assert (above.best.objective, below.best.objective) == ("masked_diffusion", "autoregressive")
    assert "C_crit" in above.decided_by
    assert above.probability_best is None
    assert any("do not compare" in words for words in above.warnings)
    near = make_plan([], 100e6, 6e19)
    assert any("about as good" in words for words in near.warnings)
    json.loads(near.to_json())


def test_a_study_of_one_size_is_planned_from_what_it_measured(study_folder: Path) -> None:
    tables = load_study(study_folder)
    plan = plan_of_study(tables)
    assert plan.best.basis == "measured"
    assert (plan.best.objective, plan.best.setting) == ("autoregressive", "recipe=tuned")
    assert plan.runner_up is not None
    assert plan.runner_up.objective == "masked_diffusion"
    assert plan.runner_up.loss > plan.best.loss
    assert (plan.probability_best or 0) > 0.9
    assert any("no law was fitted" in words for words in plan.warnings)
    assert plan.next_trials
    little = plan_of_study(tables, flops=plan.flops / 100)
    assert little.best.flops <= plan.flops / 100
    assert little.best.epochs < plan.best.epochs
    assert little.best.loss > plan.best.loss
    with pytest.raises(PlanError, match="set --unique-tokens to one of 24,576"):
        plan_of_study(tables, unique_tokens=1e6)
    with pytest.raises(PlanError, match="no evaluation within"):
        plan_of_study(tables, flops=1.0)


def test_the_recommended_configuration_is_the_trial_that_won(study_folder: Path) -> None:
    tables = load_study(study_folder)
    plan = plan_of_study(tables)
    config = TrialConfig.model_validate(recommended_config(tables, plan))
    assert config.objective.name == plan.best.objective
    assert config.data.unique_tokens == 24_576
    assert config.schedule.epochs == pytest.approx(plan.best.epochs, rel=1e-3)
    larger = replace(plan, best=replace(plan.best, params=4 * plan.best.params, config_hash=None))
    config = TrialConfig.model_validate(yaml.safe_load(yaml.safe_dump(recommended_config(tables, larger))))
    assert config.model.size == str(round(4 * plan.best.params))


def test_amounts_and_budgets_are_read_as_people_write_them() -> None:
    assert parse_amount("100M", "--unique-tokens") == 1e8
    assert parse_amount("1e20", "--flops") == 1e20
    assert flops_of(None, 24, 8, "4e14") == 24 * 3600 * 8 * 4e14
    for text in ("-5", "much", "nan", "0", "1Q"):
        with pytest.raises(PlanError, match="--flops"):
            parse_amount(text, "--flops")
    with pytest.raises(PlanError, match="both set"):
        flops_of("1e20", 24, 8, None)
    with pytest.raises(PlanError, match="--device-flops"):
        flops_of(None, 24, 8, None)


def test_sources_that_say_too_little_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--unique-tokens and --flops"):
        make_plan([], None, 1e20)
    with pytest.raises(PlanError, match="cannot be compared"):
        make_plan(["muennighoff-2023", "quokka-2025"], 1e8, 1e20)
    with pytest.raises(LawFileError, match="not what to train"):
        make_plan(["prabhudesai-2025"], 1e8, 1e20)
    with pytest.raises(LawFileError, match="did you mean quokka-2025"):
        make_plan(["quoka-2025"], 1e8, 1e20)
    damaged = tmp_path / "law.json"
    for content, words in (
        ("{", "is no law"),
        ('{"schema_version": 1, "source": "x", "law": "linear", "families": ["a"], "parameters": {}}', "linear"),
        (
            '{"schema_version": 1, "source": "x", "law": "asymptote", "families": ["a"], "parameters": {"E": 1}}',
            "no A of a",
        ),
    ):
        damaged.write_text(content)
        with pytest.raises(LawFileError, match=words):
            make_plan([str(damaged)], 1e8, 1e20)
    assert LawFile.model_validate_json(read_law("muennighoff-2023").model_dump_json()) == read_law("muennighoff-2023")
