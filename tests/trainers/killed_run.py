"""A run that kills itself with SIGKILL: at a commit, before, in the middle or after; for `test_resume.py`.

Arguments: corpus, folder, settings as JSON, number of the commit, instant (best, commit or removal).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import loop_examples as example

from crossover.trainers import record_writer
from crossover.trainers.loop import train


def die(*arguments: Any, **keywords: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    corpus, folder, settings, number, instant = sys.argv[1:]
    commits = iter(range(10**6))
    commit = record_writer.RecordWriter.commit

    def counted(writer: record_writer.RecordWriter, *arguments: Any, **keywords: Any) -> None:
        if next(commits) == int(number):
            if instant == "best":  # best weights and windows are there, the commit that needs them is not
                record_writer.RecordWriter._fill_commit = die  # type: ignore[method-assign]
            else:
                record_writer.RecordWriter._prune = die  # type: ignore[method-assign]
        commit(writer, *arguments, **keywords)

    record_writer.RecordWriter.commit = counted  # type: ignore[method-assign]
    train(example.config(Path(corpus), **json.loads(settings)), example.ScriptedRun(Path(folder)))
    raise SystemExit("it was to be killed and was not")


if __name__ == "__main__":
    main()
