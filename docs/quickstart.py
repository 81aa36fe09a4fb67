"""Writes what the quickstart study found into README.md and docs/findings.md, and its figures into docs/figures.

`make readme` after `make demo`. Every number comes from the study's record through the answer that the report shows;
what lies outside of the markers is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from crossover.platform.analysis import Answer, StudyTables, answer, load_study
from crossover.platform.analysis.answers import Best, PairAnswer
from crossover.platform.analysis.comparisons import Mean
from crossover.platform.analysis.crossings import Crossing
from crossover.platform.analysis.figures import Findings, write_figures
from crossover.platform.analysis.wording import SHORT, amount, epochs_interval, established, signed
from crossover.trainers.errors import CrossoverError

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- quickstart:begin -->", "<!-- quickstart:end -->"
MINUS = "\N{MINUS SIGN}"
TITLES = {"Same recipe for both": "same recipe for both", "Each tuned by itself": "each tuned by itself"}


def readme_block(tables: StudyTables, found: Answer) -> str:
    """Figure, seeds with their means, and where the curves cross."""
    trials = tables.trials
    parameters = max(trials["num_params_active"].to_pylist())
    seeds = max(len(pair.seeds) for pair in found.pairs)
    lines = [
        "![Validation bits per byte against epochs, AR and masked diffusion, same recipe and each tuned by itself]"
        "(docs/figures/quickstart.png)",
        "",
        f"What `make demo` finds on {max(trials['unique_tokens'].to_pylist()):,} tokens of Python source "
        f"({amount(parameters)} parameters, bits per byte on test text, {seeds} seeds of data and initialization; AR "
        "is exact, MDM an upper bound):",
        "",
        f"| | seed | AR | MDM | MDM {MINUS} AR (± paired error) |",
        "|---|---|---|---|---|",
        *(row for pair in found.pairs for row in _table_rows(pair)),
        "",
        *_stops(tables),
        *(f"{TITLES.get(pair.title, pair.title).capitalize()}: {_crossings(pair)}" for pair in found.pairs),
        "",
        "More: [docs/findings.md](docs/findings.md).",
    ]
    return "\n".join(lines)


def _table_rows(pair: PairAnswer) -> Iterator[str]:
    title = TITLES.get(pair.title, pair.title)
    for place, seed in enumerate(pair.seeds):
        values = " | ".join(_bits(value) for value in (seed.baseline_test, seed.challenger_test))
        paired = "" if seed.difference is None else f"{_signed(seed.difference)} ± {seed.difference_se:.3f}"
        yield f"| {'' if place else title} | {seed.repeat} | {values} | {paired} |"
    means = " | ".join(_bits(best.test.mean if best and best.test else None) for best in _bests(pair))
    yield f"| | **mean, 95 % interval** | {means} | **{_verdict(pair.test)}** |"


def _bests(pair: PairAnswer) -> tuple[Best | None, Best | None]:
    return pair.baseline, pair.challenger


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return signed(value).replace("-", MINUS)


def _interval(test: Mean) -> str:
    return f"{_signed(test.mean)} [{_signed(test.low)}, {_signed(test.high)}]"


def _verdict(test: Mean | None) -> str:
    if test is None:
        return "not scored"
    ahead = "AR" if test.mean > 0 else "MDM"
    return f"{_interval(test)}: {f'{ahead} ahead' if test.decided else 'no difference shown'}"


def _stops(tables: StudyTables) -> Iterator[str]:
    """After how many epochs the detector stopped either objective."""
    for objective, short in SHORT.items():
        rows = [row for row in tables.trials.to_pylist() if row["objective"] == objective]
        stopped = [row["tokens_seen"] / row["unique_tokens"] for row in rows if row["stop_reason"] == "overfit"]
        if stopped:
            low, high = min(stopped), max(stopped)
            after = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
            verb = "was" if len(stopped) == 1 else "were"
            yield f"{len(stopped)} of {len(rows)} {short} trials overfitted and {verb} stopped, after {after} epochs."


def _crossings(pair: PairAnswer) -> str:
    found = (("at equal epochs", pair.equal_epochs), ("against AR's best so far", pair.envelope))
    return "MDM crosses AR " + ", and ".join(_crossing(where, crossing) for where, crossing in found if crossing) + "."


def _crossing(where: str, crossing: Crossing) -> str:
    share = f"{1 - crossing.probability_none:.0%} of the resamples cross"
    if not established(crossing):
        return f"{where} nowhere that is established up to epoch {crossing.last_epoch:.3g} ({share})"
    latest = ", at the latest," if crossing.carried_forward else ""
    return f"{where} after {epochs_interval(crossing)} epochs{latest} ({share})"


def findings_block(tables: StudyTables, found: Answer) -> str:
    """One paragraph a question, and what was chosen."""
    trials = tables.trials.to_pylist()
    trained, evaluated = (sum(row[name] or 0 for row in trials) for name in ("train_flops", "eval_flops"))
    share = evaluated / (trained + evaluated)
    lines = [
        f"`make demo` ({len(trials)} trials, {trained + evaluated:.1e} FLOPs, {share:.0%} of them "
        "evaluation). Table seed by seed and figure are in the [README](../README.md).",
        "",
    ]
    for pair in found.pairs:
        test = "not scored on test" if pair.test is None else _verdict(pair.test)
        lines.append(f"- **{pair.title}**: {test} (bits per byte on test). {_crossings(pair)}")
        if not pair.same_recipe:
            lines += [f"  - {_chosen(best, pair)}" for best in _bests(pair) if best]
    return "\n".join(lines)


def _chosen(best: Best, pair: PairAnswer) -> str:
    """What the search chose; what the question sets is in the title."""
    asked = {"objective.name", *pair.setting}
    values = ", ".join(f"{path} {_setting(value)}" for path, value in best.settings.items() if path not in asked)
    return f"{SHORT[best.objective]}, the best of {best.num_configurations} configurations: {values}"


def _setting(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def replaced(text: str, block: str, name: str) -> str:
    """The text with what is between the markers replaced.

    Raises:
        CrossoverError: the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise CrossoverError(f"{name} must hold {BEGIN} and, after it, {END}, once each")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def refresh(study: Path, root: Path) -> list[Path]:
    """Writes the blocks and the figures below `root`; nothing if the study is not finished.

    Raises:
        CrossoverError: no study there, it is not finished, or a marker is missing.
    """
    tables = load_study(study)
    found = answer(tables)
    if not found.finished or found.notes or not found.usable:
        why = " ".join(found.notes) or "it compares nothing"
        raise CrossoverError(f"{study} is no finished study whose answer can be shown: {why}")
    blocks = {root / "README.md": readme_block, root / "docs/findings.md": findings_block}
    texts = {
        path: replaced(path.read_text(encoding="utf-8"), write(tables, found), path.name)
        for path, write in blocks.items()
    }
    figures = write_figures(Findings(tables, found))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    targets = [root / "docs/figures" / f"quickstart{figure.suffix}" for figure in figures]
    for figure, target in zip(figures, targets, strict=True):
        shutil.copyfile(figure, target)
    return [*texts, *targets]


def main() -> None:
    """Refreshes what the documents say of the quickstart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "runs/quickstart", help="the study's folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout whose documents are written")
    options = parser.parse_args()
    try:
        for path in refresh(options.study, options.root):
            print(path)
    except CrossoverError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
