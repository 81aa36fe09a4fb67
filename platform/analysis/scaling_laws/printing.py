"""A fitted law in the terminal."""

from __future__ import annotations

from rich.console import Console

from crossover.platform.analysis.scaling_laws.results import HeldOut, LawFit, ParameterFit, Prediction

__all__ = ["print_fit"]


def print_fit(fit: LawFit, console: Console | None = None) -> None:
    """Print what a fit found: the law, its parameters, what was compared, flags, predictions."""
    out = console or Console(highlight=False, soft_wrap=True)
    for line in _lines(fit):
        out.print(line, markup=False)


def _lines(fit: LawFit) -> list[str]:
    families = "" if len(fit.families) == 1 else f"; families {', '.join(fit.families)}, {_shared(fit)}"
    runs = "" if fit.num_runs == fit.num_rows else f" of {fit.num_runs} runs"
    lines = [
        f"{fit.law} law of {fit.num_rows} rows{runs} of {fit.source}{families}",
        f"  L = {fit.formula}",
        f"  sum of {_OBJECTIVES.get(fit.objective_name, fit.objective_name)}: {fit.objective:.10g}; "
        f"{fit.num_agree} of {fit.num_starts} starts agree, gradient {fit.gradient_norm:.1g}",
        "",
        f"  {'parameter':<22} {'value':>12}   {100 * fit.level:.3g} % interval",
        *(_parameter(parameter) for parameter in fit.parameters),
    ]
    if fit.candidates:
        lines += ["", "  compared by cross-validation (objective of rows not seen; the simplest within one error):"]
        for c in fit.candidates:
            shared = f", shared {', '.join(c.shared)}" if c.shared else ""
            se = f" ± {c.score_se:.2g} over the best" if c.score_se else ""
            lines.append(f"    {c.law}{shared}: {c.num_parameters} parameters, {c.score:.5g}{se}")
    if fit.predictions:
        lines += ["", "  predictions:", *(f"    {_prediction(p)}" for p in fit.predictions)]
    if fit.held_out is not None:
        lines += ["", f"  {_held_out(fit.held_out)}"]
    if fit.flags:
        lines += ["", *(f"  ! {flag}" for flag in fit.flags)]
    return lines


_OBJECTIVES = {
    "huber": "Huber (delta 1e-3) of ln loss",
    "lad": "absolute deviations of ln loss",
    "squared": "squares of ln loss",
    "asymmetric": "asymmetric Huber (delta 1e-3) of ln loss",
}


def _shared(fit: LawFit) -> str:
    return f"{', '.join(fit.shared)} in common" if fit.shared else "nothing in common"


def _parameter(found: ParameterFit) -> str:
    if found.method == "given":
        words = "given"
    else:
        low = "no lower end" if found.low is None else f"{found.low:.5g}"
        high = "no upper end" if found.high is None else f"{found.high:.5g}"
        words = f"[{low}, {high}]{' profile' if found.method == 'profile' else ''}"
        words += "" if found.identified else "  NOT IDENTIFIED"
    return f"  {found.name:<22} {found.value:>12.6g}   {words}"


def _prediction(found: Prediction) -> str:
    measured = "" if found.measured is None else f", measured {found.measured:.4f}"
    beyond = f", {found.extrapolation:.3g} times the largest measured" if found.extrapolation > 1.001 else ""
    return (
        f"{found.family}: N {found.N:.4g}, D {found.D:.4g}, U {found.U:.4g}: {found.loss:.4f} "
        f"[{found.low:.4f}, {found.high:.4f}] ({100 * found.level:.3g} %){measured}{beyond}"
    )


def _held_out(found: HeldOut) -> str:
    level = 100 * found.predictions[0].level
    return (
        f"the {len(found.predictions)} largest runs, predicted from the other {found.num_fitted} rows: "
        f"{100 * found.share_inside:.0f} % inside their {level:.3g} % interval, median error "
        f"{100 * found.median_error:.2g} %"
    )
