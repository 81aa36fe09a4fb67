"""The backbone against an implementation of loops written from the papers, and what it must not depend on."""

import math
import warnings

import pytest
import torch
from model_examples import LENGTH, VOCABULARY, make_model, some_tokens
from torch import Tensor
from torch._dynamo.utils import counters

from crossover.trainers.config import ModelConfig, RegularizationConfig
from crossover.trainers.device import _missing_for_compilation
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-6).sqrt() * weight


def rotated(x: Tensor, position: int, base: float) -> Tensor:
    y = x.clone()
    for pair in range(len(x) // 2):
        angle = position * base ** (-2 * pair / len(x))
        a, b = x[2 * pair], x[2 * pair + 1]
        y[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
        y[2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return y


def reference_logits(model: Transformer, tokens: Tensor, causal: bool) -> Tensor:
    """Float64, one sequence, one position and one head at a time."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    shape = model.shape
    group = shape.num_heads // shape.num_kv_heads
    x = [w["embedding.weight"][token] for token in tokens]
    for i in range(shape.num_layers):
        at = f"blocks.{i}."
        q, k, v = [], [], []
        for position, vector in enumerate(x):
            h = rms(vector, w[at + "attention_norm.weight"])
            heads = (w[at + f"attention.{name}.weight"] @ h for name in ("query", "key", "value"))
            queries, keys, values = (part.split(shape.head_width) for part in heads)
            q.append(
                [rotated(rms(t, w[at + "attention.query_norm.weight"]), position, shape.rope_base) for t in queries]
            )
            k.append([rotated(rms(t, w[at + "attention.key_norm.weight"]), position, shape.rope_base) for t in keys])
            v.append(values)
        for position in range(len(x)):
            seen = range(position + 1) if causal else range(len(x))
            outs = []
            for head in range(shape.num_heads):
                scores = torch.stack([q[position][head] @ k[j][head // group] for j in seen]) / shape.head_width**0.5
                outs.append(sum(p * v[j][head // group] for p, j in zip(scores.softmax(0), seen, strict=True)))
            x[position] = x[position] + w[at + "attention.out.weight"] @ torch.cat(outs)
        for position, vector in enumerate(x):
            h = rms(vector, w[at + "mlp_norm.weight"])
            gate, up = w[at + "mlp.gate.weight"] @ h, w[at + "mlp.up.weight"] @ h
            x[position] = vector + w[at + "mlp.out.weight"] @ (gate * torch.sigmoid(gate) * up)
    head = w["embedding.weight"][: shape.num_output_tokens] if shape.tie_embeddings else w["head.weight"]
    return torch.stack([head @ rms(vector, w["norm.weight"]) for vector in x])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "config",
    [{}, {"num_kv_heads": 2}, {"tie_embeddings": True}, {"num_kv_heads": 1, "rope_base": 50.0, "mlp_width": 24}],
)
def test_logits_are_those_of_the_reference(config: dict[str, object], causal: bool) -> None:
    model, tokens = make_model(**config), some_tokens(2)
    logits = model(tokens, causal=causal)
    for row in range(2):
        expected = reference_logits(model, tokens[row], causal)
        torch.testing.assert_close(logits[row].double(), expected, rtol=1e-4, atol=1e-4)


def test_causal_states_do_not_see_what_follows() -> None:
    model, tokens = make_model(), some_tokens(1)
    before = model(tokens, causal=True)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        differs = (model(changed, causal=True) - before).abs().amax(-1)[0] > 1e-5
        assert not differs[:position].any()
        assert differs[position:].all()


def test_bidirectional_states_see_everything() -> None:
    model, tokens = make_model(), some_tokens(1)
    before = model(tokens, causal=False)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        assert ((model(changed, causal=False) - before).abs().amax(-1) > 1e-5).all()


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal: bool) -> None:
    model, tokens = make_model(), some_tokens(2)
    valid = torch.arange(LENGTH) < torch.tensor([[5], [LENGTH]])
    for filling in (0, 7):
        padded = model(tokens.masked_fill(~valid, filling), causal=causal, valid_BL=valid)
        torch.testing.assert_close(padded[:1, :5], model(tokens[:1, :5], causal=causal), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(padded[1:], model(tokens[1:], causal=causal), rtol=1e-5, atol=1e-5)


def test_unmasked_padding_would_be_seen() -> None:
    model, tokens = make_model(), some_tokens(1)
    assert (model(tokens, causal=False)[:, :5] - model(tokens[:, :5], causal=False)).abs().max() > 1e-3


def test_grouped_queries_equal_repeated_keys_and_values() -> None:
    grouped, full = make_model(num_kv_heads=2), make_model(seed=1)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if name.endswith(("key.weight", "value.weight")):
            weights[name] = weight.unflatten(0, (2, -1)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(weights)
    tokens = some_tokens()
    torch.testing.assert_close(grouped(tokens, causal=True), full(tokens, causal=True))
    torch.testing.assert_close(grouped(tokens, causal=False), full(tokens, causal=False))


def test_tied_head_is_the_input_table_without_begin_and_mask() -> None:
    model = make_model(tie_embeddings=True)
    assert "head.weight" not in dict(model.named_parameters())
    h = model.hidden(some_tokens(), causal=True)
    torch.testing.assert_close(model.logits(h), h @ model.embedding.weight[:VOCABULARY].T)
    model(some_tokens(), causal=True).sum().backward()
    assert model.embedding.weight.grad is not None
    assert (model.embedding.weight.grad[:VOCABULARY] != 0).any(1).all()
    assert (model.embedding.weight.grad[VOCABULARY:] == 0).all()


def test_order_matters_but_only_relatively() -> None:
    model = make_model(num_layers=1)
    tokens = torch.tensor([[3, 4, 5, 3, 4, 5]])
    states = model.hidden(tokens, causal=False)
    assert (states[0, 0] - states[0, 3]).abs().max() > 1e-3
    valid = torch.tensor([[True, True, True, False, False, False]])
    shifted = torch.tensor([[False, False, False, True, True, True]])
    early = model.hidden(tokens, causal=False, valid_BL=valid)[0, :3]
    late = model.hidden(tokens, causal=False, valid_BL=shifted)[0, 3:]
    torch.testing.assert_close(early, late, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "mlp_dropout", "embedding_dropout"])
def test_each_dropout_acts_in_training_only(name: str) -> None:
    plain, tokens = make_model(), some_tokens()
    model = make_model(regularization=RegularizationConfig.model_validate({name: 0.5}))
    assert torch.equal(model(tokens, causal=True), plain(tokens, causal=True))
    model.train()
    torch.manual_seed(0)
    first, second = model(tokens, causal=True), model(tokens, causal=True)
    torch.manual_seed(0)
    assert torch.equal(first, model(tokens, causal=True))
    assert not torch.allclose(first, second)


def test_dropout_keeps_the_mean_of_the_embedded_input() -> None:
    model = make_model(regularization=RegularizationConfig(embedding_dropout=0.25)).train()
    torch.manual_seed(0)
    kept = torch.nn.functional.dropout(model.embedding(some_tokens(400)), model.embedding_dropout, model.training)
    assert kept.mean().item() == pytest.approx(model.embedding(some_tokens(400)).mean().item(), abs=5e-3)
    assert (kept == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_initial_weights_repeat_by_seed_and_have_the_asked_spread() -> None:
    settings = ModelConfig(num_layers=8, width=128)
    shape = shape_of(settings, 259, 257)
    models = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        models.append(dict(Transformer(shape, RegularizationConfig()).named_parameters()))
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["head.weight"], models[2]["head.weight"])
    for name, parameter in models[0].items():
        if parameter.ndim == 1:
            assert (parameter == 1).all()
        else:
            expected = 0.02 / 4 if name.endswith("out.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.03)
            assert abs(parameter.mean().item()) < 3 * expected / parameter.numel() ** 0.5 + 1e-9


@pytest.mark.parametrize("causal", [True, False])
def test_autocast_stays_near_float32_and_warns_of_nothing(causal: bool) -> None:
    model, tokens = make_model(init_std=0.1), some_tokens()
    model(tokens, causal=causal).logsumexp(-1).sum().backward()
    exact = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", torch.bfloat16):
            h = model.hidden(tokens, causal=causal)
            logits = model.logits(h)
        logits.float().logsumexp(-1).sum().backward()
    assert h.dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - exact[name]).norm() / exact[name].norm()
        assert error < 0.05, name


def test_long_sequences_and_evaluation_under_autocast_agree_with_float32() -> None:
    model, tokens = make_model(init_std=0.1), some_tokens(1, 1030)
    exact = model.hidden(tokens, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        trained = model.hidden(tokens, causal=True)
        with torch.no_grad():
            evaluated = model.hidden(tokens, causal=True)
    assert (trained - exact).norm() / exact.norm() < 0.03
    assert (evaluated - exact).norm() / exact.norm() < 0.03


def with_compiled_blocks(backend: str, **config: object) -> Transformer:
    torch.compiler.reset()
    counters.clear()
    model = make_model(init_std=0.1, **config)
    for block in model.blocks:
        block.forward = torch.compile(block.forward, backend=backend)  # type: ignore[method-assign]
    return model


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_are_compiled_a_few_times_whatever_rows_come(causal: bool) -> None:
    model = with_compiled_blocks("eager")
    for num_rows in (3, 2, 7, 5, 4):
        for is_trained in (True, False):
            for num_valid in (256,) if causal else (256, 200):
                valid_BL = None if num_valid == 256 else (torch.arange(256) < num_valid).expand(num_rows, -1)
                with torch.set_grad_enabled(is_trained), torch.autocast("cpu", torch.bfloat16):
                    model.hidden(some_tokens(num_rows, 256), causal=causal, valid_BL=valid_BL)
    assert not counters["graph_break"]
    # Two for the first and for other numbers of rows, times with gradient or not, times with padding or not.
    assert counters["stats"]["unique_graphs"] == (4 if causal else 8)


@pytest.mark.slow
@pytest.mark.skipif(_missing_for_compilation(torch.device("cpu")) is not None, reason="there is no compiler here")
@pytest.mark.parametrize("causal", [True, False])
def test_compiled_blocks_agree(causal: bool) -> None:
    plain, compiled = make_model(init_std=0.1), with_compiled_blocks("inductor")
    for num_rows in (2, 1):
        with torch.autocast("cpu", torch.bfloat16):
            states = [model.hidden(some_tokens(num_rows, 256), causal=causal) for model in (plain, compiled)]
        assert (states[1] - states[0]).norm() < 0.02 * states[0].norm()
        gradients = [
            torch.autograd.grad(h.logsumexp(-1).sum(), list(model.blocks.parameters()))
            for h, model in zip(states, (plain, compiled), strict=True)
        ]
        for expected, found in zip(*gradients, strict=True):
            assert (found - expected).norm() < 0.05 * expected.norm()


def test_stochastic_depth_skips_whole_sequences_and_the_last_block_most() -> None:
    model, tokens = make_model(regularization=RegularizationConfig(stochastic_depth=0.5)), some_tokens(2000, 2)
    same: list[Tensor] = []
    for block in model.train().blocks:
        block.register_forward_hook(lambda _, args, out: same.append((args[0] == out[0]).flatten(1).all(1)))
    with torch.no_grad():
        model(tokens, causal=True)
        assert [skipped.float().mean().item() for skipped in same] == pytest.approx([0.25, 0.5], abs=0.04)
        same.clear()
        model.eval()(tokens, causal=True)
    assert not any(skipped.any() for skipped in same)


def test_masked_mlp_outputs_leave_tokens_as_they_were_or_scaled_up() -> None:
    model, tokens = (
        make_model(num_layers=1, regularization=RegularizationConfig(mlp_output_mask=0.25)),
        some_tokens(500),
    )
    block, x_BLD = model.blocks[0], model.embedding(tokens).detach()
    added: list[Tensor] = []
    block.mlp.register_forward_hook(lambda _, args, out: added.append(out))
    arguments = (x_BLD, torch.ones(LENGTH, 4, 2) * torch.tensor([1.0, 0.0]), None, None, True)
    with torch.no_grad():
        plain = block.eval()(*arguments)[0]
        masked = block.train()(*arguments)[0]
    change, expected = masked - plain, added[0]
    dropped = (change + expected).abs().amax(-1) < 1e-4
    kept = (change - expected / 3).abs().amax(-1) < 1e-4
    assert (dropped ^ kept).all()
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.02)
