"""Several workers on this machine, which meet over a file: there is no port to collide on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["run_workers"]

Jobs = Mapping[str, tuple[str, dict[str, Any]]]
_PATIENCE_SECONDS = 240


def run_workers(size: int, jobs: Jobs, folder: Path) -> dict[str, list[Any]]:
    """What each worker found, by job and rank. All jobs are done in one start: loading torch costs more than they do.

    Args:
        size: workers.
        jobs: by name, a task of `parallel_worker.py` and its keywords.
        folder: an empty one.
    """
    (folder / "jobs.json").write_text(json.dumps([(name, *job) for name, job in jobs.items()]))
    script = Path(__file__).with_name("parallel_worker.py")
    commands = [[sys.executable, str(script), str(folder), str(rank), str(size)] for rank in range(size)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
    ]
    try:
        said = [worker.communicate(timeout=_PATIENCE_SECONDS)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    failed = [text for worker, text in zip(workers, said, strict=True) if worker.returncode]
    assert not failed, "\n".join(failed)
    return {name: [json.loads((folder / f"{name}.{r}.json").read_text()) for r in range(size)] for name in jobs}
