"""Export to a Hugging Face model folder, which `transformers` loads with equal logits.

Our backbone is Qwen3's, and with experts that of its mixtures where tokens choose them by a softmax: RMSNorm, QK-norm
of each head, rotary embedding, SwiGLU, no biases. Only the rotation differs: ours turns neighbouring channels, theirs
channel c with c + C/2, so the channels of queries and keys, and of their norms, are put in their order. Their head has
a row for every id that is read, ours for those that are predicted: begin and mask, which a model never predicts, get
the row of the least likely token.


Masked diffusion is the same folder read with a mask that hides nothing; README.md in it says how, in code that a test
runs.

Shape suffixes: V vocabulary, D model, C head width, E experts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from crossover.platform.models.export_format import ExportError, register_format
from crossover.platform.models.huggingface_readme import readme
from crossover.platform.models.huggingface_tokenizer import write_tokenizer
from crossover.trainers.trained import TrainedModel

__all__ = ["write_huggingface"]

_PROBE_TOKENS = 256


@register_format("huggingface")
def write_huggingface(trained: TrainedModel, folder: Path) -> None:
    """Writes config.json, model.safetensors, the tokenizer and README.md into `folder`, which is empty.

    Raises:
        ExportError: Qwen3 has no place for a part of this model; the message names it.
    """
    objective = trained.objective
    if not (objective.causal or objective.sees_everything):
        raise _no_place(trained, f"the attention of objective.name = {objective.name}")
    _check_mixture(trained)
    weights = dict(_renamed(trained))
    config = _config(trained)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation(trained))
    write_tokenizer(trained.tokenizer, trained.vocabulary, folder, begins=trained.objective.causal)
    (folder / "README.md").write_text(readme(trained), encoding="utf-8")


def _check_mixture(trained: TrainedModel) -> None:
    mixture = trained.shape.mixture
    if mixture is None:
        return
    refused = (
        ("model.routing = expert_choice", mixture.by_expert),
        (f"model.router_scores = {mixture.scores}", mixture.scores != "softmax"),
        ("model.balancing = bias", mixture.balancing == "bias"),
        (f"model.shared_experts = {mixture.shared_experts}", mixture.shared_experts > 0),
    )
    for setting, is_there in refused:
        if is_there:
            raise _no_place(trained, setting)


def _no_place(trained: TrainedModel, what: str) -> ExportError:
    return ExportError(
        f"a Hugging Face model of type {_model_type(trained)} has no place for {what} of {trained.name}: this model "
        "cannot be exported to it"
    )


def _model_type(trained: TrainedModel) -> str:
    return "qwen3" if trained.shape.mixture is None else "qwen3_moe"


def _renamed(trained: TrainedModel) -> Iterator[tuple[str, Tensor]]:
    head_width = trained.shape.head_width
    parameters = {name: value.detach().float().cpu() for name, value in trained.model.weights().items()}
    for name, value in parameters.items():
        if name == "head.weight" or name.endswith(_TRAINING_ONLY):
            continue
        target = _target(name)
        if target is None:
            raise _no_place(trained, name)
        if target.rsplit(".", 2)[-2] in ("q_proj", "k_proj", "q_norm", "k_norm"):
            value = _halves(value, head_width)
        if value.ndim == 3:
            layer, _, matrix = target.rpartition(".experts.")
            yield from ((f"{layer}.experts.{e}.{matrix}", value[e].contiguous()) for e in range(len(value)))
        else:
            yield target, value.contiguous()
    yield "lm_head.weight", _head(trained, parameters)


def _target(name: str) -> str | None:
    """What Qwen3 calls a parameter; None: it has none like it."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    parts = name.split(".", 2)
    if parts[0] != "blocks" or len(parts) < 3 or parts[2] not in _INSIDE:
        return None
    return f"model.layers.{parts[1]}.{_INSIDE[parts[2]]}"


_TRAINING_ONLY = "mlp.router.load"  # how often experts were chosen: the auxiliary loss reads it
_OUTSIDE = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
_INSIDE = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.out.weight": "mlp.down_proj.weight",
    "mlp.router.weight": "mlp.gate.weight",
    "mlp.gate": "mlp.experts.gate_proj.weight",
    "mlp.up": "mlp.experts.up_proj.weight",
    "mlp.out": "mlp.experts.down_proj.weight",
}


def _halves(value: Tensor, head_width: int) -> Tensor:
    """Even channels of each head first, then odd ones."""
    pairs = value.reshape(-1, head_width // 2, 2, *value.shape[1:])
    return torch.cat([pairs[:, :, 0], pairs[:, :, 1]], dim=1).reshape(value.shape)


def _head(trained: TrainedModel, parameters: Mapping[str, Tensor]) -> Tensor:
    """[input ids, D]: a tied head is written out, for theirs would predict begin and mask too."""
    shape = trained.shape
    weight_VD = parameters.get("head.weight", parameters["embedding.weight"][: shape.num_output_tokens])
    random = torch.Generator().manual_seed(0)
    probe_1L = torch.randint(shape.num_output_tokens, (1, min(_PROBE_TOKENS, trained.context_tokens)), generator=random)
    with torch.no_grad():
        h_1LD = trained.model.hidden(probe_1L.to(trained.model.device), causal=trained.objective.causal)
        least = int(trained.model.logits(h_1LD).float().log_softmax(-1).mean((0, 1)).argmin())
    missing = shape.num_input_tokens - shape.num_output_tokens
    return torch.cat([weight_VD, weight_VD[least : least + 1].expand(missing, -1)]).contiguous()


def _config(trained: TrainedModel) -> dict[str, Any]:
    shape, vocabulary = trained.shape, trained.vocabulary
    return {
        "architectures": ["Qwen3ForCausalLM" if shape.mixture is None else "Qwen3MoeForCausalLM"],
        "model_type": _model_type(trained),
        "vocab_size": shape.num_input_tokens,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": trained.context_tokens,
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "attention_bias": False,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.separator,
        "pad_token_id": vocabulary.separator,
        "dtype": "float32",
        **_mixture(trained),
        "crossover": {
            "objective": trained.objective.name,
            "trial_id": trained.name,
            "num_output_tokens": shape.num_output_tokens,
            "mask_token_id": vocabulary.mask,
        },
    }


def _mixture(trained: TrainedModel) -> dict[str, Any]:
    mixture = trained.shape.mixture
    if mixture is None:
        return {}
    return {
        "num_experts": mixture.num_experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "moe_intermediate_size": mixture.expert_width,
        "norm_topk_prob": mixture.normalize_weights,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(range(mixture.first_dense_layers)),
        "router_aux_loss_coef": mixture.balance_loss,
    }


def _generation(trained: TrainedModel) -> dict[str, Any]:
    vocabulary = trained.vocabulary
    return {
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.separator,
        "pad_token_id": vocabulary.separator,
        "suppress_tokens": [vocabulary.begin, vocabulary.mask],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
