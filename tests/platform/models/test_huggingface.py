from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from crossover.platform.models.export_format import ExportError, export_checkpoint
from crossover.platform.models.huggingface import write_huggingface
from crossover.trainers.config import ExecutionConfig, ModelConfig
from crossover.trainers.generation import GenerationSettings, generator_of
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives.block_diffusion import BlockDiffusion
from crossover.trainers.trained import TrainedModel, open_model

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[dev]'")

Call = Callable[..., Any]
EXACT = ExecutionConfig(device="cpu", precision="float32", compile="off")


@pytest.fixture(scope="module")
def exported(counting_ar: Path, counting_mdm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name, source in (("ar", counting_ar), ("mdm", counting_mdm)):
        export_checkpoint(source, folder / name, "huggingface")
    return {name: folder / name for name in ("ar", "mdm")}


def some_tokens(trained: TrainedModel) -> torch.Tensor:
    tokens = torch.randint(257, (3, trained.context_tokens), generator=torch.Generator().manual_seed(1))
    tokens[:, 0] = trained.vocabulary.begin if trained.objective.causal else trained.vocabulary.mask
    return tokens


def snippet(folder: Path) -> str:
    match = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert match is not None
    return match[1]


@torch.no_grad()
def test_transformers_gives_equal_logits(exported: dict[str, Path], counting_ar: Path) -> None:
    trained = open_model(counting_ar, EXACT)
    assert trained.shape.num_kv_heads < trained.shape.num_heads
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported["ar"])
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    tokens = some_tokens(trained)
    ours = trained.model(tokens, causal=True)
    torch.testing.assert_close(theirs(tokens).logits[..., :257], ours, rtol=1e-4, atol=1e-4)
    assert float(theirs(tokens).logits.softmax(-1)[..., 257:].max()) < 0.02  # ids that are never predicted


@torch.no_grad()
def test_the_tokenizer_gives_our_ids_and_the_text_back(exported: dict[str, Path]) -> None:
    text = "naïve\t€ \x00 two  spaces\n"
    for name, before in (("ar", [257]), ("mdm", [])):
        tokenizer = transformers.AutoTokenizer.from_pretrained(exported[name])
        ids = tokenizer(text)["input_ids"]
        assert ids == [*before, *text.encode()]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        specials = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.mask_token_id)
        assert specials == (256, 257, 258)


@torch.no_grad()
def test_a_model_of_subwords_gives_equal_logits_by_its_own_tokenizer(counting_bpe: Path, tmp_path: Path) -> None:
    export_checkpoint(counting_bpe, tmp_path / "hf", "huggingface")
    trained = open_model(counting_bpe, EXACT)
    separator, begin, mask = (getattr(trained.vocabulary, name) for name in ("separator", "begin", "mask"))
    assert trained.vocabulary.num_text_tokens == separator == 280
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.mask_token_id) == (separator, begin, mask)
    for text in ("one two three four five six seven eight", "naïve\t€  two\n<|mask|"):
        ids = tokenizer(text)["input_ids"]
        assert ids == [begin, *trained.encode(text)]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        tokens = torch.tensor([ids[: trained.context_tokens]])
        ours = trained.model(tokens, causal=True)
        torch.testing.assert_close(theirs(tokens).logits[..., : separator + 1], ours, rtol=1e-4, atol=1e-4)
    assert len(tokenizer("one two three four")["input_ids"]) < len("one two three four")  # subwords, not bytes


def test_the_snippet_of_a_causal_model_goes_on_as_ours(
    exported: dict[str, Path], counting_ar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported["ar"])
    names: dict[str, Any] = {}
    exec(snippet(exported["ar"]), names)
    trained = open_model(counting_ar, EXACT)
    generator = generator_of("autoregressive", trained.model, trained.vocabulary)
    ours = generator.generate(trained.encode("def "), 1, GenerationSettings(num_tokens=8, temperature=0)).tokens_BN
    assert names["tokens"][0, -8:].tolist() == ours[0].tolist()


