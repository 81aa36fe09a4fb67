"""All crossings of a table or a study: `crossings_of`, the one function behind `crossover crossings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossover.platform.analysis.answers import BASELINE, CHALLENGER, PairAnswer, answer
from crossover.platform.analysis.crossing.fitted import FittedPair
from crossover.platform.analysis.crossing.measured import measured_crossings
from crossover.platform.analysis.crossing.results import (
    CrossingEntry,
    CrossingReport,
    DataEfficiency,
    Kind,
    PowerLaw,
)
from crossover.platform.analysis.crossing.roles import Pair, pairs_of_families
from crossover.platform.analysis.crossings import Crossing, Quantiles
from crossover.platform.analysis.scaling_laws.fitting import FitSettings, fit_law
from crossover.platform.analysis.scaling_laws.reading import losses_of_study
from crossover.platform.analysis.scaling_laws.results import LawFit
from crossover.platform.analysis.scaling_laws.table import LossTable, LossTableError, NotIdentifiedError
from crossover.platform.analysis.tables import StudyTables, load_study

__all__ = ["CrossingSettings", "crossings_of_study", "crossings_of_table"]

_DEFAULT_NOISE = 0.005  # ln loss; where no law could be fitted to say


@dataclass(frozen=True)
class CrossingSettings:
    """How crossings are found.

    Args:
        law: fitted to the families; auto: by cross-validation.
        share: what they have in common, as of a fit.
        objective: of the fit.
        num_draws: bootstrap draws.
        seed: of the draws.
        baseline: name of the family to be crossed, where it is none of the known names.
        challenger: name of the family that crosses.
    """

    law: str = "data-constrained"
    share: str = "auto"
    objective: str = "huber"
    num_draws: int = 500
    seed: int = 0
    baseline: str | None = None
    challenger: str | None = None


def crossings_of_table(table: LossTable, settings: CrossingSettings | None = None) -> CrossingReport:
    """Crossings of every pair of families with every number of unique tokens that both were measured with.

    Raises:
        LossTableError: there are no two families, no U, or nothing that both were measured with.
    """
    settings = settings or CrossingSettings()
    pairs = pairs_of_families(table.families, table.source, settings.baseline, settings.challenger)
    if not table.has_unique:
        raise LossTableError(f"{table.source} has no column U (unique tokens): name it with --columns U=its_name")
    for pair in pairs:
        _refuse_no_overlap(table, pair)
    fit, notes = _fit_of(table, pairs, settings)
    entries, power, efficiency = _fitted(fit, pairs)
    measured: list[CrossingEntry] = []
    for pair in pairs:
        noise = _noise_of(fit, pair)
        for unique in _common_unique(table, pair):
            measured += measured_crossings(table, pair, unique, noise, num_draws=settings.num_draws, seed=settings.seed)
    return CrossingReport(
        table.source, None if fit is None else fit.law, (*entries, *measured), power, tuple(efficiency), tuple(notes)
    )


def crossings_of_study(folder: Path | str | StudyTables, settings: CrossingSettings | None = None) -> CrossingReport:
    """Crossings of a study: measured, with paired errors over documents and seeds; and fitted, where it has the sizes.

    Raises:
        CrossoverError: no study's folder, or it has no two objectives.
    """
    settings = settings or CrossingSettings()
    tables = folder if isinstance(folder, StudyTables) else load_study(folder)
    table = losses_of_study(tables)
    pairs = pairs_of_families(table.families, table.source, settings.baseline, settings.challenger)
    fit, notes = _fit_of(table, pairs, settings)
    entries, power, efficiency = _fitted(fit, pairs)
    measured = _by_kind([entry for pair in answer(tables).pairs for entry in _of_answer(tables, pair)])
    if not measured:
        notes.append("no setting has curves of both objectives on the same windows: nothing is measured to cross")
    return CrossingReport(
        table.source, None if fit is None else fit.law, (*entries, *measured), power, tuple(efficiency), tuple(notes)
    )


def _fit_of(table: LossTable, pairs: list[Pair], settings: CrossingSettings) -> tuple[LawFit | None, list[str]]:
    """The joint law of the families of all pairs; None, with the reason, where the table cannot tell."""
    wanted = sorted({name for pair in pairs for name in (pair.baseline, pair.challenger)})
    rows = table.take(np.isin(table.family, wanted))
    fitting = FitSettings(
        law=settings.law,
        objective=settings.objective,
        share=settings.share,
        num_draws=settings.num_draws,
        seed=settings.seed,
        held_out=False,
        profiles=False,
    )
    try:
        fit = fit_law(rows, fitting)
    except NotIdentifiedError as error:
        return None, [f"no law could be fitted, so nothing is extrapolated: {error}"]
    return fit, [flag for flag in fit.flags if not flag.startswith("not-identified")]


def _fitted(fit: LawFit | None, pairs: list[Pair]) -> tuple[list[CrossingEntry], PowerLaw | None, list[DataEfficiency]]:
    """Envelopes first, then equal epochs; the power law is of the first pair."""
    entries: list[CrossingEntry] = []
    efficiency: list[DataEfficiency] = []
    power = None
    for number, pair in enumerate(pairs if fit is not None else ()):
        assert fit is not None
        found = FittedPair(fit, pair)
        log_flops = []
        for unique in found.budgets:
            both, log_flops_B = found.crossings(unique)
            entries += both
            log_flops.append(log_flops_B)
            efficiency.append(found.data_efficiency(unique))
        if number == 0 and log_flops:
            power = found.power_law(np.array(log_flops))
    return _by_kind(entries), power, efficiency


def _by_kind(entries: list[CrossingEntry]) -> list[CrossingEntry]:
    """Envelopes before equal epochs, each in its order."""
    return sorted(entries, key=lambda entry: "envelope" not in entry.kind)


def _noise_of(fit: LawFit | None, pair: Pair) -> float:
    if fit is None:
        return _DEFAULT_NOISE
    errors = fit.residual_errors()
    return max(errors[pair.baseline], errors[pair.challenger])


def _common_unique(table: LossTable, pair: Pair) -> list[float]:
    ours = (set(table.unique[table.family == name].tolist()) for name in (pair.baseline, pair.challenger))
    return sorted(set.intersection(*ours))


def _refuse_no_overlap(table: LossTable, pair: Pair) -> None:
    """Families that were measured apart cross only where both are made up."""
    common = _common_unique(table, pair)
    if not common:
        spans = [
            f"{name} has U = {', '.join(f'{u:.4g}' for u in np.unique(table.unique[table.family == name]))}"
            for name in (pair.baseline, pair.challenger)
        ]
        raise LossTableError(
            f"{table.source}: {pair.baseline} and {pair.challenger} have no unique tokens U in common, so where they "
            f"cross is not identified: {'; '.join(spans)}. Give rows of both at the same U"
        )
    for name, values, shown in (("FLOPs", table.flops, "C = 6 N D"), ("sizes", table.params, "N")):
        spans = []
        for unique in common:
            rows = [values[(table.family == f) & (table.unique == unique)] for f in (pair.baseline, pair.challenger)]
            spans.append(max(v.min() for v in rows) <= min(v.max() for v in rows))
        if not any(spans):
            raise LossTableError(
                f"{table.source}: {pair.baseline} and {pair.challenger} have no {name} ({shown}) in common at any U, "
                "so where they cross is not identified: measure both over the same range"
            )


def _of_answer(tables: StudyTables, pair: PairAnswer) -> list[CrossingEntry]:
    """What the study's own comparison found, in FLOPs counted exactly."""
    trials = {row["trial_id"]: row for row in tables.trials.to_pylist()}
    ids = () if pair.challenger is None else pair.challenger.trial_ids
    if not ids:
        return []
    row: Mapping[str, Any] = trials[ids[0]]
    kinds: list[tuple[Kind, Crossing | None]] = [
        ("measured_envelope", pair.envelope),
        ("measured_equal_epochs", pair.equal_epochs),
    ]
    return [_of_crossing(kind, found, row, pair) for kind, found in kinds if found is not None]


def _of_crossing(kind: Kind, found: Crossing, row: Mapping[str, Any], pair: PairAnswer) -> CrossingEntry:
    unique, params = float(row["unique_tokens"]), float(row["num_params_active"])
    flops_per_epoch = 6 * params * unique
    size = [None if value is None else params for value in vars(found.epochs).values()]
    return CrossingEntry(
        unique_tokens=unique,
        kind=kind,
        baseline=BASELINE,
        challenger=CHALLENGER,
        setting=", ".join(f"{path}={value}" for path, value in pair.setting.items()),
        flops=found.flops,
        epochs=found.epochs,
        tokens=found.tokens,
        params=Quantiles(*size),
        probability_none=found.probability_none,
        range_flops=(flops_per_epoch * found.first_epoch, flops_per_epoch * found.last_epoch),
        extrapolated=False,
        ahead_from_start=found.epochs.estimate is not None and found.epochs.estimate <= found.first_epoch * (1 + 1e-9),
    )
