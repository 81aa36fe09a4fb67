"""Several workers on gloo: the same numbers as one, shards of everything, and one mind on when to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import loop_examples as example
import parallel_worker as worker
import pytest
import torch
from parallel_examples import run_workers

from crossover.trainers.loop import train
from crossover.trainers.record import TrialRecord
from crossover.trainers.rows import Evaluation

pytestmark = pytest.mark.integration

Results = dict[str, list[Any]]

AR, MDM = {"objective.name": "autoregressive"}, {"objective.name": "masked_diffusion"}
ADAMW, MUON = {"optimizer.name": "adamw"}, {"optimizer.name": "muon"}
TIED = {"model.tie_embeddings": True}
EXPERTS = {"model.num_experts": 5, "model.granularity": 2, "model.balance_loss": 0.5}
BIAS = {"model.balancing": "bias", "model.bias_rate": 0.01, "model.shared_experts": 1}
EXACT = {
    "regularization.dropout": 0.0,
    "model.num_layers": 2,
    "schedule.epochs": 3,
    "evaluation.ratio": 2.5,
    "optimizer.learning_rate": 1e-3,  # at 1e-2 a difference in the last digit grows tenfold every few steps
}

# By name: what the mathematics is, and how several workers compute it.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ar-adamw": (AR | ADAMW, {"execution.micro_batch_size": 1}),
    "ar-muon-tied": (AR | MUON | TIED, {"execution.activation_checkpointing": "full"}),
    "mdm-adamw-tied": (MDM | ADAMW | TIED, {"execution.activation_checkpointing": "selective"}),
    "mdm-muon": (MDM | MUON, {"execution.micro_batch_size": 1}),
    "ar-adamw-experts": (AR | ADAMW | EXPERTS, {"execution.micro_batch_size": 1}),
    "mdm-muon-experts": (MDM | MUON | EXPERTS | BIAS, {"execution.activation_checkpointing": "selective"}),
    "mdm-adamw-choosing": (MDM | ADAMW | EXPERTS | {"model.routing": "expert_choice"}, {}),
}
MASKS = MDM | {"regularization.dropout": 0.0, "model.num_layers": 1}
DROPOUT = AR | {"model.num_layers": 1, "evaluation.ratio": 2.5}
BFLOAT16 = {"execution.precision": "bfloat16"}
STOPPED_AT = 7

# Float32 sums in another order differ in the last digits. Muon rounds the gradient to bfloat16 before it makes it
# orthogonal, so a last digit of float32 becomes one of bfloat16 (0.4 %) in some entries; the update by
# itself is compared exactly.
# Where experts choose, a last digit can change which token is the last one that an expert takes.
TOLERANCE = {"adamw": 2e-5, "muon": 5e-3, "choosing": 1e-3}


def tolerance_of(name: str) -> float:
    return TOLERANCE["choosing" if name.endswith("choosing") else SETTINGS[name][0]["optimizer.name"]]


def rows(folder: Path) -> list[Evaluation]:
    return TrialRecord(folder).evaluations()


def run_alone(corpus: Path, folder: Path, settings: dict[str, Any]) -> Path:
    train(example.config(corpus, **settings), example.ScriptedRun(folder))
    return folder


def assert_same_numbers(folder: Path, expected: Path, tolerance: float, world_size: int) -> None:
    found, wanted = rows(folder), rows(expected)
    assert [row.step for row in found] == [row.step for row in wanted]
    assert found[-1].world_size == world_size
    for name in ("train_loss", "val_loss", "val_loss_se", "grad_norm", "rise_over_best", "val_bits_per_byte"):
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(found, wanted, strict=True)]
        assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=tolerance, abs=tolerance), name
    for name in ("tokens_seen", "epoch", "learning_rate", "train_flops", "eval_flops"):
        assert [getattr(row, name) for row in found] == [getattr(row, name) for row in wanted], name
    ends = [TrialRecord(path).end() for path in (folder, expected)]
    assert ends[0] is not None and ends[1] is not None
    assert ends[0].best_step == ends[1].best_step
    assert ends[0].test_loss == pytest.approx(ends[1].test_loss, rel=tolerance)


@pytest.fixture(scope="module")
def alone(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Records of one worker."""
    folder = tmp_path_factory.mktemp("alone")
    found = {name: run_alone(tiny_corpus, folder / name, EXACT | settings) for name, (settings, _) in SETTINGS.items()}
    return found | {"dropout": run_alone(tiny_corpus, folder / "dropout", DROPOUT)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(tiny_corpus: Path, workplace: Path) -> Results:
    """What two workers find, all in one start."""
    corpus = str(tiny_corpus)

    def job(name: str, settings: dict[str, Any], **more: Any) -> tuple[str, dict[str, Any]]:
        return "train_until", {"corpus": corpus, "directory": str(workplace / name), "settings": settings, **more}

    jobs = {name: job(name, EXACT | settings | how) for name, (settings, how) in SETTINGS.items()}
    jobs |= {
        "words": ("words", {}),
        "mistake": ("mistake", {"rank": 1}),
        "no_mistake": ("mistake", {"rank": 9}),
        "muon": ("muon", {}),
        "clipped": ("clipped", {}),
        "inputs": ("inputs", {"corpus": corpus, "settings": MASKS}),
        "inputs_in_slices": ("inputs", {"corpus": corpus, "settings": MASKS | {"execution.micro_batch_size": 1}}),
        "sizes": ("sizes", {"corpus": corpus, "settings": MASKS | MUON}),
        "final": job("final", DROPOUT, stop=[STOPPED_AT, "budget"]),
        "undisturbed": job("undisturbed", DROPOUT),
        "interrupted": job("interrupted", DROPOUT, stop=[STOPPED_AT, "interrupted"]),
        "resumed": job("interrupted", DROPOUT),
        "left": job("left", EXACT | AR, stop=[STOPPED_AT, "interrupted"]),
        "left_for_four": job("left_for_four", EXACT | MDM, stop=[STOPPED_AT, "interrupted"]),
        "other_batch": job("other_batch", EXACT | AR | {"schedule.batch_size": 3}),
    }
    if any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        jobs["bfloat16"] = job("bfloat16", EXACT | AR | BFLOAT16)
    return run_workers(2, jobs, workplace)


@pytest.mark.parametrize("name", SETTINGS)
def test_two_workers_find_the_numbers_of_one(name: str, two: Results, alone: dict[str, Path], workplace: Path) -> None:
    assert [found["status"] for found in two[name]] == ["ended", "ended"]
    assert_same_numbers(workplace / name, alone[name], tolerance_of(name), world_size=2)


@pytest.mark.parametrize("job", ["inputs", "inputs_in_slices"])
def test_masks_and_order_of_the_data_do_not_depend_on_the_workers(job: str, two: Results, tiny_corpus: Path) -> None:
    expected = worker.inputs(str(tiny_corpus), MASKS)["tokens"]
    passes = len(two[job][0]["tokens"]) // 3
    found = [
        [row for rank in (0, 1) for rows in two[job][rank]["tokens"][step * passes :][:passes] for row in rows]
        for step in range(3)
    ]
    assert found == expected
    assert len({tuple(row) for rows in expected for row in rows}) > 8, "rows differ"


def test_a_sharded_muon_update_is_the_unsharded_one_bit_for_bit(two: Results) -> None:
    assert two["muon"] == [{"equal": [True] * 7}] * 2


def test_each_of_two_workers_holds_little_more_than_half_of_everything(two: Results, tiny_corpus: Path) -> None:
    whole = worker.sizes(str(tiny_corpus), MASKS | MUON)
    for found in two["sizes"]:
        assert found["all_sharded"], "weights that evaluation gathered are let go of"
        for name in ("parameters", "gradients", "optimizer", "averages"):
            assert 0 < found[name] <= 0.55 * whole[name], name


def test_the_norm_that_is_clipped_is_that_of_all_shards(two: Results) -> None:
    expected = {"norm": pytest.approx(160**0.5), "is_plain": True}
    for found in two["clipped"]:
        weight, bias = found.pop("gradients")
        assert found == expected
        assert weight[0] == pytest.approx([12 / 160**0.5, 0.0], rel=1e-4)
        assert bias == pytest.approx([0.0, 0.0, 4 / 160**0.5], rel=1e-4)


def test_a_final_request_that_one_worker_hears_ends_all_at_the_same_step(two: Results, workplace: Path) -> None:
    assert [found["steps"] for found in two["final"]] == [list(range(1, STOPPED_AT + 1))] * 2
    assert two["final"][0]["end"] == two["final"][1]["end"]
    assert two["final"][0]["end"]["stop_reason"] == "budget"
    assert rows(workplace / "final")[-1].step == STOPPED_AT


def test_the_main_worker_alone_asks_and_tells(two: Results) -> None:
    assert two["undisturbed"][0]["told"] > 20
    assert two["undisturbed"][1]["told"] == 0


def test_two_workers_interrupted_and_resumed_repeat_the_undisturbed_losses_bit_for_bit(
    two: Results, workplace: Path
) -> None:
    assert [found["status"] for found in two["interrupted"]] == ["interrupted"] * 2
    assert [found["steps"][0] for found in two["resumed"]] == [STOPPED_AT + 1] * 2
    expected = rows(workplace / "undisturbed")
    assert example.bits(rows(workplace / "interrupted")) == example.bits(expected)
    ends = [TrialRecord(workplace / name).end() for name in ("interrupted", "undisturbed")]
    assert ends[0] is not None and ends[1] is not None
    assert ends[0].test_loss == ends[1].test_loss


def test_dropout_of_one_worker_is_not_that_of_another(two: Results, alone: dict[str, Path], workplace: Path) -> None:
    """Were it, both would drop the same places of different rows, and losses be those of one worker's own masks."""
    assert two["undisturbed"][0]["status"] == "ended"
    found = [row.train_loss for row in rows(workplace / "undisturbed")]
    assert found != pytest.approx([row.train_loss for row in rows(alone["dropout"])], rel=1e-6)


def test_a_run_of_two_workers_goes_on_with_one(
    two: Results, alone: dict[str, Path], workplace: Path, tiny_corpus: Path
) -> None:
    assert two["left"][0]["steps"][-1] == STOPPED_AT
    run_alone(tiny_corpus, workplace / "left", EXACT | AR)
    assert_same_numbers(workplace / "left", alone["ar-adamw"], TOLERANCE["adamw"], world_size=1)


def test_a_mistake_that_one_worker_meets_is_raised_on_all(two: Results) -> None:
    assert two["mistake"] == [{"error": "worker 1 has no such device"}] * 2
    assert two["no_mistake"] == [{"gave": "done"}] * 2


def test_a_batch_that_the_workers_cannot_share_is_refused_before_training(two: Results, workplace: Path) -> None:
    errors = [found["error"] for found in two["other_batch"]]
    assert errors[0] == errors[1]
    assert "schedule.batch_size is 3, which 2 workers cannot share evenly" in errors[0]
    assert not (workplace / "other_batch").exists()


def test_workers_say_to_one_another_what_they_have(two: Results) -> None:
    for rank, found in enumerate(two["words"]):
        assert found["from_main"] == {"rank": 0}
        assert found["flags"] == [True, False]
        assert found["sum"] == [1.0, 2.0]
        assert found["gather"] == [10.0, 11.0]
        assert found["rows"] == [4 * rank, 4 * rank + 4]


def test_two_workers_in_bfloat16_come_close_to_one(tiny_corpus: Path, two: Results, workplace: Path) -> None:
    if "bfloat16" not in two:
        pytest.skip("needs a processor with bfloat16 arithmetic")
    expected = rows(run_alone(tiny_corpus, workplace / "bfloat16-alone", EXACT | AR | BFLOAT16))
    found = rows(workplace / "bfloat16")
    assert {row.precision for row in found} == {"bfloat16"}
    for name in ("train_loss", "val_loss"):
        values = [getattr(row, name) for row in expected]
        assert [getattr(row, name) for row in found] == pytest.approx(values, rel=1e-3), name


@pytest.mark.slow
def test_compiled_and_recomputed_blocks_are_sharded_too(
    alone: dict[str, Path], tiny_corpus: Path, tmp_path: Path
) -> None:
    compiled = {"execution.compile": "on"}
    jobs: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, (settings, how) in list(SETTINGS.items())[:3]:
        keywords = {"directory": str(tmp_path / name), "settings": EXACT | settings | how | compiled}
        jobs[name] = ("train_until", {"corpus": str(tiny_corpus), **keywords})
    found = run_workers(2, jobs, tmp_path)
    if "error" in found["ar-adamw"][0]:
        pytest.skip(found["ar-adamw"][0]["error"])
    for name in jobs:
        assert_same_numbers(tmp_path / name, alone[name], tolerance_of(name), world_size=2)


@pytest.mark.slow
def test_four_workers_find_the_numbers_of_one(
    two: Results, alone: dict[str, Path], workplace: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Also as two replicas of two shards, and a run that two workers began."""
    corpus, jobs, expected = str(tiny_corpus), {}, {}
    for name, (settings, _) in SETTINGS.items():
        for replicas in (1, 2, 4):
            key, how = f"{name}-{replicas}", {"execution.replicas": replicas}
            keywords = {"corpus": corpus, "directory": str(tmp_path / key), "settings": EXACT | settings | how}
            jobs[key], expected[key] = ("train_until", keywords), name
    left = workplace / "left_for_four"
    jobs["left"] = ("train_until", {"corpus": corpus, "directory": str(left), "settings": EXACT | MDM})
    jobs["inputs"] = ("inputs", {"corpus": corpus, "settings": MASKS})
    jobs["muon"] = ("muon", {})
    found = run_workers(4, jobs, tmp_path)
    for key, name in expected.items():
        assert_same_numbers(tmp_path / key, alone[name], tolerance_of(name), world_size=4)
    undisturbed = run_alone(tiny_corpus, tmp_path / "undisturbed", EXACT | MDM)
    assert_same_numbers(left, undisturbed, TOLERANCE["adamw"], world_size=4)
    tokens = worker.inputs(corpus, MASKS)["tokens"]
    assert [[row for r in range(4) for row in found["inputs"][r]["tokens"][step]] for step in range(3)] == tokens
    assert found["muon"] == [{"equal": [True] * 7}] * 4
