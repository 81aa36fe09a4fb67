from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

from crossover.platform.execution.decisions import (
    AttemptStarted,
    Decision,
    DecisionLog,
    LegEnded,
    LegStarted,
    StopRequested,
    StudyFinished,
    Suggested,
    attempts,
    read_decisions,
)
from crossover.trainers.errors import CrossoverError, RecordError

LINES: list[Decision] = [
    AttemptStarted(pid=1, host="here", versions={"ray": "2"}, resumed=False),
    Suggested(
        trial_id="a",
        number=0,
        stratum={"objective.name": "autoregressive"},
        stratum_label="objective=autoregressive",
        settings={"optimizer.learning_rate": 0.1, "flag": True, "nothing": None},
        repeat=0,
        config_hash="c",
        purpose="search",
    ),
    LegStarted(trial_id="a", leg=1),
    StopRequested(trial_id=None, reason="budget", evidence="all spent"),
    LegEnded(trial_id="a", leg=1, status="failed", error="boom\nwith a line"),
    StudyFinished(reason="done"),
]


def write(study_dir: Path, lines: list[Decision]) -> Path:
    log = DecisionLog(study_dir)
    for line in lines:
        log.append(line)
    log.close()
    return log.path


def test_decisions_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path, LINES)
    assert read_decisions(tmp_path) == LINES
    assert all(line.time.tzinfo == UTC for line in read_decisions(tmp_path))


def test_each_attempt_has_a_file_of_its_own_and_they_are_read_in_order(tmp_path: Path) -> None:
    first, second = write(tmp_path, LINES[:2]), write(tmp_path, LINES[2:])
    assert (first.name, second.name) == ("0001.jsonl", "0002.jsonl")
    assert attempts(tmp_path) == [LINES[:2], LINES[2:]]
    assert read_decisions(tmp_path) == LINES


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_line_torn_by_a_kill_is_left_out_and_the_next_attempt_goes_on(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path, LINES[:3])
    whole = path.read_bytes()
    last_line = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: len(whole) - len(last_line) + kept])
    write(tmp_path, LINES[3:])
    assert read_decisions(tmp_path) == [*LINES[:2], *LINES[3:]]


def test_line_damaged_in_the_middle_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, LINES)
    content = path.read_bytes().splitlines(keepends=True)
    content[1] = b'{"kind": "suggested"}\n'
    path.write_bytes(b"".join(content))
    with pytest.raises(RecordError, match=r"0001\.jsonl, line 2"):
        read_decisions(tmp_path)


def test_two_logs_never_share_a_file(tmp_path: Path) -> None:
    one, other = DecisionLog(tmp_path), DecisionLog(tmp_path)
    assert one.path != other.path


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "decisions").write_text("a file is in the way")
    with pytest.raises(CrossoverError, match="cannot be written"):
        DecisionLog(tmp_path)


def test_disk_that_is_full_is_one_clear_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full to have a full disk")
    (tmp_path / "decisions").mkdir()
    log = DecisionLog(tmp_path)
    import os

    os.dup2(os.open(full, os.O_WRONLY), log._descriptor)
    with pytest.raises(CrossoverError, match=r"No space left|full"):
        log.append(LINES[0])


def test_study_without_decisions_has_none(tmp_path: Path) -> None:
    assert read_decisions(tmp_path) == []
