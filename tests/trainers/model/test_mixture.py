"""Mixtures of experts against other implementations and plain loops, and what they must not depend on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from model_examples import LENGTH, VOCABULARY, make_model, some_tokens
from torch import Tensor
from torch.nn import functional

from crossover.trainers import objectives
from crossover.trainers.config import ModelConfig, RegularizationConfig, config_from_dotted
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.errors import ConfigError
from crossover.trainers.flops import training_flops_per_token
from crossover.trainers.model.grouped import grouped_linear
from crossover.trainers.model.mixture import MixtureOfExperts
from crossover.trainers.model.router import observed_routing
from crossover.trainers.model.shapes import dense_controls, shape_of
from crossover.trainers.model.transformer import Transformer

EIGHT = {"num_experts": 8, "granularity": 2}
BY_EXPERT = EIGHT | {"routing": "expert_choice"}
KINDS: dict[str, dict[str, Any]] = {
    "softmax": EIGHT,
    "one": {"num_experts": 4},
    "sigmoid-bias-shared": EIGHT | {"router_scores": "sigmoid", "balancing": "bias", "shared_experts": 1},
    "first-dense": EIGHT | {"first_dense_layers": 1, "normalize_weights": False},
    "expert-choice": BY_EXPERT,
}


def mixture_in(model: Transformer, layer: int = -1) -> MixtureOfExperts:
    mlp = model.blocks[layer].mlp
    assert isinstance(mlp, MixtureOfExperts)
    return mlp


def expert_output(mixture: MixtureOfExperts, expert: int, x: Tensor) -> Tensor:
    gate, up, out = (getattr(mixture, name)[expert] for name in ("gate", "up", "out"))
    return out @ (functional.silu(gate @ x) * (up @ x))


def reference(mixture: MixtureOfExperts, x_BLD: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    shape, out = mixture.router.mixture, torch.zeros_like(x_BLD)
    logits = x_BLD @ mixture.router.weight.T
    scores = logits.sigmoid() if shape.scores == "sigmoid" else logits.softmax(-1)
    batch, length = x_BLD.shape[:2]
    for b in range(batch):
        if shape.by_expert:
            chosen: list[list[int]] = [[] for _ in range(length)]
            for expert in range(shape.num_experts):
                for place in scores[b, :, expert].topk(shape.capacity(length)).indices.tolist():
                    chosen[place].append(expert)
        else:
            ranked = scores[b] + (mixture.router.bias if shape.balancing == "bias" else 0.0)
            chosen = ranked.topk(shape.experts_per_token, dim=-1).indices.tolist()
        for place, experts in enumerate(chosen):
            weights = scores[b, place, experts]
            weights = weights / weights.sum() if shape.normalize_weights and experts else weights
            for weight, expert in zip(weights, experts, strict=True):
                out[b, place] = out[b, place] + weight * expert_output(mixture, expert, x_BLD[b, place])
    return out if mixture.shared is None else out + mixture.shared(x_BLD)


@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_are_those_of_a_plain_loop(kind: str) -> None:
    model = make_model(**KINDS[kind])
    mixture = mixture_in(model)
    if mixture.router.mixture.balancing == "bias":
        mixture.router.bias.copy_(torch.randn(8, generator=torch.Generator().manual_seed(2)))
    x_BLD = torch.randn(3, LENGTH, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = [x_BLD, *mixture.parameters()]
    found, _ = mixture(x_BLD, None)
    expected = reference(mixture, x_BLD)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    looked_at = torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
    gradients = [torch.autograd.grad((y * looked_at).sum(), weights) for y in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[5, 0, 3, 0], [0, 300, 1, 129], [1200, 40, 0, 7], [0, 0, 0, 0]])
def test_products_of_groups_are_those_of_each_group(counts: list[int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    num_rows = sum(counts) + 3
    x_RI = torch.randn(num_rows, 16, generator=generator).to(dtype).requires_grad_()
    w_EOI = torch.randn(4, 24, 16, generator=generator).requires_grad_()
    dy_RO = torch.randn(num_rows, 24, generator=generator).to(dtype)
    ends_E = torch.tensor(counts).cumsum(0).to(torch.int32)
    num = sum(counts)
    grouped_linear(x_RI, w_EOI, ends_E)[:num].backward(dy_RO[:num])
    found = grouped_linear(x_RI, w_EOI, ends_E)[:num], x_RI.grad[:num], w_EOI.grad
    x, w = x_RI.detach().float().requires_grad_(), w_EOI.detach().to(dtype).float().requires_grad_()
    groups = x[:num].split(counts)
    expected = torch.cat([rows @ matrix.T for rows, matrix in zip(groups, w, strict=True)])
    expected.backward(dy_RO[:num].float())
    tolerance = {"rtol": 2e-2, "atol": 0.3} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-3}
    for one, other in zip(found, (expected, x.grad[:num], w.grad), strict=True):
        torch.testing.assert_close(one.float(), other, **tolerance)


def test_logits_are_those_of_transformers_qwen3_moe() -> None:
    """Token choice with softmax; their rotary embedding pairs the halves of a head, ours neighbours."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = make_model(**EIGHT, num_kv_heads=2, mlp_width=48, first_dense_layers=1)
    shape = model.shape
    theirs = transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(
            vocab_size=VOCABULARY + 2, hidden_size=32, intermediate_size=48, moe_intermediate_size=24,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=8,
            num_experts_per_tok=2, norm_topk_prob=True, mlp_only_layers=[0], decoder_sparse_step=1, rms_norm_eps=1e-6,
            rope_theta=shape.rope_base, tie_word_embeddings=False, attn_implementation="eager", use_cache=False,
            output_router_logits=True,
        )
    ).eval()  # fmt: skip
    halves = torch.tensor([*range(0, 8, 2), *range(1, 8, 2)])
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    state = {"model.embed_tokens.weight": ours["embedding.weight"], "model.norm.weight": ours["norm.weight"]}
    state["lm_head.weight"] = functional.pad(ours["head.weight"], (0, 0, 0, 2))
    for layer in (0, 1):
        at, to = f"blocks.{layer}.", f"model.layers.{layer}."
        state[f"{to}input_layernorm.weight"] = ours[f"{at}attention_norm.weight"]
        state[f"{to}post_attention_layernorm.weight"] = ours[f"{at}mlp_norm.weight"]
        for name, their in (("query", "q"), ("key", "k")):
            rows = ours[f"{at}attention.{name}.weight"].unflatten(0, (-1, 8))[:, halves].flatten(0, 1)
            state[f"{to}self_attn.{their}_proj.weight"] = rows
            state[f"{to}self_attn.{their}_norm.weight"] = ours[f"{at}attention.{name}_norm.weight"][halves]
        for name, their in (("value", "v"), ("out", "o")):
            state[f"{to}self_attn.{their}_proj.weight"] = ours[f"{at}attention.{name}.weight"]
    for name, their in (("gate", "gate"), ("up", "up"), ("out", "down")):
        state[f"model.layers.0.mlp.{their}_proj.weight"] = ours[f"blocks.0.mlp.{name}.weight"]
    state["model.layers.1.mlp.gate.weight"] = ours["blocks.1.mlp.router.weight"]
    both = torch.cat([ours["blocks.1.mlp.gate"], ours["blocks.1.mlp.up"]], dim=1)
    state["model.layers.1.mlp.experts.gate_up_proj"] = both
    state["model.layers.1.mlp.experts.down_proj"] = ours["blocks.1.mlp.out"]
    missing = theirs.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and not missing.missing_keys
    tokens = some_tokens(3)
    with torch.no_grad(), observed_routing(model) as log:
        expected = theirs(input_ids=tokens)
        found = model(tokens, causal=True)
    torch.testing.assert_close(found, expected.logits[..., :VOCABULARY], rtol=1e-4, atol=1e-4)
    router = mixture_in(model).router
    router.rebalance(log.counts[0])
    with observed_routing(model) as log:
        model(tokens, causal=True)
    z_loss = router.mixture.z_loss * expected.router_logits[-1].logsumexp(-1).square().sum()
    found_loss = (log.loss - z_loss) / (tokens.numel() * router.mixture.balance_loss)
    assert found_loss.item() == pytest.approx(expected.aux_loss.item() / 2, rel=1e-5), "theirs sums over k choices"


