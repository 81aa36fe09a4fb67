from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_models import TINY, ExactPosterior, all_sequences, tiny_transformer, windows_of
from task_examples import bound_by_enumeration, nats_by_chain

from crossover.trainers import objectives
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.objectives import Objective
from crossover.trainers.objectives.autoregressive import Autoregressive
from crossover.trainers.objectives.masked_diffusion import MaskedDiffusion
from crossover.trainers.tasks.likelihood import Continuation, continuation_nats

AR = Autoregressive(begin=BYTES.begin, mask=BYTES.mask)
MDM = MaskedDiffusion(mask=BYTES.mask)
MIXED = [
    Continuation([5, 6, 7], [8, 9]),
    Continuation([], [1, 2, 3]),
    Continuation([4] * 20, [10]),
    Continuation([3], [200, 30, 40]),
]


@torch.no_grad()
def test_exact_likelihoods_are_those_of_the_chain_rule() -> None:
    model = tiny_transformer(vocabulary=BYTES)
    found = continuation_nats(model, AR, MIXED, BYTES, num_masks=7, seed=0)
    np.testing.assert_allclose(found.nats_O, [nats_by_chain(model, one) for one in MIXED], rtol=1e-4)
    assert not found.se_O.any()
    assert found.num_passes == len(MIXED)


@torch.no_grad()
def test_bounds_are_those_of_enumerated_masks_within_the_stated_errors() -> None:
    model = tiny_transformer(vocabulary=BYTES)
    found = continuation_nats(model, MDM, MIXED, BYTES, num_masks=400, seed=0)
    exact = np.array([bound_by_enumeration(model, one) for one in MIXED])
    several = np.array([len(one.tokens) > 1 for one in MIXED])
    z = (found.nats_O - exact)[several] / found.se_O[several]
    assert np.abs(z).max() < 4
    assert (found.se_O[several] > 0).all()
    assert (found.se_O[several] < 0.15 * exact[several]).all()
    np.testing.assert_allclose(found.nats_O[~several], exact[~several], rtol=1e-5)


def test_one_sample_answers_for_a_single_token() -> None:
    model = tiny_transformer(vocabulary=BYTES)
    singles = [Continuation([5, 6], [token]) for token in (1, 2, 3)]
    found = continuation_nats(model, MDM, singles, BYTES, num_masks=64, seed=0)
    assert found.num_passes == 3
    assert not found.se_O.any()


def test_stated_error_is_the_scatter_over_seeds() -> None:
    model, one = tiny_transformer(vocabulary=BYTES), Continuation([9, 8, 7], [1, 2, 3, 4, 5, 6])
    runs = [continuation_nats(model, MDM, [one], BYTES, num_masks=8, seed=1000 * seed) for seed in range(60)]
    scatter = np.std([run.nats_O[0] for run in runs], ddof=1)
    stated = np.sqrt(np.mean([run.se_O[0] ** 2 for run in runs]))
    assert scatter < 1.2 * stated  # stratified masks do better than independent ones
    assert scatter > 0.3 * stated


def test_order_of_what_is_scored_and_its_company_change_exact_likelihoods_by_rounding_alone() -> None:
    model = tiny_transformer(vocabulary=BYTES)
    found = continuation_nats(model, AR, MIXED, BYTES, num_masks=2, seed=0).nats_O
    backwards = continuation_nats(model, AR, MIXED[::-1], BYTES, num_masks=2, seed=0).nats_O
    np.testing.assert_allclose(found, backwards[::-1], rtol=1e-5)


@pytest.mark.parametrize("name", objectives.names())
def test_given_tokens_are_read_and_never_scored(name: str) -> None:
    """True conditionals make every objective's cost that of log p(all) - log p(given), whatever is drawn."""
    kinds: dict[str, Objective] = {
        "autoregressive": Autoregressive(begin=TINY.begin, mask=TINY.mask),
        "masked_diffusion": MaskedDiffusion(mask=TINY.mask),
    }
    if name not in kinds:
        pytest.skip(f"no tiny {name} to enumerate")
    model, sequences_SL = ExactPosterior(length=3), all_sequences(3)
    windows = windows_of(sequences_SL)
    given_S = np.ones(len(sequences_SL), dtype=np.int64)
    scored = kinds[name].window_nats(model, windows, num_masks=64, seed=0, given_W=given_S)
    first_S = torch.stack([model.joint_S[sequences_SL[:, 0] == row[0]].sum() for row in sequences_SL])
    exact_S = (first_S.log() - model.joint_S.log()).numpy()
    tolerance = 1e-5 if name == "autoregressive" else 4 * scored.nats_WM.std(axis=1, ddof=1) / 8 + 1e-5
    assert (np.abs(scored.nats_WM.mean(axis=1) - exact_S) < tolerance).all()
