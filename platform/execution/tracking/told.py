"""What trackers were told already, so that a study that goes on tells nothing twice.

Kept beside the trackers' own files, in `<study>/tracking/`: who deletes that folder deletes both, and all is told anew.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

__all__ = ["Told"]


class Told:
    """The last step told of each trial, and which ends were.

    Attributes:
        key: eight hexadecimal digits that tell this study's folder from another of the same name.

    Args:
        path: its file; made when it is not there. A line that a kill cut short is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.key = ""
        self._steps: dict[str, int] = {}
        self._ended: set[str] = set()
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        for line in lines:
            self._read(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if lines and lines[-1]:
            self._file.write("\n")
        if not self.key:
            self.key = uuid.uuid4().hex[:8]
            self._write({"key": self.key})

    def step(self, trial_id: str) -> int:
        """Step of the last evaluation that was told; -1 before the first."""
        return self._steps.get(trial_id, -1)

    def ended(self, trial_id: str) -> bool:
        """Whether the trial's end was told."""
        return trial_id in self._ended

    def note_step(self, trial_id: str, step: int) -> None:
        """Evaluations up to this step were told."""
        self._steps[trial_id] = step
        self._write({"trial_id": trial_id, "step": step})

    def note_end(self, trial_id: str) -> None:
        """The end was told."""
        self._ended.add(trial_id)
        self._write({"trial_id": trial_id, "ended": True})

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _read(self, text: str) -> None:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            return
        if "key" in line:
            self.key = line["key"]
        elif "step" in line:
            self._steps[line["trial_id"]] = line["step"]
        elif "ended" in line:
            self._ended.add(line["trial_id"])
