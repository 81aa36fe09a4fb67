from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crossover.trainers.data import open_corpus
from crossover.trainers.data.windows import held_out_windows
from crossover.trainers.errors import RecordError
from crossover.trainers.evaluate import score
from crossover.trainers.record import TrialRecord
from crossover.trainers.trained import open_model


def test_a_model_scores_what_its_record_says(tiny_corpus: Path, trained_ar: Path, trained_mdm: Path) -> None:
    for folder in (trained_ar, trained_mdm):
        trained = open_model(folder)
        windows = held_out_windows(open_corpus(str(tiny_corpus)), "validation", trained.context_tokens, 24, 0)
        end = TrialRecord(folder).end()
        assert end is not None
        masks = trained.config.evaluation.masks_per_window
        found = score(trained.model, trained.objective, windows, masks, trained.config.evaluation.seed)
        assert found.loss == pytest.approx(end.best_val_loss, rel=1e-6)
        assert not trained.model.training
        assert not any(p.requires_grad for p in trained.model.parameters())


def test_text_goes_to_tokens_and_back(trained_ar: Path) -> None:
    trained = open_model(trained_ar)
    assert trained.decode([*trained.encode("naïve €"), trained.vocabulary.separator]) == "naïve €"
    assert trained.decode([0xC3]) == "\ufffd"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: None, "there is no checkpoint at"),
        (lambda place: place.mkdir(), "is no checkpoint (there is no trial.json in it)"),
        (lambda place: [(place / "trials").mkdir(parents=True), (place / "study.yaml").touch()], "is a whole study"),
    ],
)
def test_a_folder_without_a_model_is_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(RecordError) as caught:
        open_model(tmp_path / "x")
    assert message in str(caught.value)


def test_a_model_of_another_tokenizer_is_refused(tmp_path: Path, trained_ar: Path) -> None:
    def with_more_tokens(weights: dict[str, torch.Tensor]) -> None:
        weights["embedding.weight"] = torch.cat([weights["embedding.weight"]] * 2)

    with pytest.raises(RecordError, match=r"reads 518 token ids.* has 259 .*trained with another tokenizer"):
        open_model(_altered(trained_ar, tmp_path / "x", with_more_tokens))


def test_weights_of_another_shape_are_refused(tmp_path: Path, trained_ar: Path) -> None:
    def without_a_matrix(weights: dict[str, torch.Tensor]) -> None:
        del weights["blocks.0.mlp.gate.weight"]

    with pytest.raises(RecordError, match=r"not the model that its trial.json describes: blocks.0.mlp.gate.weight"):
        open_model(_altered(trained_ar, tmp_path / "x", without_a_matrix))


def test_damaged_weights_are_refused(tmp_path: Path, trained_ar: Path) -> None:
    shutil.copytree(trained_ar, tmp_path / "x")
    file = TrialRecord(tmp_path / "x").best_weights()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RecordError, match="missing, truncated or altered"):
        open_model(tmp_path / "x")


def _altered(source: Path, target: Path, alter: object) -> Path:
    """A copy whose best weights are others, with a commit that says so."""
    from crossover.trainers.durable import digest_of
    from crossover.trainers.record import Commit

    shutil.copytree(source, target)
    file = TrialRecord(target).best_weights()
    weights = load_file(file)
    alter(weights)  # type: ignore[operator]
    save_file(weights, file)
    for path in (target / "commits").glob("*/COMMIT.json"):
        commit = Commit.model_validate_json(json.loads(path.read_bytes())["commit"])
        needs = dict(commit.needs)
        if (name := str(file.relative_to(target))) in needs:
            needs[name] = digest_of(file)
        path.write_bytes(commit.model_copy(update={"needs": needs}).to_bytes())
    return target
