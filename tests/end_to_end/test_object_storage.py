"""A study in an object store, as a user meets it: killed, moved to another machine, cut off from the store, read.

The store is moto's S3 server on loopback; the commands are processes of their own. The final table is compared with
that of the same study in a folder, in every column but times, throughput and memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_studies import NOT_COMPARED, PATIENCE_SECONDS, TWO_STRATA, Commands, wait_until, write_study
from s3_server import Store

from crossover.platform.analysis import load_study
from crossover.trainers.storage import ObjectStore

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray, pytest.mark.timeout(900)]


Tables = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strata of two trials that are decided at a rung, on a corpus of made-up words."""
    return write_study(
        tmp_path_factory.mktemp("study"),
        fixed={
            "schedule.epochs": 20,
            "checkpoint.poll_seconds": 0.05,
            "checkpoint.interval_seconds": 0.3,
            "checkpoint.min_interval_seconds": 0.1,
        },
        axes=TWO_STRATA,
        search={"sampler": "random", "trials": 2, "rungs": {"first_epoch": 5, "eta": 2}},
        resources={"cpus_per_worker": 1},
    )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    """Makes machines that have nothing of a study but what they fetch."""
    made: list[Commands] = []

    def make(name: str, **settings: str) -> Commands:
        made.append(Commands(CROSSOVER_CACHE=str(tmp_path / name), **settings))
        return made[-1]

    yield make
    for one in made:
        one.kill_everything()


@pytest.fixture(scope="module")
def undisturbed(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study in a folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = Commands(CROSSOVER_CACHE=str(folder / "cache")).call("run", study_file, "--storage", folder)
    assert code == 0, output
    return folder / "words"


def tables(study: str | Path) -> Tables:
    found = load_study(study)
    return [
        sorted(table.drop_columns([n for n in table.column_names if n in NOT_COMPARED]).to_pylist(), key=str)
        for table in (found.trials, found.evaluations)
    ]


@pytest.fixture
def expected(undisturbed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tables:
    """Tables of the undisturbed study; what is compared with them is read on a machine of its own."""
    monkeypatch.setenv("CROSSOVER_CACHE", str(tmp_path / "reader"))
    return tables(undisturbed)


def num_ended(storage: str) -> int:
    return sum(name.endswith("/end.json") for name in ObjectStore(storage).list())


def test_killed_and_resumed_on_another_machine_it_comes_to_the_same_table(
    store: Store,
    study_file: Path,
    machine: Callable[..., Commands],
    expected: Tables,
    tmp_path: Path,
) -> None:
    store.open()
    storage = store.uri("bucket/killed")
    study = store.uri("bucket/killed/words")
    first = machine("a").begin("run", study_file, "--storage", storage)
    wait_until(lambda: num_ended(storage), first)
    first.kill()
    first.wait()
    code, output = machine("b").call("run", study_file, "--storage", storage, "--report")
    assert code == 0, output
    assert "goes on in 's3://bucket/killed/words?" in output
    assert "report: s3://bucket/killed/words/report.html?" in output
    assert tables(study) == expected
    assert b"<html" in (ObjectStore(study).get("report.html") or b"")
    assert not list(tmp_path.glob("b/studies/*/legs/*")), "a machine keeps no record"
    code, output = machine("c").call("status", study)
    assert (code, "finished: every trial has ended; 2 attempts" in output) == (0, True), output
    code, output = machine("c").call("results", study, "--format", "json")
    assert (code, len(json.loads(output))) == (0, 4)
    code, output = machine("c").call("run", study_file, "--storage", storage)
    assert (code, "is finished" in output) == (0, True), output

    size = sum(file.size for file in ObjectStore(study).list().values())
    code, output = machine("d").call("clean", study, "--json")
    cleaned = json.loads(output)
    assert (code, cleaned["bytes"] > 0) == (0, True), output
    assert size - sum(file.size for file in ObjectStore(study).list().values()) == cleaned["bytes"]
    assert tables(study) == expected
    assert len({name.split("/")[1] for name in ObjectStore(study).list() if "/best/" in name}) == 2, "one a stratum"
    code, output = machine("d").call("clean", study, "--json")
    assert (code, json.loads(output)["removed"]) == (0, []), output


def test_a_minute_without_a_connection_costs_time_only(
    store: Store,
    study_file: Path,
    machine: Callable[..., Commands],
    expected: Tables,
) -> None:
    store.open()
    storage = store.uri("bucket/away")
    driver = machine("a").begin("run", study_file, "--storage", storage)
    wait_until(lambda: any("commits" in name for name in ObjectStore(storage).list()), driver)
    waiting = store.down_for(60.0)
    output, _ = driver.communicate(timeout=PATIENCE_SECONDS)
    waiting.join()
    assert driver.returncode == 0, output
    assert tables(store.uri("bucket/away/words")) == expected


@pytest.mark.parametrize(
    ("answer", "said"), [("expired", "its credentials have expired"), ("throttle", "see whether it is up")]
)
def test_trouble_that_stays_pauses_the_study_with_one_message(
    answer: str,
    said: str,
    store: Store,
    study_file: Path,
    machine: Callable[..., Commands],
    expected: Tables,
) -> None:
    store.open()
    storage = store.uri(f"bucket/{answer}")
    driver = machine("a", CROSSOVER_STORAGE_PATIENCE="3").begin("run", study_file, "--storage", storage)
    wait_until(lambda: any("commits" in name for name in ObjectStore(storage).list()), driver)
    store.gate = lambda number, environ: answer
    output, _ = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 130, output
    assert said in output and "run the same command again" in output
    assert "Traceback" not in output
    store.open()
    code, output = machine("a").call("run", study_file, "--storage", storage)
    assert code == 0, output
    assert tables(store.uri(f"bucket/{answer}/words")) == expected
