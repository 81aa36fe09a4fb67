"""A run that kills itself with SIGKILL: at a commit, before, in the middle or after; for `test_resume.py`.

Arguments: corpus, folder, settings as JSON, number of the commit, instant (shards, best or removal).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import loop_examples as example

from crossover.trainers.commit_files import CommitFiles
from crossover.trainers.loop import train
from crossover.trainers.record_writer import RecordWriter


def die(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(instant: str) -> None:
    """The writer's thread dies while the loop goes on training."""
    replace = Path.replace

    def die_at_a_commit(path: Path, target: Path) -> Path:
        if target.parent.name == "commits":
            die()
        return replace(path, target)

    if instant == "shards":  # the tensors are there, COMMIT.json is not
        CommitFiles._commit = die  # type: ignore[method-assign,assignment]
    elif instant == "best":  # best weights and windows are in place, the commit that needs them is not
        Path.replace = die_at_a_commit  # type: ignore[method-assign,assignment]
    else:  # the commit is in place, what it replaces is too
        CommitFiles._prune = die  # type: ignore[method-assign]


def main() -> None:
    corpus, folder, settings, number, instant = sys.argv[1:]
    commits = iter(range(10**6))
    commit = RecordWriter.commit

    def counted(writer: RecordWriter, *arguments: Any, **keywords: Any) -> None:
        if next(commits) == int(number):
            writer.wait()
            die_at(instant)
        commit(writer, *arguments, **keywords)

    RecordWriter.commit = counted  # type: ignore[method-assign]
    train(example.config(Path(corpus), **json.loads(settings)), example.ScriptedRun(Path(folder)))
    raise SystemExit("it was to be killed and was not")


if __name__ == "__main__":
    main()
