"""The trial's record, as it is read: its facts, its rows, the losses behind each row, its end.

A commit is a folder that was renamed into place whole and says the sha256 of every file that it holds or needs
(`COMMIT.json`). The newest valid commit wins, so a reader needs no lock and sees no half of anything while the trial
goes on. For rows only the rows' own digest is checked, which keeps reading cheap; the writer checks all before a trial
goes on (`record_writer.py`).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossover.trainers.durable import Digest
from crossover.trainers.errors import RecordError
from crossover.trainers.rows import SCHEMA_VERSION, Evaluation, TrialEnd, TrialFacts

__all__ = [
    "EVALUATION_SCHEMA",
    "Commit",
    "RecordPaths",
    "TrialRecord",
    "WindowFacts",
    "deciding",
    "decisions_of",
    "evaluations_from_bytes",
    "evaluations_of",
    "evaluations_to_bytes",
    "rows_from_bytes",
]

_log = logging.getLogger(__name__)
_REMEDY = "Restore the trial's folder from a copy, or remove it to train this trial from the start"
_FACTS_NAME, _END_NAME = "trial.json", "end.json"
_RowT = TypeVar("_RowT", bound=BaseModel)
_ARROW_TYPES: dict[type, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
}


@dataclass(frozen=True)
class WindowFacts:
    """What the windows of a split are; every array has one entry a window.

    Args:
        num_tokens: scored tokens, int64.
        num_bytes: bytes of text under them, int64.
        document: number of the document that the window was cut from, int64.
    """

    num_tokens: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    document: NDArray[np.int64]


class _Sealed(BaseModel):
    """A commit as text, and its digest."""

    commit: str
    sha256: str

    @classmethod
    def opened(cls, content: bytes) -> bytes:
        """The commit, once its digest agrees.

        Raises:
            ValueError: it does not, or there is no commit.
        """
        try:
            sealed = cls.model_validate_json(content)
        except ValidationError:
            raise ValueError("no commit in it") from None
        body = sealed.commit.encode()
        if hashlib.sha256(body).hexdigest() != sealed.sha256:
            raise ValueError("its sha256 is another one")
        return body


class _CommitOfRows(BaseModel):
    """What the rows alone need of a commit: its other files are many, and reading 10,000 trials is mostly them."""

    model_config = ConfigDict(extra="ignore")

    class Files(BaseModel):
        """Its files."""

        rows: Digest = Field(alias="evaluations.arrow")

    number: int
    files: Files


class Commit(BaseModel):
    """What `COMMIT.json` says.

    Args:
        number: commits of a trial count upwards.
        files: digests of what is in the commit's folder, by path in it.
        needs: digests of what the commit relies on beside it, by path in the trial's folder.
        best_step: step of the best evaluation, if one was finite.
        has_checkpoint: whether a trial can go on from here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    number: int
    files: dict[str, Digest]
    needs: dict[str, Digest]
    best_step: int | None
    has_checkpoint: bool

    def to_bytes(self) -> bytes:
        """The file's content, which ends in its own digest."""
        body = self.model_dump_json()
        return json.dumps({"commit": body, "sha256": hashlib.sha256(body.encode()).hexdigest()}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Commit:
        """Reads what `to_bytes` wrote.

        Raises:
            ValueError: it is something else.
        """
        return cls.model_validate_json(_Sealed.opened(content))


@dataclass(frozen=True)
class RecordPaths:
    """Where things are in a trial's folder."""

    root: Path

    @property
    def facts(self) -> Path:
        """`TrialFacts`, written once."""
        return self.root / _FACTS_NAME

    @property
    def end(self) -> Path:
        """`TrialEnd`, written once."""
        return self.root / _END_NAME

    @property
    def commits(self) -> Path:
        """One folder a commit."""
        return self.root / "commits"

    @property
    def best(self) -> Path:
        """One folder of averaged weights, of the best evaluation (two while a better one is being committed)."""
        return self.root / "best"

    @property
    def windows(self) -> Path:
        """Losses of the held-out windows."""
        return self.root / "windows"

    @property
    def window_facts(self) -> Path:
        """What the held-out windows are."""
        return self.windows / "facts.npz"

    @property
    def test_windows(self) -> Path:
        """Losses of the test windows."""
        return self.windows / "test.npy"

    def window_nats(self, step: int) -> Path:
        """Losses of the validation windows at the evaluation after `step` steps."""
        return self.windows / f"{step}.npy"

    def best_weights(self, step: int) -> Path:
        """Averaged weights after `step` steps."""
        return self.best / str(step) / "weights.safetensors"

    def commit(self, number: int) -> Path:
        """A commit's folder."""
        return self.commits / str(number)

    def commit_numbers(self) -> list[int]:
        """Numbers of the commits there are, newest first."""
        if not self.commits.is_dir():
            return []
        return sorted((int(path.name) for path in self.commits.iterdir() if path.name.isdecimal()), reverse=True)


@dataclass(frozen=True)
class TrialRecord:
    """Reads a trial's folder, which need not exist yet, while the trial runs or after it."""

    path: Path

    @property
    def paths(self) -> RecordPaths:
        """Where things are in it."""
        return RecordPaths(Path(self.path))

    def facts(self) -> TrialFacts | None:
        """What was known when the trial started; None before that."""
        return _read_json(f"{self.path}/{_FACTS_NAME}", TrialFacts)

    def end(self) -> TrialEnd | None:
        """How the trial ended; None while it has not."""
        return _read_json(f"{self.path}/{_END_NAME}", TrialEnd)

    def evaluations(self) -> list[Evaluation]:
        """The rows of the newest valid commit, oldest first; none before the first commit.

        Raises:
            RecordError: there are commits, and none of them has readable rows.
        """
        newest = self.newest_commit()
        if newest is None:
            return []
        return evaluations_from_bytes(newest[1])

    def rows(self) -> pa.RecordBatch | None:
        """The same rows as they are stored, which is far faster; None before the first commit.

        Raises:
            RecordError: there are commits, and none of them has readable rows.
        """
        content = _newest_rows(f"{self.path}/commits")
        if content is None:
            newest = self.newest_commit()
            content = None if newest is None else newest[1]
        return None if content is None else rows_from_bytes(content)

    def best_step(self) -> int | None:
        """Step of the best evaluation, whose averaged weights are kept; None before a finite one."""
        newest = self.newest_commit()
        return None if newest is None else newest[0].best_step

    def best_weights(self) -> Path:
        """The safetensors file with the averaged weights of the best evaluation, its digest checked.

        Raises:
            RecordError: no evaluation was finite, or the file is damaged.
        """
        newest = self.newest_commit()
        if newest is None or newest[0].best_step is None:
            raise RecordError(f"{self.path} has no best weights: there is no finite evaluation")
        path = self.paths.best_weights(newest[0].best_step)
        if self.end() is not None and not path.parent.exists():
            raise RecordError(
                f"{self.path} has no best weights any more: they were dropped by `crossover clean` or to keep "
                "checkpoints.max_bytes, which keep those of the best configuration of every stratum"
            )
        if not newest[0].needs[str(path.relative_to(self.paths.root))].matches(path):
            raise RecordError(f"{path} is refused: it is missing, truncated or altered")
        return path

    def window_nats(self, step: int) -> NDArray[np.float32]:
        """Nats of every validation window at the evaluation after `step` steps: float32 [W].

        Raises:
            RecordError: there was no such evaluation, or its file is damaged.
        """
        return _read_array(self.paths.window_nats(step))

    def test_window_nats(self) -> NDArray[np.float32] | None:
        """Nats of every test window at the chosen checkpoint: float32 [W]; None before they are scored."""
        return _read_array(self.paths.test_windows) if self.paths.test_windows.exists() else None

    def window_facts(self, split: Literal["validation", "test"]) -> WindowFacts:
        """What the windows of `split` are.

        Raises:
            RecordError: the trial has not started, or the file is damaged.
        """
        try:
            with np.load(self.paths.window_facts, allow_pickle=False) as arrays:
                return WindowFacts(*(arrays[f"{split}_{name}"] for name in ("num_tokens", "num_bytes", "document")))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise _unreadable(self.paths.window_facts, error) from None

    def newest_commit(self) -> tuple[Commit, bytes] | None:
        """The newest commit whose rows are what they were, and these rows' bytes; None before the first commit.

        Raises:
            RecordError: there are commits, and none of them has readable rows.
        """
        tried: set[int] = set()
        while numbers := [number for number in self.paths.commit_numbers() if number not in tried]:
            for number in numbers:  # a running trial may replace what was listed: list again until nothing is new
                try:
                    return self.read_commit(number)
                except RecordError as error:
                    tried.add(number)
                    if self.paths.commit(number).is_dir():
                        _log.warning("%s", error)
        if tried:
            raise RecordError(
                f"no commit under {self.paths.commits} has readable rows (tried {_listed(tried)}): restore the "
                f"folder from a copy, or remove {self.paths.root} to train this trial from the start"
            )
        return None

    def read_commit(self, number: int) -> tuple[Commit, bytes]:
        """Commit `number` and the bytes of its rows.

        Raises:
            RecordError: it is truncated, altered or gone.
        """
        folder = self.paths.commit(number)
        try:
            commit = Commit.from_bytes((folder / "COMMIT.json").read_bytes())
            rows = (folder / "evaluations.arrow").read_bytes()
        except (OSError, ValueError) as error:
            raise RecordError(f"commit {folder} is refused: {error}") from None
        stated = commit.files.get("evaluations.arrow")
        if commit.number != number or stated is None or stated.sha256 != hashlib.sha256(rows).hexdigest():
            raise RecordError(f"commit {folder} is refused: its rows are not the ones that were committed")
        return commit, rows


def evaluations_to_bytes(evaluations: Sequence[Evaluation]) -> bytes:
    """Rows as an Arrow IPC file with `schema_version` in its metadata. None becomes null, NaN stays NaN."""
    columns = list(zip(*map(_CELLS, evaluations), strict=True)) or [()] * len(EVALUATION_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, EVALUATION_SCHEMA, strict=True)]
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, EVALUATION_SCHEMA) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=EVALUATION_SCHEMA))
    return sink.getvalue()


