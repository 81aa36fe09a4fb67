"""The command line in this process: exit codes, one-line mistakes, help, and what each command prints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest
from synthetic_study import SyntheticStudy

from crossover.platform.study import study_schema_text

from .conftest import Call, Done, is_one_message

pytestmark = pytest.mark.integration

COMMANDS = (
    "run",
    "simulate",
    "train",
    "status",
    "results",
    "report",
    "figure",
    "dashboard",
    "studies",
    "schema",
    "data prepare",
    "data make-task",
    "data inspect",
    "data verify",
    "evaluate",
    "fit",
    "k8s render",
    "k8s lint",
    "k8s submit",
    "k8s status",
    "submit",
    "jobs list",
    "jobs status",
    "jobs logs",
    "jobs stop",
    "crossings",
    "sample",
    "export",
    "plan",
    "laws",
)


WriteStudy = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made up; nothing but its report is written there."""
    return SyntheticStudy().write(tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of sixty small files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(f"text number {number} " * 20, encoding="utf-8")
    return folder


# --- help and what loads -------------------------------------------------------------------------------------------


def test_every_command_explains_itself(crossover: Call) -> None:
    overview = crossover("--help")
    assert overview.code == 0
    summaries = overview.out.partition("Commands:")[2]
    assert "..." not in summaries, "a summary is cut off"
    for command in COMMANDS:
        assert command.split()[0] in summaries
        done = crossover(*command.split(), "--help")
        assert (done.code, done.err) == (0, "")
        assert f"Usage: crossover {command}" in done.out
        assert max(map(len, done.out.splitlines())) <= 80


def test_version_is_that_of_the_package(crossover: Call) -> None:
    assert crossover("--version") == Done(0, f"crossover {version('crossover')}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "quickstart", "--set", "search.trials=0"]])
def test_help_and_mistakes_wait_for_neither_torch_nor_ray(arguments: list[str]) -> None:
    code = (
        "import sys; from crossover.platform.cli import main\n"
        f"sys.argv = ['crossover', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(str(sorted({'torch', 'ray', 'pyarrow', 'pandas'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["status"], "Missing argument 'DIR'"),
        (["run", "quickstart", "--dry"], "No such option: --dry"),
        (["results", "x", "--table", "foo"], "'trials', 'evaluations'"),
        (["results", "x", "--format", "xls"], "'table', 'csv', 'parquet', 'json'"),
        (["data", "prepare", "x"], "Missing option '--output'"),
        (["data", "prepare", "x", "--output", "y", "--errors", "ignore"], "'strict', 'replace', 'skip'"),
        (["data", "prepare", "x", "--output", "y", "--piece-tokens", "1"], "greater than or equal to 2"),
    ],
)
def test_wrong_usage_names_what_is_allowed(arguments: list[str], says: str, crossover: Call) -> None:
    done = crossover(*arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "quikstart"], "did you mean quickstart"),
        (["run", "nowhere.yaml"], "No such file"),
        (["run", "./empty"], "a folder: give a file"),
        (["run", "quickstart", "--set", "search.trials"], "write key=value"),
        (["run", "quickstart", "--set", "search.trails=3"], "did you mean trials"),
        (["run", "quickstart", "--set", "name=a/b"], "letters, digits"),
        (["run", "quickstart", "--set", "data.corpus=nowhere"], "crossover data prepare"),
        (["submit", "quikstart"], "did you mean quickstart"),
        (["submit", "quickstart", "--address", "127.0.0.1:6379"], "is no URL of a dashboard"),
        (["submit", "quickstart", "--wheel", "x.whl", "--installed"], "give one of them"),
        (["jobs", "list", "--address", "http://127.0.0.1:1"], "nothing answers at http://127.0.0.1:1"),
        (["train", "nowhere.yaml"], "No such file"),
        (["train", "mine.yaml"], "is a study"),
        (["status", "."], "no study's folder"),
        (["results", "."], "no study's folder"),
        (["report", "."], "no study's folder"),
        (["report", ".", "--json"], "no study's folder"),
        (["figure", "crossing", "."], "no study's folder"),
        (["figure", "crosing", "."], "did you mean crossing?"),
        (["figure", "crossing", ".", "--output", "x.gif"], "ends in one of .svg, .png, .pdf, .html"),
        (["data", "prepare", "nowhere", "--output", "out"], "nowhere does not exist"),
        (["data", "prepare", "empty", "--output", "out"], "no text in empty"),
        (["data", "prepare", "latin.txt", "--output", "out"], "latin.txt is no UTF-8 text"),
        (["data", "prepare", "empty.yaml", "--output", "latin.txt"], "latin.txt is a file"),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(
    arguments: list[str], says: str, crossover: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "mine.yaml").write_text("name: a\naxes: {}\n")
    before = sorted(tmp_path.iterdir())
    done = crossover(*arguments)
    assert is_one_message(done), done
    assert says in done.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "this is empty"),
        (b"- a", "this is a list"),
        (b"\xff\xfe\x00\x01", "not UTF-8"),
        (b"name: a\n\tdata: b", "line 2"),
        (b"name: a\nname: b", "stands twice"),
        (b"name: a\n--- \nname: b", "a second document begins here"),
        (b"schema_version: 1", "a study that was started"),
    ],
)
def test_file_that_is_no_study_is_one_message(content: bytes, says: str, crossover: Call, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    done = crossover("run", tmp_path / "a.yaml")
    assert is_one_message(done), done
    assert says in done.err


def test_every_mistake_of_a_study_has_a_line_of_its_own(crossover: Call) -> None:
    done = crossover("run", "quickstart", "--set", "search.trials=0", "--set", "data.seed=-1", "--set", "stopping.z=x")
    assert done.code == 2
    first, *lines = done.err.splitlines()
    assert first == "error: study quickstart has 3 mistakes:"
    assert [line.split(":")[0].strip() for line in lines] == ["- data.seed", "- search.trials", "- stopping.z"]


def test_storage_in_whose_way_a_file_is_is_one_message(
    crossover: Call, tiny_study_file: WriteStudy, tmp_path: Path
) -> None:
    study = tiny_study_file(tmp_path / "a.yaml")
    done = crossover("run", study, "--storage", study)
    assert is_one_message(done), done
    assert "Give another folder with --storage" in done.err


def test_damaged_shard_is_one_message(
    crossover: Call, texts: Path, tiny_study_file: WriteStudy, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    assert crossover("data", "prepare", texts, "--output", corpus).code == 0
    shard = next(corpus.glob("training*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    study = tiny_study_file(tmp_path / "a.yaml")
    done = crossover("run", study, "--storage", tmp_path / "runs", "--set", f"data.corpus={corpus}")
    assert is_one_message(done), done
    assert shard.name in done.err
    assert not (tmp_path / "runs").exists()


# --- what commands do ----------------------------------------------------------------------------------------------


def test_prepare_says_what_it_made_and_what_it_left_out(crossover: Call, texts: Path, tmp_path: Path) -> None:
    (texts / "copy.txt").write_bytes((texts / "1.txt").read_bytes())
    done = crossover("data", "prepare", texts, "--output", tmp_path / "corpus")
    assert done.code == 0
    for expected in ("corpus corpus", "training: ", "validation: ", "test: ", "1 duplicate"):
        assert expected in done.out
    (texts / "latin.txt").write_bytes(b"caf\xe9 " * 9)
    assert is_one_message(crossover("data", "prepare", texts, "--output", tmp_path / "second"))
    replaced = crossover("data", "prepare", texts, "--output", tmp_path / "second", "--errors", "replace")
    assert replaced.code == 0
    assert "9 characters" in replaced.out


def test_studies_and_their_schema_are_listed(crossover: Call) -> None:
    names = [line.split()[0] for line in crossover("studies").out.splitlines()]
    assert {"quickstart", "crossover-cpu"} <= set(names)
    assert crossover("schema").out == study_schema_text()


@pytest.mark.parametrize(("code", "dry_run"), [(0, True), (3, False), (130, False)])
def test_run_hands_over_what_was_asked_and_the_exit_code(
    code: int, dry_run: bool, crossover: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def run_study(study: Any, **options: Any) -> int:
        seen.update(options, trials=study.search.trials)
        return code

    monkeypatch.setattr("crossover.platform.execution.launch.run_study", run_study)
    flags = ["--dry-run"] if dry_run else []
    done = crossover("run", "quickstart", "--set", "search.trials=2", "--storage", "elsewhere", *flags)
    assert done.code == code
    assert seen == {"storage": "elsewhere", "dry_run": dry_run, "trials": 2}


def test_dry_run_says_where_there_is_less_than_was_asked_for(
    crossover: Call, tiny_study_file: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossover.platform.execution.dry_run.measured_flops_per_second", lambda setup: 1e9)
    study = tiny_study_file(tmp_path / "a.yaml", fixed__evaluation__test_windows=1_000_000)
    done = crossover("run", study, "--storage", tmp_path / "runs", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "evaluation.test_windows = 1,000,000, and the corpus has " in done.out
    assert "validation_windows = " not in done.out
    assert done.out.endswith("Nothing was started.\n")
    assert not (tmp_path / "runs").exists()


def test_train_trains_and_the_same_command_changes_nothing(
    crossover: Call, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(
        f"data: {{corpus: {tiny_corpus}, unique_tokens: 1000, sequence_length: 32}}\n"
        "model: {num_layers: 1, width: 32}\nobjective.name: autoregressive\n"
        "evaluation: {validation_windows: 8, test_windows: 8, ratio: 4}\nschedule: {epochs: 2}\n"
    )
    first, again = crossover("train", "one.yaml"), crossover("train", "one.yaml")
    assert (first.code, again.code) == (0, 0)
    assert first.out.splitlines()[-1] == again.out.splitlines()[-1]
    other = crossover("train", "one.yaml", "--set", "schedule.epochs=3")
    assert other.code == 2
    assert "schedule.epochs is 2.0 there and 3.0 here" in other.err


def test_status_and_report_answer_from_the_files(crossover: Call, finished: Path) -> None:
    status = crossover("status", finished)
    assert status.code == 0
    assert "finished: " in status.out
    assert "overfit: +" in status.out
    report = crossover("report", finished)
    assert report.code == 0
    assert report.out.splitlines()[-1] == f"report: {finished / 'report.html'}"
    assert "Same recipe for both" in report.out
    answer = json.loads(crossover("report", finished, "--json").out)
    assert [pair["same_recipe"] for pair in answer["pairs"]] == [True, False]


def test_report_that_cannot_be_written_is_one_message(
    crossover: Call, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "figures")

    monkeypatch.setattr("crossover.platform.analysis.report.write_figures", refuse)
    done = crossover("report", finished)
    assert is_one_message(done), done
    assert "cannot write figures: Permission denied" in done.err


@pytest.mark.parametrize("table", ["trials", "evaluations"])
def test_results_are_the_same_in_every_format(crossover: Call, finished: Path, tmp_path: Path, table: str) -> None:
    def results(*options: object) -> Done:
        done = crossover("results", finished, "--table", table, *options)
        assert (done.code, done.err) == (0, "")
        return done

    rows = json.loads(results("--format", "json").out)
    assert rows
    csv = pa_csv.read_csv(io.BytesIO(results("--format", "csv").out.encode()))
    assert results("--format", "parquet", "--output", tmp_path / "a.parquet").out == ""
    parquet = pa_parquet.read_table(tmp_path / "a.parquet")
    assert csv["trial_id"].to_pylist() == parquet["trial_id"].to_pylist() == [row["trial_id"] for row in rows]
    assert list(rows[0]) == csv.column_names == parquet.column_names
    shown = results().out.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [row["trial_id"] for row in rows]
    results("--output", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").splitlines() == shown


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--format", "parquet"], "name a file with --output"), (["--output", "no/such/folder"], "a folder that exists")],
)
def test_results_that_have_no_place_are_one_message(
    options: list[str], says: str, crossover: Call, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = crossover("results", finished, *options)
    assert is_one_message(done), done
    assert says in done.err


def test_simulate_prints_a_table_and_json_and_refuses_what_it_does_not_know(crossover: Call, tmp_path: Path) -> None:
    small = ("simulate", "quickstart", "--curves", "data_constrained", "--seeds", "2", "--set", "search.trials=4")
    done = crossover(*small, "--against", "cohort_halving")
    assert done.code == 0
    assert "winner stopped" in done.out
    assert "cohort_halving" in done.out
    found = json.loads(crossover(*small, "--json").out)
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1]
    assert found["summaries"][0]["scheduler"] == "none"
    horizon = "axes.averaging.horizon_fraction={choice: [0.0, 0.1], role: nuisance, when: {recipe: tuned}}"
    for arguments, words in (
        (("--curves", "lore"), "no law of that name"),
        (("--curves", tmp_path / "x.csv"), "no law of that name, and no file"),
        (("--curves", "bounded", "--against", "lore"), "no such scheduler"),
        (("--curves", "bounded", "--set", horizon), "horizon_fraction: the law bounded does not know it"),
    ):
        refused = crossover("simulate", "quickstart", *arguments)
        assert refused.code == 2
        assert words in refused.err
        assert "Traceback" not in refused.err
