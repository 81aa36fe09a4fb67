from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from exact_models import TINY, all_sequences, tiny_transformer, windows_of

from crossover.trainers import objectives
from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.errors import ConfigError
from crossover.trainers.flops import evaluation_flops
from crossover.trainers.generation import GenerationSettings, generator_of
from crossover.trainers.generation.base import GenerationError, choose, until_separator
from crossover.trainers.generation.cache import CachedDecoder
from crossover.trainers.generation.masked_diffusion import MaskedDiffusionGenerator
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives.autoregressive import Autoregressive
from crossover.trainers.objectives.masked_diffusion import MaskedDiffusion
from crossover.trainers.tasks.likelihood import Continuation

GREEDY = GenerationSettings(num_tokens=5, temperature=0.0)
KINDS = ["autoregressive", "masked_diffusion"]


def model() -> Transformer:
    return tiny_transformer(vocabulary=BYTES).eval()


@torch.no_grad()
@pytest.mark.parametrize("num_experts", [None, 4])
def test_a_cache_gives_the_states_of_one_pass_over_all(num_experts: int | None) -> None:
    torch.manual_seed(0)
    config = ModelConfig(num_layers=2, width=32, num_heads=4, num_kv_heads=2, init_std=0.4, num_experts=num_experts)
    grouped = Transformer(shape_of(config, 259, 257), RegularizationConfig()).eval()
    tokens_BL = torch.randint(0, 257, (3, 12))
    decoder = CachedDecoder(grouped)
    pieces = [decoder.read(tokens_BL[:, places]) for places in (slice(0, 5), slice(5, 6), slice(6, 9), slice(9, 12))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), grouped.hidden(tokens_BL, causal=True), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_greedy_autoregression_takes_the_likeliest_token_of_each_pass() -> None:
    asked, read = model(), [1, 2, 3]
    found = generator_of("autoregressive", asked, BYTES).generate(read, 2, GREEDY)
    expected = []
    for _ in range(5):
        inputs = torch.tensor([[BYTES.begin, *read, *expected]])
        expected.append(int(asked(inputs, causal=True)[0, -1].argmax()))
    assert found.tokens_BN.tolist() == [expected, expected]


@torch.no_grad()
def test_the_surest_mask_is_uncovered_first() -> None:
    asked, tokens = model(), torch.tensor([[1, 2, *[BYTES.mask] * 5]])
    found = generator_of("masked_diffusion", asked, BYTES).generate([1, 2], 1, GREEDY)
    for _ in range(5):
        p_LV = asked(tokens, causal=False)[0].softmax(-1)
        best = max((place for place in range(7) if tokens[0, place] == BYTES.mask), key=lambda i: float(p_LV[i].max()))
        tokens[0, best] = p_LV[best].argmax()
    assert found.tokens_BN.tolist() == tokens[:, 2:].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_repeats_and_another_does_not(kind: str) -> None:
    generator = generator_of(kind, model(), BYTES)
    a, b, c = (generator.generate([5], 3, GenerationSettings(num_tokens=8, seed=seed)).tokens_BN for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (3, 8)
    assert int(a.max()) < BYTES.num_output_tokens


@torch.no_grad()
def test_autoregressive_samples_have_the_distribution_of_the_likelihood() -> None:
    asked = tiny_transformer().eval()
    objective = Autoregressive(begin=TINY.begin, mask=TINY.mask)
    nats = objective.window_nats(asked, windows_of(all_sequences(2)), num_masks=1, seed=0).nats_WM[:, 0]
    _assert_distributed(generator_of("autoregressive", asked, TINY).generate([], 4000, _two()).tokens_BN, np.exp(-nats))


@torch.no_grad()
def test_random_order_samples_have_the_any_order_distribution() -> None:
    """Of two masks either is uncovered first, the other then given it."""
    asked = tiny_transformer().eval()
    both = asked(torch.tensor([[TINY.mask, TINY.mask]]), causal=False)[0].softmax(-1)
    expected = []
    for x, y in all_sequences(2).tolist():
        after_x = asked(torch.tensor([[x, TINY.mask]]), causal=False)[0, 1].softmax(-1)
        after_y = asked(torch.tensor([[TINY.mask, y]]), causal=False)[0, 0].softmax(-1)
        expected.append(float(both[0, x] * after_x[y] + both[1, y] * after_y[x]) / 2)
    generator = generator_of("masked_diffusion", asked, TINY)
    _assert_distributed(generator.generate([], 4000, _two(order="random")).tokens_BN, np.array(expected))


def _two(**settings: object) -> GenerationSettings:
    return GenerationSettings(num_tokens=2, **settings)  # type: ignore[arg-type]


def _assert_distributed(tokens_BN: torch.Tensor, expected: np.ndarray) -> None:
    counts = Counter(map(tuple, tokens_BN.tolist()))
    found = np.array([counts[tuple(row)] for row in all_sequences(2).tolist()])
    num = found.sum()
    z = (found - num * expected) / np.sqrt(num * expected * (1 - expected) + 1e-9)
    assert np.abs(z).max() < 4


def test_top_k_and_top_p_leave_only_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(500, 4)
    random = torch.Generator().manual_seed(0)

    def seen(**settings: object) -> set[int]:
        return set(choose(logits, GenerationSettings(**settings), random)[0].tolist())  # type: ignore[arg-type]

    assert seen() == {0, 1, 2, 3}
    assert seen(top_k=2) == {0, 1}
    assert seen(top_p=0.5) == {0}
    assert seen(top_p=0.81) == {0, 1, 2}
    assert seen(top_k=3, top_p=0.7) == {0, 1}
    assert seen(temperature=0.0) == {0}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_output_is_reproduced_and_nothing_else(kind: str) -> None:
    generator = generator_of(kind, model(), BYTES)
    contexts = [[1, 2, 3], [9, 8, 7, 6], [4], [1, 1, 1]]
    made = [generator.generate(context, 1, GREEDY).tokens_BN[0].tolist() for context in contexts]
    right = [Continuation(context, tokens) for context, tokens in zip(contexts, made, strict=True)]
    wrong = [Continuation(one.context, [*one.tokens[:-1], (one.tokens[-1] + 1) % 256]) for one in right]
    assert generator.reproduces([*right, *wrong]) == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("steps", "block", "passes"), [(None, None, 12), (4, None, 4), (6, 4, 6), (None, 5, 12), (1, None, 1)]
)
def test_steps_and_blocks_decide_the_passes(steps: int | None, block: int | None, passes: int) -> None:
    settings = GenerationSettings(num_tokens=12, steps=steps, block_tokens=block)
    found = generator_of("masked_diffusion", model(), BYTES).generate([3], 2, settings)
    assert found.num_passes == 2 * passes
    assert int(found.tokens_BN.max()) < BYTES.num_output_tokens  # no mask is left