def test_sigmoid_scores_with_bias_and_shared_experts_are_those_of_transformers_deepseek() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    mixture = mixture_in(make_model(**KINDS["sigmoid-bias-shared"], mlp_width=48, experts_per_token=2))
    theirs = DeepseekV3MoE(
        transformers.DeepseekV3Config(
            hidden_size=32, moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1,
            n_group=1, topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=True,
        )
    )  # fmt: skip
    bias = torch.randn(8, generator=torch.Generator().manual_seed(4))
    mixture.router.bias.copy_(bias)
    ours = {name: parameter.detach() for name, parameter in mixture.named_parameters()}
    shared = {f"shared_experts.{their}_proj.weight": ours[f"shared.{name}.weight"] for name, their in
              (("gate", "gate"), ("up", "up"), ("out", "down"))}  # fmt: skip
    state = shared | {
        "gate.weight": ours["router.weight"], "gate.e_score_correction_bias": bias,
        "experts.gate_up_proj": torch.cat([ours["gate"], ours["up"]], dim=1), "experts.down_proj": ours["out"],
    }  # fmt: skip
    theirs.load_state_dict(state)
    x_BLD = torch.randn(3, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(mixture(x_BLD, None)[0], theirs(x_BLD), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "expert-choice"])
def test_causal_states_do_not_see_what_follows(kind: str) -> None:
    model, tokens = make_model(**KINDS[kind]), some_tokens(1)
    before = model(tokens, causal=True)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        differs = (model(changed, causal=True) - before).abs().amax(-1)[0] > 1e-5
        assert not differs[:position].any()
        assert differs[position:].all()


