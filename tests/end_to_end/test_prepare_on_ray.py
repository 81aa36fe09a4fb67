"""`crossover data prepare --ray` in a process of its own, with a Ray of its own: it ends, and leaves no process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driven_studies import PATIENCE_SECONDS, Commands, finished

from crossover.trainers.data import prepare_corpus

pytestmark = [pytest.mark.end_to_end, pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def commands() -> Iterator[Commands]:
    started = Commands()
    yield started
    started.kill_everything()


def prepare(commands: Commands, source: Path, output: Path) -> tuple[int, str]:
    """How it ended, once all of its processes have."""
    ended = finished(commands.begin("data", "prepare", source, "--output", output, "--ray", "--workers", 2))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while commands.processes():
        assert time.monotonic() < deadline, "processes of its Ray are left"
        time.sleep(0.2)
    return ended


def test_it_ends_with_a_corpus_or_with_one_message_and_leaves_no_process(commands: Commands, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"text number {number} of {number * number}"}) for number in range(100)]
    source.write_text("\n".join(lines))
    code, said = prepare(commands, source, tmp_path / "corpus")
    assert code == 0, said
    expected = prepare_corpus([source], tmp_path / "here")
    assert said == f"{expected.summary()}\n".replace("corpus here", "corpus corpus")
    lines[50] = '{"text": "cut'
    source.write_text("\n".join(lines))
    code, said = prepare(commands, source, tmp_path / "second")
    assert code == 2
    assert said.startswith("error: ") and "texts.jsonl, line 51, is no JSON" in said
    assert said.count("\n") == 1, said
    assert not (tmp_path / "second").exists()
