"""`python -m crossover.trainers`, as a user has it, and the configuration file it reads."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import loop_examples as example
import pytest
import yaml
from typer.testing import CliRunner

from crossover.trainers.__main__ import app
from crossover.trainers.alone import load_config, run_config
from crossover.trainers.errors import ConfigError, RecordError
from crossover.trainers.record import TrialRecord

pytestmark = pytest.mark.integration

NO_RAY = "import sys, runpy; sys.modules['ray'] = None; sys.modules['crossover.platform'] = None; "
RUN = "sys.argv[0] = 'crossover.trainers'; runpy.run_module('crossover.trainers', run_name='__main__', alter_sys=True)"


def write_config(path: Path, corpus: Path, **settings: object) -> Path:
    """Nested, as a user would write it."""
    path.write_text(yaml.safe_dump(example.config(corpus, **settings).model_dump(exclude_unset=True)))
    return path


@pytest.fixture
def config_file(tiny_corpus: Path, tmp_path: Path) -> Path:
    return write_config(tmp_path / "tiny.yaml", tiny_corpus)


def test_it_runs_without_ray_and_says_a_line_for_each_evaluation(config_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_RAY + RUN, config_file, "--output", tmp_path / "out", "--set", "seed=9"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = TrialRecord(tmp_path / "out").evaluations()
    assert len(lines) == 1 + len(rows) + 1
    assert lines[0] == f"autoregressive on 250 tokens of {example_corpus(config_file)}: {tmp_path / 'out'}"
    assert lines[-1].startswith("completed: all 5 epochs are done; best ")
    facts = TrialRecord(tmp_path / "out").facts()
    assert facts is not None and facts.seed == 9


def example_corpus(config_file: Path) -> str:
    return str(load_config(config_file).data.corpus)


def test_ctrl_c_writes_a_checkpoint_and_the_same_call_goes_on(tiny_corpus: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "long.yaml", tiny_corpus, schedule__epochs=2000)
    out, handler = tmp_path / "out", signal.getsignal(signal.SIGINT)
    first, second = (Console(interrupt_at="epoch"), Console(interrupt_at="epoch"))
    assert run_config(config, out, say=first) == 130
    assert first.lines[2:] == [
        "Ctrl-C: writing a checkpoint; again to stop at once",
        "interrupted: the same command goes on from here",
    ]
    assert signal.getsignal(signal.SIGINT) is handler
    before = TrialRecord(out).evaluations()
    assert run_config(config, out, say=second) == 130
    after = TrialRecord(out).evaluations()
    assert example.bits(after[: len(before)]) == example.bits(before)
    assert len(after) == len(before) + 1, "what was evaluated is not done again"


def test_ctrl_c_twice_stops_at_once_and_the_record_stands(tiny_corpus: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "long.yaml", tiny_corpus, schedule__epochs=2000)
    console = Console(interrupt_at=("epoch", "Ctrl-C"))
    assert run_config(config, tmp_path / "out", say=console) == 130
    assert console.lines[-1] == "stopped at once: the same command goes on from the last checkpoint"
    assert len(TrialRecord(tmp_path / "out").evaluations()) == 1


@dataclass
class Console:
    """Keeps what was said; presses Ctrl-C at lines that begin so."""

    interrupt_at: str | tuple[str, ...]
    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self.interrupt_at):
            signal.raise_signal(signal.SIGINT)


def test_the_same_call_again_changes_nothing_and_says_the_end(config_file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert run_config(config_file, tmp_path / "out", say=lambda line: None) == 0
    assert run_config(config_file, tmp_path / "out", say=said.append) == 0
    assert len(said) == 2
    assert said[1].startswith("completed")


def test_the_folder_is_named_after_the_file(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_config(config_file, overrides=["schedule.epochs=1"], say=lambda line: None)
    assert TrialRecord(tmp_path / "runs" / "tiny").end() is not None
    with pytest.raises(RecordError, match=r"runs/tiny is the record of another trial .*epochs is 1.0 there and 2"):
        run_config(config_file, overrides=["schedule.epochs=2"], say=lambda line: None)


def test_a_folder_with_other_things_is_left_alone(config_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "study.yaml").write_text("mine")
    with pytest.raises(RecordError, match=r"out is no run's folder \(it holds study.yaml\): name a folder"):
        run_config(config_file, out, say=lambda line: None)
    assert [path.name for path in out.iterdir()] == ["study.yaml"]
    with pytest.raises(RecordError, match=r"study.yaml is a file, and a run is recorded in a folder"):
        run_config(config_file, out / "study.yaml", say=lambda line: None)


def test_lines_fit_eighty_columns(config_file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run_config(config_file, tmp_path / "out", say=said.append)
    lines = [line for line in said if line.startswith("epoch") and "over the best" not in line]
    assert lines
    assert max(map(len, lines)) <= 80


def test_a_mistake_is_one_message_and_exit_code_2(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(config_file), "--set", "schedule.epochs=-1"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "schedule.epochs" in done.stderr
    assert "-1" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_settings_may_be_nested_or_dotted_or_both(tmp_path: Path) -> None:
    text = """
    data: {corpus: python-stdlib, unique_tokens: 24_576}
    model.size: 400k
    schedule: {epochs: 3}
    schedule.batch_size: 8
    objective: {name: autoregressive}
    optimizer.learning_rate: 1e-3
    """
    (tmp_path / "a.yaml").write_text(text)
    config = load_config(tmp_path / "a.yaml", ["seed=5", "optimizer.name=muon", "stopping.plateau_evaluations=null"])
    assert (config.data.unique_tokens, config.schedule.batch_size) == (24_576, 8)
    assert config.optimizer.learning_rate == 1e-3
    assert (config.seed, config.optimizer.name) == (5, "muon")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing, but must hold a mapping"),
        ("- a", "holds list, but must hold a mapping"),
        ("data: [", r"bad\.yaml: line 1, column 8: "),
        ("a: 1\na: 2", "line 2, column 1: the key 'a' stands twice"),
        ("data: {seed: 1, seed: 2}", "the key 'seed' stands twice"),
        ("1: 2", "the key 1 is no string"),
        ("? [a, b]\n: 2", "is no string"),
        ("a: &a {b: *a}", "an alias inside what it names"),
        ("a: " + "[" * 3_000, "nested deeper than"),
        ("seed: " + "9" * 5_000, "too large for a whole number"),
        ("seed: 2024-13-45", r"seed: .* valid integer, .*got '2024-13-45'"),
        ("data: {seed: 1}\ndata.seed: 2", r"data\.seed is set twice"),
        ("data: 5\ndata.seed: 2", r"data is set to 5 and data\.seed to 2: set one"),
        ("a: !!python/object/apply:os.system [ls]", "the tag .* is not allowed"),
        ("name: mine\naxes: {}", r"is a study, .*: start it with crossover run"),
        ("data: {corpus: x, unique_tokens: 24k}", r"data\.unique_tokens: .* without a unit \(got '24k'\)"),
        (
            "data: {corpus: x, unique_tokens: 100, sequence_length: 128}",
            r"data\.sequence_length = 128 is more than data\.unique_tokens = 100",
        ),
        ("data: {corpus: x}", r"data\.unique_tokens: Field required"),
        ("lerning_rate: 1", "lerning_rate: there is no such name"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_error(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.decay_fraction=0.5"], r"decay_fraction = 0.5 is for schedule.name: wsd, .* ignore it: remove it"),
        (["schedule.name=cosine", "schedule.decay_fraction=0.5"], "decay_fraction = 0.5 is for schedule.name: wsd"),
        (["schedule.final_fraction=0"], r"final_fraction = 0\.0 is for schedule.name: cosine or wsd"),
        (["evaluation.masks_per_window=8"], "masks_per_window = 8 is for objectives scored by a bound"),
        (["stopping.rule=none", "stopping.patience=5"], "stopping.patience = 5 is for stopping.rule: overfit"),
    ],
)
def test_a_setting_that_the_run_would_ignore_is_one_error(
    overrides: list[str], message: str, config_file: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(config_file, overrides)


def test_defaults_may_be_written_out_and_what_is_read_may_be_set(config_file: Path, tmp_path: Path) -> None:
    whole = load_config(config_file)
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole.model_dump(mode="json")))
    assert load_config(tmp_path / "whole.yaml") == whole
    config = load_config(config_file, ["schedule.name=wsd", "schedule.decay_fraction=0.5", "schedule.final_fraction=0"])
    assert (config.schedule.decay_fraction, config.schedule.final_fraction) == (0.5, 0)


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"corpus: \xff\xfe\xfa")
    for name, message in (("none.yaml", "No such file"), ("latin.yaml", "is not UTF-8"), (".", "Is a directory")):
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / name)


@pytest.mark.parametrize("override", ["seed", "=1", "seed=[", "nothing.like=1", "seed=-1", "seed=2024-13-45"])
def test_an_override_that_sets_nothing_is_one_error(override: str, config_file: Path) -> None:
    with pytest.raises(ConfigError):
        load_config(config_file, [override])
