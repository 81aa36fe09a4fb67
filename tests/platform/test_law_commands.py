"""`crossover fit` and its kin as a user runs them: exit codes, one-line mistakes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .conftest import Call

pytestmark = pytest.mark.integration


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Sixty runs of a Chinchilla law, with columns of other names and one to filter by."""
    generator = np.random.default_rng(0)
    lines = ["params,D,loss,bad"]
    for n in np.geomspace(1e7, 1e9, 6):
        for d in np.geomspace(1e8, 1e11, 10):
            loss = (1.8 + 480 / n**0.35 + 2100 / d**0.37) * np.exp(generator.normal(0, 0.003))
            lines.append(f"{n},{d},{loss},0")
    lines.append("1e8,1e9,30.0,1")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_fit_prints_a_law_and_its_json(crossover: Call, table: Path, tmp_path: Path) -> None:
    options = ("--columns", "N=params", "--where", "bad=0", "--law", "chinchilla", "--draws", 40)
    done = crossover("fit", table, *options)
    assert (done.code, done.err) == (0, "")
    assert "chinchilla law of 60 rows of runs.csv" in done.out
    law = tmp_path / "law.json"
    done = crossover("fit", table, *options, "--json", "--output", law, "--predict", "N=2e9,D=2e11")
    content = json.loads(done.out)
    assert content["parameters"]["alpha"] == pytest.approx(0.35, abs=0.03)
    assert content["num_rows"] == 60
    assert content["predictions"][0]["N"] == 2e9
    assert len(json.loads(law.read_text())["draws"]) == 40
    base = crossover("fit", table, *options, "--base", law, "--json")
    assert json.loads(base.out)["methods"] == dict.fromkeys(("E", "A", "B", "alpha", "beta"), "given")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "column N is missing"),
        (("--columns", "N=params", "--where", "worse=0"), "no column worse"),
        (("--columns", "N=params", "--predict", "N=1e9"), "--predict N=1e9"),
        (("--columns", "N=params", "--predict", "N=1e9,D=1e9,family=mdm"), "mdm is no family"),
        (("--columns", "N=params", "--base", "muennighof-2023"), "did you mean muennighoff-2023?"),
        (("--columns", "N=params", "--base", "prabhudesai-2025"), "is no law"),
        (("--columns", "N=params", "--fix", "alpha=much"), "much is no number"),
        (("--columns", "N=params", "--output", "/nowhere/law.json", "--law", "chinchilla"), "cannot write"),
    ],
)
def test_mistakes_of_fit_are_one_message(crossover: Call, table: Path, options: tuple[str, ...], words: str) -> None:
    done = crossover("fit", table, "--draws", 20, *options)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def two_families(tmp_path: Path) -> Path:
    """Rows of which one family falls slowly and the other fast, three sizes, at one U."""
    lines = ["family,N,D,U,epochs,loss,extra"]
    for n in (1e7, 2e7, 4e7):
        for e in 2.0 ** np.arange(8):
            for family, scale, limit in (("ar", 2000, 8), ("mdm", 2600, 200)):
                seen = 1e8 * min(e, limit)
                lines.append(f"{family},{n},{e * 1e8},1e8,{e},{1.8 + 400 / n**0.35 + scale / seen**0.37},x")
    path = tmp_path / "families.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_crossings_are_printed_and_given_as_json(crossover: Call, two_families: Path) -> None:
    done = crossover("crossings", two_families, "--draws", 20, "--share", "none")
    assert (done.code, done.err) == (0, "")
    assert "mdm below ar, measured, at equal epochs" in done.out
    content = json.loads(crossover("crossings", two_families, "--draws", 20, "--share", "none", "--json").out)
    measured = next(entry for entry in content["crossings"] if entry["kind"] == "measured_equal_epochs")
    assert measured["unique_tokens"] == 1e8
    assert 8 < measured["epochs"] < 32


def test_mistakes_of_crossings_are_one_message(crossover: Call, table: Path, two_families: Path) -> None:
    for arguments, words in (
        ((table, "--columns", "N=params"), "no two families"),
        ((two_families, "--columns", "U=epochs"), "units disagree"),
        ((two_families, "--baseline", "at"), "has no family at; it has ar, mdm"),
        ((two_families, "--law", "chinchila"), "did you mean chinchilla?"),
        ((two_families.parent / "none.csv",), "does not exist"),
    ):
        done = crossover("crossings", *arguments, "--draws", 20)
        assert (done.code, done.out) == (2, ""), arguments
        assert done.err.startswith("error: ")
        assert words in done.err


def test_plan_works_before_the_first_trial(crossover: Call) -> None:
    done = crossover("plan", "--unique-tokens", "100M", "--flops", "1e21")
    assert (done.code, done.err) == (0, "")
    assert "train: masked_diffusion" in done.out
    assert "runner-up: autoregressive" in done.out
    content = json.loads(crossover("plan", "muennighoff-2023", "--unique-tokens", "1B", "--hours", "2",
                                   "--devices", "8", "--device-flops", "4e14", "--json").out)  # fmt: skip
    assert content["flops"] == pytest.approx(2 * 3600 * 8 * 4e14)
    assert content["best"]["objective"] == "autoregressive"
    listed = crossover("laws").out
    assert "quokka-2025" in listed


def test_mistakes_of_plan_and_train_are_one_message(crossover: Call, tmp_path: Path) -> None:
    for arguments, words in (
        (("plan",), "--unique-tokens and --flops"),
        (("plan", "--unique-tokens", "much", "--flops", "1e20"), "--unique-tokens much"),
        (("plan", "quoka-2025", "--unique-tokens", "1M", "--flops", "1e20"), "did you mean quokka-2025?"),
        (("plan", tmp_path), "no study"),
        (("train",), "--recommended STUDY"),
        (("train", "a.yaml", "--recommended", tmp_path), "--recommended STUDY"),
        (("train", "--recommended", tmp_path), "no study's folder"),
    ):
        done = crossover(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert done.err.startswith("error: ")
        assert words in done.err