@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional_states_see_everything_but_padding_and_other_sequences(kind: str) -> None:
    model, tokens = make_model(**KINDS[kind]), some_tokens(2)
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    valid[0, 6:] = False
    before = model(tokens, causal=False, valid_BL=valid)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        differs = (model(changed, causal=False, valid_BL=valid) - before).abs().amax(-1) > 1e-5
        assert differs[0, :6].all() == (position < 6)
        assert differs[0, :6].any() == (position < 6)
        assert not differs[1].any()
    alone = model(tokens[:1, :6], causal=False)
    torch.testing.assert_close(alone, before[:1, :6], rtol=1e-4, atol=1e-4)


def test_an_expert_that_chooses_would_leak_the_future() -> None:
    """Why it is refused: states of a causal model then depend on what follows."""
    model, tokens = make_model(**BY_EXPERT), some_tokens(1)
    before = model(tokens, causal=True)
    leaks = []
    for position in range(1, LENGTH):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        leaks.append(bool(((model(changed, causal=True) - before)[0, :position].abs() > 1e-5).any()))
    assert any(leaks)


def test_expert_choice_with_autoregression_is_refused() -> None:
    settings = {"data.corpus": "none", "data.unique_tokens": 500, "model.size": "1M", "model.sparsity": 4,
                "model.routing": "expert_choice", "schedule.epochs": 1}  # fmt: skip
    for name in objectives.names():
        config = config_from_dotted(settings | {"objective.name": name})
        if objectives.get(name).sees_everything:
            objectives.build(config, BYTES)
        else:
            with pytest.raises(ConfigError, match="would leak the future"):
                objectives.build(config, BYTES)


