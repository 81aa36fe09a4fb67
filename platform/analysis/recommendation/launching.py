"""`crossover train --recommended STUDY`: the configuration of a study's plan, as a file, and its run.

The configuration is that of the study's best trial of the recommended objective and setting, on its own unique tokens;
size and epochs are the plan's. The file stays beside the run, to be read, changed and run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from crossover.platform.analysis.recommendation.planner import plan_of_study
from crossover.platform.analysis.recommendation.results import Choice, Plan, PlanError
from crossover.platform.analysis.selection import Candidate, pairs_of_strata
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.trainers.config import TrialConfig

__all__ = ["recommended_config", "train_recommended"]

_SAME_SIZE = 0.02
_SHAPE = ("size", "num_layers", "width", "num_heads", "num_kv_heads", "mlp_width")


def recommended_config(tables: StudyTables, plan: Plan) -> dict[str, Any]:
    """The settings of the plan's best choice, nested as in a configuration file.

    Raises:
        PlanError: the study has no trial to start from.
    """
    choice = plan.best
    candidate = _nearest_candidate(tables, choice)
    facts = candidate.trials[0].facts
    assert facts is not None  # a candidate has been evaluated
    config: dict[str, Any] = TrialConfig.model_validate(facts.config).model_dump(mode="json", exclude_defaults=True)
    if abs(choice.params / facts.num_params_active - 1) > _SAME_SIZE:
        kept = {name: value for name, value in config["model"].items() if name not in _SHAPE}
        config["model"] = {**kept, "size": str(round(choice.params))}
    config["data"] = {**config["data"], "unique_tokens": round(plan.unique_tokens)}
    config["schedule"] = {**config["schedule"], "epochs": float(f"{choice.epochs:.4g}")}
    return config


def train_recommended(study: str | Path, output: Path | None = None, overrides: Sequence[str] = ()) -> int:
    """Write the recommended configuration beside the run and train it; the same call again goes on.

    Args:
        study: the study's folder.
        output: the run's folder; by default `<study>-recommended` beside the study, or in runs/.
        overrides: `key=value` over the configuration.

    Returns:
        Exit code, as of `crossover train`.

    Raises:
        CrossoverError: the study says too little, or the configuration cannot be run.
    """
    tables = load_study(study)
    beside = tables.path if tables.place.remote is None else Path("runs", tables.study.name)
    folder = output or beside.with_name(f"{beside.name}-recommended")
    file = folder.with_name(f"{folder.name}.yaml")
    if not file.exists():
        config = recommended_config(tables, plan_of_study(tables))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# What crossover plan recommends from {study}\n{yaml.safe_dump(config)}", encoding="utf-8")
        typer.echo(f"the recommended configuration is now in {file}")
    else:
        typer.echo(f"going on with {file}, as it was recommended before; remove it for a new recommendation")
    from crossover.trainers.alone import run_config

    return run_config(file, folder, overrides)


def _nearest_candidate(tables: StudyTables, choice: Choice) -> Candidate:
    """The chosen configuration of the choice's objective and setting, of the size nearest to its own."""
    found = []
    for setting, strata in pairs_of_strata(tables):
        stratum = strata.get(choice.objective)
        if stratum is None or stratum.chosen is None:
            continue
        if choice.config_hash == stratum.chosen.config_hash:
            return stratum.chosen
        facts = stratum.chosen.trials[0].facts
        matches = all(f"{path}={value}" in choice.setting for path, value in setting.items() if path in choice.setting)
        if facts is not None and matches:
            found.append((abs(facts.num_params_active / choice.params - 1), facts.config["seed"], stratum.chosen))
    if not found:
        raise PlanError(f"{tables.path} has no trial of {choice.objective} to take the other settings from")
    return min(found, key=lambda item: item[:2])[2]
