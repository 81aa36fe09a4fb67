"""A trained model to ask, and helpers that are imported by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crossover.trainers.loop import train
from crossover.trainers.run import AloneRun

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent), str(HERE.parent / "objectives")]


def trained_folder(corpus: Path, folder: Path, **settings: object) -> Path:
    """A run of 10k parameters that has ended."""
    from loop_examples import config

    train(config(corpus, **settings), AloneRun(folder))
    return folder


@pytest.fixture(scope="session")
def trained_ar(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tiny_corpus, tmp_path_factory.mktemp("trained") / "ar")


@pytest.fixture(scope="session")
def trained_mdm(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "mdm"
    return trained_folder(tiny_corpus, folder, objective__name="masked_diffusion")
