"""`search.warm_start`: what an earlier study found, told to the samplers of this one.

Values of two studies can stand beside each other only where the same thing was measured: so the corpus, what is fixed
and the nuisance axes must be the same, and strata are matched by their settings. How the earlier study searched, its
seeds, and strata that only one of them has do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import TypeAdapter

from crossover.platform.execution.decisions import Suggested, read_decisions
from crossover.platform.search.searchers import Known
from crossover.platform.storage.views import StudyPlace
from crossover.platform.study import FrozenStudy, Study, StudyError, read_frozen
from crossover.search_spaces import Stratum, same
from crossover.trainers.durable import durable_file, writing
from crossover.trainers.record import TrialRecord

__all__ = ["WarmStart", "warm_start_of"]

_MAY_DIFFER = ("name", "search.")
_FILE = "warm_start.json"


@dataclass(frozen=True)
class WarmStart:
    """What an earlier study knows.

    Attributes:
        folder: Of the earlier study.
        known: Configurations with a value, by label of this study's strata.
    """

    folder: str
    known: Mapping[str, Sequence[Known]]

    def __str__(self) -> str:
        counts = ", ".join(f"{len(known)} in {label}" for label, known in self.known.items())
        total = sum(len(known) for known in self.known.values())
        return f"warm start: {total} configurations of {self.folder} are told to the sampler ({counts})"


_ADAPTER = TypeAdapter(WarmStart)


def warm_start_of(study: Study, data_hash: str, study_dir: Path | None = None) -> WarmStart | None:
    """What the study that `search.warm_start` names knows; None: none is named.

    It is read once: a study that goes on is told the same, though the earlier one may have grown or be gone.

    Args:
        study: The study that starts.
        data_hash: Hash of its corpus.
        study_dir: Folder of the study, which keeps what was read; None: nothing is kept.

    Raises:
        StudyError: the earlier study cannot be read, measured something else, or has nothing to tell; the message
            names what differs.
    """
    if study.search.warm_start is None:
        return None
    kept = None if study_dir is None else study_dir / _FILE
    if kept is not None and kept.exists():
        return _ADAPTER.validate_json(kept.read_bytes())
    warm_start = _read(study, data_hash, study.search.warm_start)
    if kept is not None:
        with writing(kept):
            durable_file(kept, _ADAPTER.dump_json(warm_start, indent=2))
    return warm_start


def _read(study: Study, data_hash: str, source: str) -> WarmStart:
    folder = StudyPlace.of(source).path
    earlier = read_frozen(folder)
    what = f"search.warm_start = {source}"
    if different := list(_differences(study, data_hash, earlier)):
        raise StudyError(what, [f"{item}: trials of the two cannot be compared" for item in different])
    labels = _matching(study, earlier.study)
    values = _values(folder, earlier.study)
    known = {ours: values[theirs] for ours, theirs in labels.items() if values.get(theirs)}
    if not known:
        raise StudyError(
            what,
            f"it has no finished trial in a stratum of this study ({', '.join(s.label for s in study.strata()[:4])}): "
            "name another study, or remove it",
        )
    return WarmStart(source, known)


def _differences(study: Study, data_hash: str, earlier: FrozenStudy) -> Iterator[str]:
    """`path: there -> here` for what must be the same."""
    if earlier.data_hash != data_hash:
        yield f"corpus: {earlier.data_hash[:12]} -> {data_hash[:12]}"
    scientific = {path for s in (study, earlier.study) for path, axis in s.axes.items() if axis.role == "scientific"}
    free = {f"axes.{path}" for path in scientific} | {f"fixed.{path}" for path in scientific} | scientific
    for item in earlier.differences(study):
        path = item.partition(":")[0]
        if not path.startswith(_MAY_DIFFER) and path not in free and path != "order of axes":
            yield item


def _matching(study: Study, earlier: Study) -> dict[str, str]:
    """Label here -> label there, of strata in which the same settings hold."""
    theirs = [(stratum.label, _everything(earlier, stratum)) for stratum in earlier.strata()]
    found = {}
    for stratum in study.strata():
        here = _everything(study, stratum)
        match = next((label for label, there in theirs if _equal(here, there)), None)
        if match is not None and study.space.is_sampled(stratum):
            found[stratum.label] = match
    return found


def _everything(study: Study, stratum: Stratum) -> dict[str, object]:
    """What holds in a stratum before anything is drawn, labels aside: another study may fix what is an axis here."""
    labels = study.labels
    settings = {**study.base, **stratum.settings}
    return {path: value for path, value in settings.items() if path not in labels} | {
        "nuisance axes": study.space.nuisance(stratum)
    }


def _equal(here: Mapping[str, object], there: Mapping[str, object]) -> bool:
    return here.keys() == there.keys() and all(same(here[path], there[path]) for path in here)


def _values(folder: Path, study: Study) -> dict[str, list[Known]]:
    """Configurations of each stratum whose searched repeats have all ended, with their mean best value."""
    trials: dict[tuple[str, int], dict[int, Suggested]] = {}
    for line in read_decisions(folder):
        if isinstance(line, Suggested) and line.purpose == "search":
            trials.setdefault((line.stratum_label, line.number), {})[line.repeat] = line
    known: dict[str, list[Known]] = {}
    for (label, _), repeats in trials.items():
        values = [_best(folder, line.trial_id) for line in repeats.values()]
        finite = [value for value in values if value is not None]
        if len(values) >= study.search.repeats and len(finite) == len(values):
            known.setdefault(label, []).append(Known(repeats[0].settings, fmean(finite)))
    return known


def _best(folder: Path, trial_id: str) -> float | None:
    """Best validation bits per byte of a trial that has ended; None where it has none."""
    end = TrialRecord(folder / "trials" / trial_id).end()
    value = None if end is None else end.best_bits_per_byte
    return value if value is not None and math.isfinite(value) else None
