"""An earlier study's trials are told to the samplers of a later one, where they measured the same."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossover.platform.execution.decisions import DecisionLog, Suggested
from crossover.platform.search.study_plan import plan_of
from crossover.platform.search.warm_start import warm_start_of
from crossover.platform.study import Study, StudyError, study_of
from crossover.trainers.rows import TrialEnd

DATA_HASH = "d" * 64
DOCUMENT: dict[str, Any] = {
    "name": "earlier",
    "data": {"corpus": "python-stdlib", "unique_tokens": 8192},
    "fixed": {"model.size": "400k", "schedule.epochs": 10},
    "axes": {
        "objective.name": {"choice": ["autoregressive", "masked_diffusion"], "role": "scientific"},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1], "role": "nuisance"},
    },
    "search": {"trials": 40},
}
Write = Callable[..., Path]


def study(change: Callable[[dict[str, Any]], object] = lambda document: None, **search: Any) -> Study:
    document = copy.deepcopy(DOCUMENT)
    document["search"] |= search
    change(document)
    return study_of(document, "a test's study")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A finished study whose best learning rate is 1e-2 in both strata; one of its trials failed, one still runs."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    (folder / "study.yaml").write_text(study().freeze(DATA_HASH))
    log = DecisionLog(folder)
    for stratum in study().strata():
        for number in range(30):
            rate = 10 ** (-4 + number / 10)
            trial_id = f"{stratum.label[10:12]}{number:02d}"
            log.append(
                Suggested(
                    trial_id=trial_id,
                    number=number,
                    stratum=dict(stratum.settings),
                    stratum_label=stratum.label,
                    settings={"optimizer.learning_rate": rate},
                    repeat=0,
                    config_hash=trial_id,
                    purpose="search",
                )
            )
            end = TrialEnd(
                stop_reason="failed" if number == 0 else "completed",
                stop_evidence="a test",
                best_bits_per_byte=None if number == 0 else 2 + abs(math.log10(rate) + 2),
            )
            (folder / "trials" / trial_id).mkdir(parents=True)
            if number != 1:
                (folder / "trials" / trial_id / "end.json").write_text(end.model_dump_json())
    log.close()
    return folder


def rates(study: Study, warm: Path | None) -> list[float]:
    """First learning rate of each stratum."""
    plan = plan_of(study, DATA_HASH, warm_start_of(study, DATA_HASH) if warm else None)
    suggestions = [stratum.searcher.suggest(0) for stratum in plan.strata]
    return [float(settings["optimizer.learning_rate"]) for settings in suggestions if settings]  # type: ignore[arg-type]


def test_trials_with_a_value_are_told_counted_and_said(earlier: Path) -> None:
    warm = warm_start_of(study(warm_start=str(earlier)), DATA_HASH)
    assert warm is not None
    assert {label: len(known) for label, known in warm.known.items()} == {
        "objective=autoregressive": 28,
        "objective=masked_diffusion": 28,
    }
    assert f"56 configurations of {earlier}" in str(warm)
    assert "28 in objective=masked_diffusion" in str(warm)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_first_suggestions_lie_where_the_earlier_study_was_good(earlier: Path, sampler: str) -> None:
    for rate in rates(study(warm_start=str(earlier), sampler=sampler), earlier):
        assert 2e-3 < rate < 5e-2


def test_descent_starts_at_the_best_of_the_earlier_study(earlier: Path) -> None:
    descent = study(warm_start=str(earlier), sampler="coordinate_descent", scheduler="none")
    assert rates(descent, earlier) == [pytest.approx(1e-2)] * 2


def test_study_that_names_none_is_told_nothing() -> None:
    assert warm_start_of(study(), DATA_HASH) is None


def test_what_was_read_is_kept_though_the_earlier_study_is_gone(earlier: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    later = study(warm_start=str(earlier))
    first = warm_start_of(later, DATA_HASH, here)
    shutil.rmtree(earlier)
    assert warm_start_of(later, DATA_HASH, here) == first
    (here / "warm_start.json").unlink()
    with pytest.raises(StudyError, match="No such file"):
        warm_start_of(later, DATA_HASH, here)


def test_numbers_come_back_exactly(earlier: Path, tmp_path: Path) -> None:
    later = study(warm_start=str(earlier))
    warm = warm_start_of(later, DATA_HASH, tmp_path)
    kept = warm_start_of(later, DATA_HASH, tmp_path)
    assert warm is not None
    assert kept == warm
    assert json.loads((tmp_path / "warm_start.json").read_text())["folder"] == str(earlier)


def test_strata_and_searches_may_differ(earlier: Path) -> None:
    def only_one_objective(document: dict[str, Any]) -> None:
        document["name"] = "later"
        document["axes"]["objective.name"]["choice"] = ["masked_diffusion"]

    warm = warm_start_of(study(only_one_objective, warm_start=str(earlier), trials=5, seed=3), DATA_HASH)
    assert warm is not None
    assert list(warm.known) == ["objective=masked_diffusion"]


def test_scientific_axis_of_one_may_be_fixed_in_the_other(earlier: Path) -> None:
    def fixed_size(document: dict[str, Any]) -> None:
        del document["fixed"]["model.size"]
        document["axes"]["model.size"] = {"choice": ["100k", "400k"], "role": "scientific"}

    warm = warm_start_of(study(fixed_size, warm_start=str(earlier)), DATA_HASH)
    assert warm is not None
    assert sorted(warm.known) == ["objective=autoregressive size=400k", "objective=masked_diffusion size=400k"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["fixed"].update({"schedule.epochs": 20}), r"fixed\.schedule\.epochs: 10 -> 20"),
        (lambda d: d["data"].update(unique_tokens=4096), r"data\.unique_tokens: 8192 -> 4096"),
        (
            lambda d: d["axes"]["optimizer.learning_rate"].update(log_uniform=[1e-4, 1e-2]),
            r"axes\.optimizer\.learning_rate: .*0\.1.* -> .*0\.01",
        ),
        (
            lambda d: d["axes"].update({"optimizer.beta2": {"uniform": [0.9, 0.99], "role": "nuisance"}}),
            r"axes\.optimizer\.beta2: not set -> ",
        ),
        (lambda d: d.update(stopping={"patience": 9}), r"stopping\.patience: 3 -> 9"),
    ],
)
def test_what_differs_is_named(earlier: Path, change: Callable[[dict[str, Any]], object], says: str) -> None:
    with pytest.raises(StudyError, match=says):
        warm_start_of(study(change, warm_start=str(earlier)), DATA_HASH)


def test_another_corpus_is_named(earlier: Path) -> None:
    with pytest.raises(StudyError, match=r"corpus: dddddddddddd -> eeeeeeeeeeee"):
        warm_start_of(study(warm_start=str(earlier)), "e" * 64)


def test_study_without_a_finished_trial_is_an_error(earlier: Path) -> None:
    for end in earlier.glob("trials/*/end.json"):
        end.unlink()
    with pytest.raises(StudyError, match="no finished trial in a stratum of this study"):
        warm_start_of(study(warm_start=str(earlier)), DATA_HASH)


def test_folder_that_is_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml"):
        warm_start_of(study(warm_start=str(tmp_path)), DATA_HASH)