def test_nothing_is_dropped_where_all_choose_one_expert() -> None:
    mixture = mixture_in(make_model(num_experts=4))
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[2] = 1.0
    x_BLD = torch.rand(3, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    added, routed = mixture(x_BLD, None)
    assert routed.count_E.tolist() == [0, 0, 3 * LENGTH, 0]
    torch.testing.assert_close(added, reference(mixture, x_BLD), rtol=1e-4, atol=1e-4)


def test_expert_dropout_puts_experts_out_of_reach_in_training_only() -> None:
    model = make_model(regularization=RegularizationConfig(expert_dropout=0.5), **EIGHT)
    router, x_BLD = mixture_in(model).router, torch.randn(40, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        best = router(x_BLD, None)[0].expert_NK[:, 0]
        router.train()
        chosen = router(x_BLD, None)[0].expert_NK
        again = router(x_BLD, None)[0].expert_NK
    assert not torch.equal(chosen, again)
    assert all(len(set(row)) == 2 for row in chosen.tolist()), "as many as a token needs are left"
    kept = (chosen == best[:, None]).any(1).double().mean().item()
    assert kept == pytest.approx(0.5, abs=0.08)


def test_a_bias_moves_towards_experts_that_are_chosen_less() -> None:
    router = mixture_in(make_model(num_experts=4, balancing="bias", bias_rate=0.25)).router
    router.rebalance(torch.tensor([8.0, 4.0, 4.0, 0.0]))
    assert router.bias.tolist() == [-0.25, 0.0, 0.0, 0.25]


@pytest.mark.parametrize("balancing", ["loss", "bias", "none"])
def test_balancing_keeps_experts_busy(balancing: str) -> None:
    """From a router that prefers one expert, only a balanced one comes to use the others."""
    router = mixture_in(make_model(num_experts=4, balancing=balancing, bias_rate=0.02, balance_loss=1.0)).router
    x_BLD = 1 + torch.randn(16, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        router.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(2))[0] += 0.05
    optimizer = torch.optim.Adam([router.weight], lr=0.003)
    busiest = []
    for _ in range(80):
        routed = router(x_BLD, None)[1]
        if balancing == "loss":
            optimizer.zero_grad()
            routed.loss.backward()
            optimizer.step()
        router.rebalance(routed.count_E)
        busiest.append((routed.count_E.max() / routed.count_E.mean()).item())
    assert busiest[0] > 3
    assert (min(busiest[-10:]) < 1.6) == (balancing != "none")


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_model(kind: str) -> None:
    shape = shape_of(ModelConfig(num_layers=3, width=64, **KINDS[kind]), 19, 17)
    model = Transformer(shape, RegularizationConfig())
    parameters = dict(model.named_parameters())
    matrices = sum(p.numel() for name, p in parameters.items() if p.ndim >= 2 and name != "embedding.weight")
    assert shape.num_params_total == matrices
    assert shape.num_params_with_embeddings == sum(p.numel() for p in parameters.values())
    assert shape.mixture is not None
    experts = sum(p.numel() for p in parameters.values() if p.ndim == 3)
    unused = experts * (1 - shape.mixture.experts_per_token / shape.mixture.num_experts)
    assert shape.num_params_active == matrices - unused


@pytest.mark.parametrize("kind", ["softmax", "expert-choice"])
def test_flops_are_those_of_the_dense_control_and_the_routers(kind: str) -> None:
    config = ModelConfig(num_layers=3, width=64, **KINDS[kind])
    shape = shape_of(config, 259, 257)
    active = dense_controls(config, 259, 257)["active"]
    objective = objectives.get("masked_diffusion")(mask=258)  # type: ignore[call-arg]
    routers = 3 * 64 * 8
    for length in (64, 256):
        found, dense = (training_flops_per_token(s, objective, length) for s in (shape, active))
        assert found == dense + 6 * routers
    assert shape.mixture is not None
    if kind == "expert-choice":  # 8 experts of capacity 1 see more than 2 experts a token of 3 tokens
        more = 6 * 3 * 3 * 64 * shape.mixture.expert_width * (8 * 1 / 3 - 2)
        dense = training_flops_per_token(active, objective, 3)
        assert training_flops_per_token(shape, objective, 3) == pytest.approx(dense + 6 * routers + more)


def test_capacity_is_the_share_of_the_sequence() -> None:
    mixture = shape_of(ModelConfig(num_layers=1, width=32, **BY_EXPERT), 9, 7).mixture
    assert mixture is not None
    assert [mixture.capacity(length) for length in (1, 2, 6, 16, 128)] == [1, 1, 2, 4, 32]


@pytest.mark.parametrize(
    ("size", "more"), [("400k", {}), ("10M", {}), ("10M", {"granularity": 4, "shared_experts": 1}), ("1B", {})]
)
@pytest.mark.parametrize("sparsity", [2, 8, 64])
def test_size_and_sparsity_take_a_shape_and_two_dense_controls(size: str, sparsity: int, more: dict[str, int]) -> None:
    config = ModelConfig(size=size, sparsity=sparsity, **more)
    try:
        shape = shape_of(config, 259, 257)
    except ConfigError as error:
        assert sparsity == 64 and "routers would be as large" in str(error)
        return
    controls = dense_controls(config, 259, 257)
    assert shape.mixture is not None
    explicit = {"num_layers": shape.num_layers, "width": shape.width, **more}
    ratios = [
        other.num_params_total / other.num_params_active
        for step in (0, -1, 1)
        if (num := shape.mixture.num_experts + step) >= max(2, shape.mixture.experts_per_token)
        for other in [shape_of(ModelConfig(num_experts=num, **explicit), 259, 257)]
    ]
    assert abs(ratios[0] - sparsity) == min(abs(ratio - sparsity) for ratio in ratios)
    assert ratios[0] == shape.num_params_total / shape.num_params_active
    routers = shape.num_mixtures * shape.width * shape.mixture.num_experts
    assert controls["active"].num_params_active == shape.num_params_active - routers
    assert controls["total"].num_params_active == pytest.approx(shape.num_params_total, rel=0.02)
    for name, control in controls.items():
        assert shape_of(config.model_copy(update={"dense_control": name}), 259, 257) == control


def test_sparsity_1_is_dense() -> None:
    assert shape_of(ModelConfig(size="10M", sparsity=1), 259, 257) == shape_of(ModelConfig(size="10M"), 259, 257)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_experts": 4, "experts_per_token": 5}, ["model.experts_per_token is 5", "4 routed experts", "4 or less"]),
        ({"num_experts": 4, "granularity": 3, "mlp_width": 64}, ["model.granularity is 3", "mlp_width = 64", "to 66"]),
        ({"num_experts": 4, "first_dense_layers": 2}, ["model.first_dense_layers is 2", "1 or less"]),
        ({"num_experts": 4, "shared_experts": 1}, ["model.shared_experts is 1", "granularity 1"]),
        ({"dense_control": "total", "sparsity": 1}, ["model.dense_control is total", "this model is dense"]),
        ({"sparsity": 9000, "granularity": 4}, ["model.sparsity is 9000", "routers would be as large"]),
    ],
)
def test_bad_mixtures_name_value_rule_and_remedy(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        shape_of(ModelConfig(num_layers=2, width=64, **config), 259, 257)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["softmax", "expert-choice"])
def test_a_compiled_mixture_gives_the_same(kind: str) -> None:
    from crossover.trainers.device import _missing_for_compilation

    if missing := _missing_for_compilation(torch.device("cpu")):
        pytest.skip(missing)
    model, tokens = make_model(**KINDS[kind]), some_tokens(3)
    expected = model(tokens, causal=False)
    for block in model.blocks:
        block.forward = torch.compile(block.forward)
    found = model(tokens, causal=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    assert all(p.grad is not None and math.isfinite(p.grad.sum()) for p in mixture_in(model).parameters())


@pytest.mark.parametrize("kind", ["softmax", "expert-choice"])
def test_masked_expert_outputs_take_whole_experts_from_tokens(kind: str) -> None:
    model = make_model(regularization=RegularizationConfig(expert_output_mask=0.5), **KINDS[kind])
    mixture, x_BLD = mixture_in(model), torch.randn(200, LENGTH, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain, masked = mixture(x_BLD, None)[0], mixture.train()(x_BLD, None)[0]
    lost = (masked.abs().amax(-1) < 1e-6) & (plain.abs().amax(-1) > 1e-6)
    assert 0.1 < lost.float().mean().item() < 0.5
    if kind == "softmax":
        assert lost.float().mean().item() == pytest.approx(0.25, abs=0.03), "both of two experts"
