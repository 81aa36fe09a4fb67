"""Small trained models."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossover.trainers.config import config_from_dotted
from crossover.trainers.data import prepare_corpus
from crossover.trainers.loop import train
from crossover.trainers.run import AloneRun

_TEXT = "one two three four five six seven eight nine ten "


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not cut."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="session")
def counting_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents that count to ten over and over."""
    folder = tmp_path_factory.mktemp("counting")
    (folder / "text").mkdir()
    for number in range(60):
        (folder / "text" / f"{number}.txt").write_text((_TEXT * 8)[number:])
    fractions = {"training": 0.5, "validation": 0.25, "test": 0.25}
    prepare_corpus([folder / "text"], folder / "corpus", piece_tokens=128, near_duplicates=None, fractions=fractions)
    return folder / "corpus"


def _train(corpus: Path, folder: Path, objective: str, unique_tokens: int = 2000) -> Path:
    settings: dict[str, object] = {
        "data.corpus": str(corpus),
        "data.unique_tokens": unique_tokens,
        "data.sequence_length": 32,
        "model.num_layers": 2,
        "model.width": 64,
        "model.num_kv_heads": 1,
        "model.num_heads": 2,
        "objective.name": objective,
        "schedule.epochs": 12,
        "schedule.batch_size": 8,
        "schedule.warmup_steps": 5,
        "optimizer.learning_rate": 3e-3,
        "optimizer.name": "muon",
        "evaluation.validation_windows": 24,
        "evaluation.test_windows": 24,
        "evaluation.first_epoch": 4,
        "execution.threads": 1,
        "stopping.rule": "none",
    }
    train(config_from_dotted(settings), AloneRun(folder))
    return folder


@pytest.fixture(scope="session")
def counting_ar(counting_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoregressive model that has learned to count, a little."""
    return _train(counting_corpus, tmp_path_factory.mktemp("runs") / "ar", "autoregressive")


@pytest.fixture(scope="session")
def counting_mdm(counting_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by masked diffusion."""
    return _train(counting_corpus, tmp_path_factory.mktemp("runs") / "mdm", "masked_diffusion")


@pytest.fixture(scope="session")
def counting_bpe(counting_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoregressive model of the same text in subwords."""
    folder = tmp_path_factory.mktemp("bpe")
    fractions = {"training": 0.5, "validation": 0.25, "test": 0.25}
    settings = {"piece_tokens": 32, "near_duplicates": None, "fractions": fractions, "tokenizer": "bpe:280"}
    prepare_corpus([counting_corpus.parent / "text"], folder / "corpus", **settings)
    return _train(folder / "corpus", folder / "ar", "autoregressive", unique_tokens=800)
