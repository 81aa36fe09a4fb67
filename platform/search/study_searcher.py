"""The searcher of one stratum of a study."""

from __future__ import annotations

from collections.abc import Sequence

from crossover.platform.search.searchers import Known, Searcher, SearchRequest, searcher_of
from crossover.platform.study.model import Study
from crossover.search_spaces import Stratum

__all__ = ["study_searcher"]


def study_searcher(study: Study, stratum: Stratum, known: Sequence[Known] = ()) -> Searcher:
    """The searcher of one stratum.

    Args:
        study: The study.
        stratum: One of its strata; one whose axes are all grids is visited whole, whoever the sampler is.
        known: Trials of an earlier study.

    Raises:
        ConfigError: the sampler cannot handle the axes of this stratum.
    """
    request = SearchRequest(
        suggest=lambda source, number: study.space.suggest(stratum, source, number),
        seed_parts=(study.search.seed, stratum.label),
        num_trials=study.num_configurations(stratum),
        allowed=lambda settings: study.allows(stratum, settings),
        cost=lambda settings: study.cost(stratum, settings).train_flops,
        known=known,
        start=study.search.start,
        factor=study.search.factor,
    )
    return searcher_of(study.search.sampler if study.space.is_sampled(stratum) else "grid", request)