def test_the_snippet_of_masked_diffusion_sees_both_sides_and_fills_masks_as_ours(
    exported: dict[str, Path], counting_mdm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported["mdm"])
    names: dict[str, Any] = {}
    with torch.no_grad():
        exec(snippet(exported["mdm"]), names)
        trained = open_model(counting_mdm, EXACT)
        tokens = some_tokens(trained)
        ours = trained.model(tokens, causal=False)
        torch.testing.assert_close(names["predict"](tokens), ours, rtol=1e-4, atol=1e-4)
        causal = names["model"](tokens).logits[..., :257]
        assert not torch.allclose(causal, ours, atol=1e-2)  # what one would get without the mask
    generator = generator_of("masked_diffusion", trained.model, trained.vocabulary)
    made = generator.generate(trained.encode("def "), 1, GenerationSettings(num_tokens=8, temperature=0)).tokens_BN
    assert names["tokens"][0, -8:].tolist() == made[0].tolist()


def test_the_folder_says_what_it_is(exported: dict[str, Path], counting_mdm: Path) -> None:
    config = json.loads((exported["mdm"] / "config.json").read_text())
    assert config["crossover"]["objective"] == "masked_diffusion"
    assert config["crossover"]["trial_id"] == open_model(counting_mdm).name
    assert {path.name for path in exported["mdm"].iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "README.md"),
    }


def other_model(source: Path, **settings: Any) -> TrainedModel:
    """An untrained model of another shape in the place of a trained one."""
    trained = open_model(source, EXACT)
    shape = shape_of(ModelConfig(num_layers=3, width=32, init_std=0.2, **settings), 259, 257)
    torch.manual_seed(0)
    return replace(trained, shape=shape, model=Transformer(shape, trained.config.regularization).eval())


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"tie_embeddings": True}, "Qwen3ForCausalLM"),
        ({"num_experts": 4, "granularity": 2, "mlp_width": 64}, "Qwen3MoeForCausalLM"),
        ({"num_experts": 6, "first_dense_layers": 1, "normalize_weights": False}, "Qwen3MoeForCausalLM"),
        ({"num_experts": 4, "experts_per_token": 2, "balancing": "none"}, "Qwen3MoeForCausalLM"),
    ],
)
def test_tied_heads_and_mixtures_give_equal_logits(
    counting_ar: Path, tmp_path: Path, settings: dict[str, Any], kind: str
) -> None:
    trained = other_model(counting_ar, **settings)
    write_huggingface(trained, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(theirs).__name__ == kind
    tokens = some_tokens(trained)
    ours = trained.model(tokens, causal=True)
    torch.testing.assert_close(theirs(tokens).logits[..., :257], ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"routing": "expert_choice"}, "model.routing = expert_choice"),
        ({"router_scores": "sigmoid"}, "model.router_scores = sigmoid"),
        ({"balancing": "bias"}, "model.balancing = bias"),
        ({"shared_experts": 1, "experts_per_token": 1}, "model.shared_experts = 1"),
    ],
)
def test_a_mixture_that_the_format_has_no_place_for_is_refused(
    counting_ar: Path, tmp_path: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(ExportError, match=f"type qwen3_moe has no place for {re.escape(what)}"):
        write_huggingface(other_model(counting_ar, num_experts=4, **settings), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_that_the_format_has_no_place_for_is_named(counting_ar: Path, tmp_path: Path) -> None:
    trained = open_model(counting_ar, EXACT)
    trained.model.blocks[1].register_parameter("gate_of_tomorrow", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(ExportError, match=r"type qwen3 has no place for blocks\.1\.gate_of_tomorrow"):
        write_huggingface(trained, tmp_path)
    assert not list(tmp_path.iterdir())


def test_attention_in_blocks_is_refused(counting_mdm: Path, tmp_path: Path) -> None:
    trained = replace(open_model(counting_mdm, EXACT), objective=BlockDiffusion(mask=258))
    with pytest.raises(ExportError, match=r"the attention of objective\.name = block_diffusion"):
        write_huggingface(trained, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "gguf"], "--format is gguf, and the formats are huggingface"),
        ([], "is there already: name another folder"),
    ],
)
def test_a_mistake_is_one_message(
    counting_ar: Path, tmp_path: Path, crossover: Call, arguments: list[str], message: str
) -> None:
    done = crossover("export", counting_ar, "--output", tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not list(tmp_path.iterdir())


def test_the_command_says_where_the_folder_is(counting_ar: Path, tmp_path: Path, crossover: Call) -> None:
    done = crossover("export", counting_ar, "--output", tmp_path / "hf")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"autoregressive {open_model(counting_ar).name}: {tmp_path}/hf\n"
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