def evaluations_from_bytes(content: bytes) -> list[Evaluation]:
    """What `evaluations_to_bytes` wrote.

    Raises:
        RecordError: it is of another version of the schema.
    """
    return evaluations_of(rows_from_bytes(content))


def rows_from_bytes(content: bytes) -> pa.RecordBatch:
    """The same, as they are stored; columns that came after they were written have their defaults.

    Raises:
        RecordError: they are of another version of the schema.
    """
    if content.startswith(_OWN_START):
        return pa.ipc.read_record_batch(pa.py_buffer(content).slice(len(_OWN_START)), EVALUATION_SCHEMA)
    reader = pa.ipc.open_file(pa.BufferReader(content))
    metadata: Mapping[bytes, bytes] = reader.schema.metadata or {}
    version = metadata.get(b"schema_version", b"0").decode()
    if version != str(SCHEMA_VERSION):
        raise RecordError(f"rows of schema version {version}, and this release reads {SCHEMA_VERSION}")
    rows = reader.get_batch(0)
    return rows if rows.schema.names == EVALUATION_SCHEMA.names else _completed(rows)


def deciding(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that decisions are taken on: of the run itself, or of its annealed branches."""
    decides = rows["decides"]
    return rows if decides.true_count == rows.num_rows else rows.filter(decides)


def decisions_of(rows: pa.RecordBatch | pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`decision_loss` and `decision_value` of stored rows, one for each."""
    by_gap = rows["decision_metric"].to_numpy(zero_copy_only=False) == "task_gap"
    gap = rows["task_gap"].to_numpy(zero_copy_only=False).astype(np.float64)
    losses = [rows[name].to_numpy(zero_copy_only=False) for name in ("val_loss", "val_bits_per_byte")]
    loss, value = (np.where(by_gap & ~np.isnan(gap), -gap, loss) for loss in losses)
    return loss, value


def evaluations_of(rows: pa.RecordBatch | None) -> list[Evaluation]:
    """Stored rows as evaluations."""
    return [] if rows is None else [Evaluation.model_validate(row) for row in rows.to_pylist()]


def _completed(rows: pa.RecordBatch) -> pa.RecordBatch:
    known, fields = set(rows.schema.names), Evaluation.model_fields
    columns = [
        rows[field.name] if field.name in known else pa.array([fields[field.name].default] * rows.num_rows, field.type)
        for field in EVALUATION_SCHEMA
    ]
    return pa.record_batch(columns, schema=EVALUATION_SCHEMA)


def _fields() -> Iterator[pa.Field]:
    for name, annotation in get_type_hints(Evaluation).items():
        if name not in Evaluation.model_fields:
            continue
        nullable = get_origin(annotation) in (Union, types.UnionType)
        base = next(t for t in get_args(annotation) if t is not type(None)) if nullable else annotation
        yield pa.field(name, _ARROW_TYPES[str if get_origin(base) is Literal else base], nullable=nullable)


EVALUATION_SCHEMA: pa.Schema = pa.schema(list(_fields()), metadata={"schema_version": str(SCHEMA_VERSION)})
_CELLS = attrgetter(*EVALUATION_SCHEMA.names)

# An Arrow IPC file is its magic, padded to 8 bytes, the schema and the batches. Rows of this very schema need not have
# it parsed again, which takes more than half of the time of 10,000 trials.
_OWN_START: bytes = b"ARROW1\0\0" + EVALUATION_SCHEMA.serialize().to_pybytes()


def _newest_rows(folder: str) -> bytes | None:
    """The rows of the newest commit, verified as `read_commit` does; None: there is none, or something is wrong.

    Args:
        folder: of the commits. Strings, for paths as objects would double the time.
    """
    try:
        number = max((int(name) for name in os.listdir(folder) if name.isdecimal()), default=None)  # noqa: PTH208
        with open(f"{folder}/{number}/COMMIT.json", "rb") as file:  # noqa: PTH123
            commit = _CommitOfRows.model_validate_json(_Sealed.opened(file.read()))
        with open(f"{folder}/{number}/evaluations.arrow", "rb") as file:  # noqa: PTH123
            content = file.read()
    except (OSError, ValueError):
        return None
    is_its_own = commit.files.rows.sha256 == hashlib.sha256(content).hexdigest() and commit.number == number
    return content if is_its_own else None


def _read_json(path: str, model: type[_RowT]) -> _RowT | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a third of the time
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        try:
            json.loads(content)
        except ValueError as damage:
            raise _unreadable(path, damage) from None
        raise RecordError(
            f"{path} is no {model.__name__} of schema version {SCHEMA_VERSION}: {error.errors()[0]['msg']}. {_REMEDY}"
        ) from None


def _unreadable(path: Path | str, error: Exception) -> RecordError:
    if isinstance(error, OSError) and error.strerror:
        return RecordError(f"{path} cannot be read: {error.strerror}. {_REMEDY}")
    detail = error if isinstance(error, json.JSONDecodeError) else "it is cut off or altered"
    return RecordError(f"{path} cannot be read: {detail}. {_REMEDY}")


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _read_array(path: Path) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from None
    return array
