"""Crossings in the terminal."""

from __future__ import annotations

from rich.console import Console

from crossover.platform.analysis.crossing.results import CrossingEntry, CrossingReport
from crossover.platform.analysis.crossings import Quantiles

__all__ = ["print_crossings"]

_KINDS = {
    "fitted_envelope": "fitted law, against the best for as many FLOPs",
    "fitted_equal_epochs": "fitted law, at equal epochs and size",
    "measured_envelope": "measured, against the best so far",
    "measured_equal_epochs": "measured, at equal epochs",
}


def print_crossings(report: CrossingReport, console: Console | None = None) -> None:
    """Print every crossing, C_crit(U), data efficiency and notes."""
    out = console or Console(highlight=False, soft_wrap=True)
    for line in _lines(report):
        out.print(line, markup=False)


def _lines(report: CrossingReport) -> list[str]:
    law = "" if report.law is None else f"; {report.law} law"
    lines = [f"crossings in {report.source}{law}"]
    previous = ""
    for entry in report.crossings:
        title = f"{entry.challenger} below {entry.baseline}, {_KINDS[entry.kind]}"
        if title != previous:
            lines += ["", title]
        previous = title
        lines.append(f"  {_entry(entry)}")
    if report.power_law is not None:
        power = report.power_law
        lines += [
            "",
            f"C_crit(U) = c U^p with p = {_shown(power.p)}, c = {_shown(power.c)} FLOPs, "
            f"over {len(power.budgets)} budgets",
        ]
    if report.data_efficiency:
        lines += ["", "unique tokens that the baseline needs for the challenger's loss, with as many FLOPs:"]
        for found in report.data_efficiency:
            needed = "no number is enough" if found.needed.estimate is None else f"{_shown(found.ratio)} times as many"
            lines.append(f"  U {found.unique_tokens:.4g}, C {found.flops:.3g}: loss {found.loss:.4f}: {needed}")
    return lines + (["", *(f"! {note}" for note in report.notes)] if report.notes else [])


def _entry(entry: CrossingEntry) -> str:
    setting = f" ({entry.setting})" if entry.setting else ""
    none = f"; none in the range in {100 * entry.probability_none:.0f} % of the draws" if entry.probability_none else ""
    if entry.flops.estimate is None:
        low, high = entry.range_flops
        return f"U {entry.unique_tokens:.4g}{setting}: none between C = {low:.3g} and {high:.3g}{none}"
    words = " EXTRAPOLATED" if entry.extrapolated else ""
    words += " (ahead from the start of the range)" if entry.ahead_from_start else ""
    return (
        f"U {entry.unique_tokens:.4g}{setting}: C = {_shown(entry.flops)} FLOPs, {_shown(entry.epochs)} epochs, "
        f"N {_number(entry.params.estimate)}{words}{none}"
    )


def _shown(value: Quantiles) -> str:
    return f"{_number(value.estimate)} [{_number(value.low)}, {_number(value.high)}]"


def _number(value: float | None) -> str:
    return "beyond" if value is None else f"{value:.4g}"