def test_a_block_is_finished_before_the_next() -> None:
    states: list[torch.Tensor] = []

    class Watched(MaskedDiffusionGenerator):
        def _uncover(self, tokens_BL: torch.Tensor, *args: object) -> None:  # type: ignore[override]
            super()._uncover(tokens_BL, *args)  # type: ignore[arg-type]
            states.append(tokens_BL[0] == BYTES.mask)

    Watched(model(), BYTES).generate([], 1, GenerationSettings(num_tokens=8, block_tokens=4))
    assert [state[:4].any().item() for state in states] == [True] * 3 + [False] * 5
    assert all(state[4:].all() for state in states[:4])


@torch.no_grad()
def test_flops_are_those_of_the_passes_that_scoring_counts() -> None:
    """Uncovering all of n tokens at once is one pass with n logits; a cached prefix is read once."""
    asked = model()
    n = 6
    once = generator_of("masked_diffusion", asked, BYTES).generate([], 1, GenerationSettings(num_tokens=n, steps=1))
    mdm = MaskedDiffusion(mask=BYTES.mask)
    head = 2 * asked.shape.num_params_head * n
    scored = evaluation_flops(asked.shape, mdm, np.array([n]), 1) - head * mdm.evaluation_head_fraction(n)
    assert once.flops == pytest.approx(scored + head)
    chain = generator_of("autoregressive", asked, BYTES).generate([], 1, GenerationSettings(num_tokens=n))
    ar = Autoregressive(begin=BYTES.begin, mask=BYTES.mask)
    assert chain.flops == pytest.approx(evaluation_flops(asked.shape, ar, np.array([n]), 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_tokens": 0}, "--tokens is 0"),
        ({"temperature": -1.0}, "--temperature is -1.0"),
        ({"top_k": 0}, "--top-k is 0"),
        ({"top_p": 0.0}, "--top-p is 0.0"),
        ({"top_p": 1.5}, "--top-p is 1.5"),
        ({"steps": 65}, "--steps is 65, and must be 1 to the number of tokens"),
        ({"block_tokens": 0}, "--block is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        GenerationSettings(**settings).check()  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_every_objective_generates_or_says_that_it_cannot() -> None:
    for name in objectives.names():
        if name not in KINDS:
            with pytest.raises(ConfigError, match="cannot generate"):
                generator_of(name, model(), BYTES)
    with pytest.raises(ConfigError, match="objective none cannot generate"):
        generator_of("none", model(), BYTES)


def test_text_ends_where_its_document_does() -> None:
    assert until_separator([1, 2, 256, 3], 256) == [1, 2]
    assert until_separator([1, 2], 256) == [1, 2]
