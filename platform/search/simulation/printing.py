"""`crossover simulate`: seeds one after another, then one table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from crossover.platform.search.schedulers import scheduler_names
from crossover.platform.search.simulation.compare import Comparison
from crossover.platform.search.simulation.summary import Summary, curves_named, simulate_seeds, summarize
from crossover.platform.study import Study, StudyError

__all__ = ["print_simulation"]

_FILE_WIDTH = 140


def print_simulation(
    study: Study,
    curves: str,
    seeds: int,
    against: Sequence[str] = (),
    slots: int = 8,
    flops_per_second: float = 1e14,
    as_json: bool = False,
) -> None:
    """Simulates a study and prints what it cost and lost.

    Args:
        study: what to run.
        curves: a law, a file of recorded curves, or a study's folder.
        seeds: how many, from the study's own on.
        against: other schedulers to put beside its own.
        slots: trials at once.
        flops_per_second: of each slot.
        as_json: print every seed and the summaries as JSON.

    Raises:
        CrossoverError: no such law or scheduler, a file without the columns, a study with axes that mean nothing there.
    """
    _check(study, against)
    source = curves_named(curves)
    source.check(study)
    names = list(dict.fromkeys((study.search.scheduler, *against)))
    numbers = range(study.search.seed, study.search.seed + seeds)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"simulating {study.name}", total=seeds)
        found = list(
            simulate_seeds(
                study, source, numbers, names, slots, flops_per_second, lambda n: progress.update(task, completed=n)
            )
        )
    if as_json:
        print(_json(study, curves, found))
        return
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(_table(study.name, curves, summarize(found)))
    for line in _remarks(seeds):
        console.print(line, markup=False, highlight=False)


def _check(study: Study, against: Sequence[str]) -> None:
    unknown = [name for name in against if name not in scheduler_names()]
    if unknown:
        raise StudyError(f"--against {unknown[0]}", f"no such scheduler: give one of {', '.join(scheduler_names())}")


def _json(study: Study, curves: str, found: Sequence[Comparison]) -> str:
    summaries = [summary.row() for summary in summarize(found)]
    rows = [vars(comparison) for comparison in found]
    return json.dumps({"study": study.name, "curves": curves, "summaries": summaries, "seeds": rows}, indent=2)


def _table(name: str, curves: str, summaries: Sequence[Summary]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{name}, {curves}", overflow="fold")
    headings = ("trials", "FLOPs", "to 0.5 %", "of 9 in 10", "came there", "winner stopped", "lost", "regret", "worst")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        table.add_row(
            summary.scheduler,
            f"{summary.trials:g}",
            f"{summary.flops:.3f}",
            _share(summary.flops_within),
            _share(summary.flops_within_p90),
            f"{summary.reached} of {summary.seeds}",
            f"{summary.winners_stopped} (<= {summary.stopped_at_most:.1%})",
            str(summary.lost),
            f"{summary.regret:.2%}",
            f"{summary.worst_regret:.2%}",
        )
    return table


def _share(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def _remarks(seeds: int) -> list[str]:
    return [
        f"Medians over {seeds} seed{'s' * (seeds != 1)}. FLOPs: of the whole study, and until the best so far came "
        "within 0.5 % of the reference,",
        "as shares of the reference: the same configurations, every one trained to its own end.",
        "winner stopped: the reference's best was stopped before its best value (95 % bound); lost: and nothing within "
        "0.5 % was found.",
    ]
