"""`make_plan`: from names on the command line to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossover.platform.analysis.published_laws import (
    LawFileError,
    ThresholdLaw,
    is_threshold,
    published_names,
    read_law,
    read_threshold,
)
from crossover.platform.analysis.recommendation.forecasts import Forecast, forecasts_of_file, forecasts_of_fit
from crossover.platform.analysis.recommendation.measured import plan_from_measurements
from crossover.platform.analysis.recommendation.planning import plan_from_laws
from crossover.platform.analysis.recommendation.results import Plan, PlanError
from crossover.platform.analysis.scaling_laws.fitting import FitSettings, fit_law
from crossover.platform.analysis.scaling_laws.reading import losses_of_study, read_losses
from crossover.platform.analysis.scaling_laws.results import LawFit
from crossover.platform.analysis.scaling_laws.table import LossTable, NotIdentifiedError
from crossover.platform.analysis.tables import StudyTables, load_study
from crossover.platform.study.units import parse_count

__all__ = ["DEFAULT_SOURCES", "flops_of", "make_plan", "parse_amount", "plan_of_study"]

DEFAULT_SOURCES = ("muennighoff-2023", "quokka-2025", "prabhudesai-2025")
_TABLES = frozenset({".csv", ".parquet"})
_SECONDS = 3600.0


def make_plan(
    sources: Sequence[str],
    unique_tokens: float | None,
    flops: float | None,
    *,
    num_draws: int = 300,
    seed: int = 0,
) -> Plan:
    """Plan for U unique tokens and C FLOPs.

    Args:
        sources: one study's folder or table; or law files and published laws. Empty: the published laws of both
            objectives and of C_crit.
        unique_tokens: U; a study's own where it is None.
        flops: C; what the study's longest trial spent where it is None.
        num_draws: bootstrap draws of a fit.
        seed: of the draws.

    Raises:
        CrossoverError: a source cannot be read, or does not say enough.
    """
    names = list(sources) or list(DEFAULT_SOURCES)
    if len(names) == 1 and Path(names[0]).is_dir():
        return plan_of_study(load_study(names[0]), unique_tokens, flops, num_draws=num_draws, seed=seed)
    if unique_tokens is None or flops is None:
        raise PlanError(
            "a plan from laws needs --unique-tokens and --flops (or --hours, --devices and --device-flops): only a "
            "study has its own"
        )
    if len(names) == 1 and Path(names[0]).suffix.lower() in _TABLES:
        forecasts = forecasts_of_fit(_fitted(read_losses(names[0]), num_draws, seed))
        return plan_from_laws(forecasts, unique_tokens, flops, seed=seed)
    laws, threshold = _of_files(names)
    return plan_from_laws(laws, unique_tokens, flops, threshold=threshold, seed=seed)


def plan_of_study(
    tables: StudyTables,
    unique_tokens: float | None = None,
    flops: float | None = None,
    *,
    law: LawFit | str | None = None,
    num_draws: int = 300,
    seed: int = 0,
) -> Plan:
    """Plan from a study: by the law of its own trials where they identify one, else from what it measured.

    Args:
        tables: the study.
        unique_tokens: U; the study's largest where it is None.
        flops: C; what its longest trial spent where it is None.
        law: the law of its trials, or why there is none; fitted here where it is None.
        num_draws: bootstrap draws of a fit.
        seed: of the draws.

    Raises:
        CrossoverError: the study has no finite evaluation, or nothing within U and C.
    """
    table = losses_of_study(tables)
    unique = float(table.unique.max()) if unique_tokens is None else unique_tokens
    spent = [value for value in tables.trials["train_flops"].to_pylist() if value]
    budget = float(max(spent)) if flops is None else flops
    if law is None:
        try:
            law = _fitted(table, num_draws, seed)
        except NotIdentifiedError as error:
            law = str(error)
    if isinstance(law, str):
        return plan_from_measurements(tables, unique, budget, law)
    return plan_from_laws(forecasts_of_fit(law, _sparsity(tables)), unique, budget, seed=seed)


def parse_amount(text: str, option: str) -> float:
    """A positive amount such as 100M, 1e20 or 24_576.

    Raises:
        PlanError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            value = float(parse_count(text))
        except ValueError as error:
            raise PlanError(f"{option} {text}: {error}") from None
    if not 0 < value < float("inf"):
        raise PlanError(f"{option} {text}: must be a finite number above 0")
    return value


def flops_of(flops: str | None, hours: float | None, devices: int, device_flops: str | None) -> float | None:
    """C from FLOPs, or from hours on devices of a sustained speed.

    Raises:
        PlanError: both or half of it are given.
    """
    if flops is not None:
        if hours is not None:
            raise PlanError("--flops and --hours are both set: set one of them")
        return parse_amount(flops, "--flops")
    if hours is None:
        return None
    if device_flops is None:
        raise PlanError(
            "--hours needs --device-flops: the FLOP/s that a device sustains in training, such as 4e14 (of a trial: "
            "tokens_per_second x train_flops / tokens_seen)"
        )
    if hours <= 0:
        raise PlanError(f"--hours {hours:g}: must be above 0")
    return hours * _SECONDS * devices * parse_amount(device_flops, "--device-flops")


def _of_files(names: Sequence[str]) -> tuple[list[Forecast], ThresholdLaw | None]:
    laws: list[Forecast] = []
    threshold = None
    for name in names:
        if Path(name).is_dir() or Path(name).suffix.lower() in _TABLES:
            raise PlanError(
                f"{name} is a study or a table: give it alone, or write its law with crossover fit --output"
            )
        if is_threshold(name):
            threshold = read_threshold(name)
        else:
            laws += forecasts_of_file(name, read_law(name))
    if not laws:
        raise LawFileError(
            f"{', '.join(names)} says from which compute on masked diffusion is ahead, not what to train: add a law of "
            f"losses, one of {', '.join(n for n in published_names() if not is_threshold(n))}"
        )
    return laws, threshold


def _fitted(table: LossTable, num_draws: int, seed: int) -> LawFit:
    """The data-constrained law where rows repeat their data, else the Chinchilla law."""
    law = "data-constrained" if table.has_unique and (table.epochs > 1 + 1e-9).any() else "chinchilla"
    return fit_law(table, FitSettings(law=law, num_draws=num_draws, seed=seed, profiles=False))


def _sparsity(tables: StudyTables) -> dict[str, float]:
    """Total over active parameters by family, where a family has one."""
    found: dict[str, set[float]] = {}
    for row in tables.trials.to_pylist():
        if row["num_params_active"]:
            ratio = row["num_params_total"] / row["num_params_active"]
            found.setdefault(row["objective"], set()).add(round(ratio, 6))
    return {objective: ratios.pop() for objective, ratios in found.items() if len(ratios) == 1}
